package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/manifest"
)

func newTags(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "tags REPOSITORY",
		Aliases: []string{"ls"},
		Short:   "List the tags of a repository, the newest version last",
		Long: `List the tags of a repository, one a line: what is no version first, as people
sort it (v9 before v10), then the versions. All pages are read.`,
		Example: `  mabuild tags quay.io/coreos/flannel
  mabuild tags --json ghcr.io/acme/app`,
		Args: exactlyOne("REPOSITORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runTags(cmd.Context(), a, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object with repository and tags")
	return cmd
}

func runTags(ctx context.Context, a *app, repo string, asJSON bool) error {
	if err := checkRepository(repo); err != nil {
		return err
	}
	if at := strings.LastIndexAny(repo, ":@"); at > strings.LastIndex(repo, "/") && strings.Contains(repo, "/") {
		return usage("mabuild tags "+withoutTag(repo[:at]), "%q names one image: tags wants a repository", repo)
	}
	tags, err := a.client.Tags(ctx, repo)
	if errors.Is(err, manifest.ErrNotFound) {
		return &usageError{err: err, way: "is the name right?"}
	}
	if err != nil {
		return err
	}
	tags = mirror.ValidTags(ctx, a.log, repo, tags)
	mirror.SortTags(tags)
	if asJSON {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Repository string   `json:"repository"`
			Tags       []string `json:"tags"`
		}{repo, append([]string{}, tags...)})
	}
	for _, tag := range tags {
		if _, err := fmt.Fprintln(a.stdout, plainLines(tag)); err != nil {
			return err
		}
	}
	return nil
}
