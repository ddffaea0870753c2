package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/versions"
	"github.com/mabuild/mabuild/manifest"
)

// newTags returns the command tags.
func newTags(a *app) *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:     "tags REPOSITORY",
		Aliases: []string{"ls"},
		Short:   "List the tags of a repository, newest version last",
		Long: `List all tags of a repository, one per line: first the tags that are not versions,
in natural order (v9 before v10), then the versions.`,
		Example: `  mabuild tags quay.io/coreos/flannel
  mabuild tags --json ghcr.io/acme/app`,
		Args: exactlyOne("REPOSITORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runTags(cmd.Context(), a, args[0], limit, asJSON)
		},
	}
	bindJSON(cmd.Flags(), &asJSON, "Print a JSON object with repository and tags")
	bindLimit(cmd, &limit, "Print only the last `N` tags, which are the newest versions")
	return cmd
}

// bindLimit adds --limit, which must not be negative.
func bindLimit(cmd *cobra.Command, limit *int, text string) {
	cmd.Flags().IntVar(limit, "limit", 0, text)
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 || *limit == 0 && cmd.Flags().Changed("limit") {
			return usage("omit it to print all", "--limit must be at least 1")
		}
		return run(cmd, args)
	}
}

// runTags prints the tags of a repository. Registries list tags in any order and some
// return invalid ones, so they are filtered and sorted; the newest version is last, where
// a terminal shows it. Tags are escaped, and an unknown repository is a usage error.
func runTags(ctx context.Context, a *app, repo string, limit int, asJSON bool) error {
	if err := places.CheckRepository(repo); err != nil {
		return err
	}
	if host, _, _ := strings.Cut(repo, "@"); !strings.Contains(repo, "/") && (imageref.Parts{Repository: host + "/x"}).Named() && !strings.Contains(host, "@") {
		if name, tag, ok := strings.Cut(host, ":"); !ok || strings.Trim(tag, "0123456789") == "" && (strings.Contains(name, ".") || name == "localhost") {
			return usage("mabuild tags "+host+"/NAME; mabuild catalog "+host+" lists the repositories", "%q is a registry, but tags requires a repository", repo)
		}
	}
	// A colon before the last slash belongs to the port of a registry. A text without a
	// slash may be a host with a port, so it is left to the registry's answer.
	if at := strings.LastIndexAny(repo, ":@"); at > strings.LastIndex(repo, "/") && strings.Contains(repo, "/") {
		return usage("mabuild tags "+imageref.Cut(repo[:at]).Repository, "%q is an image, but tags requires a repository", repo)
	}
	tags, err := a.client.Tags(ctx, repo)
	if errors.Is(err, manifest.ErrNotFound) {
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: "check the name"}
	}
	if err != nil {
		return err
	}
	// Invalid tags are dropped with a warning, as mirror does.
	tags = places.ValidTags(ctx, a.log, repo, tags)
	versions.Sort(tags)
	if limit > 0 && limit < len(tags) {
		tags = tags[len(tags)-limit:]
	}
	if asJSON {
		return writeJSON(a.stdout, struct {
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
