package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// newTag returns the command tag.
func newTag(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE TAG…",
		Short: "Give an image in a registry further tags",
		Long: `Give an image or index in a registry further tags in its repository. Nothing is
copied. An existing tag moves. For each tag, repository:tag@digest is printed.`,
		Example: `  mabuild tag ghcr.io/acme/app:v1.2.3 v1.2 v1 latest`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("mabuild tag REPOSITORY:OLD NEW", "tag requires an IMAGE and at least one TAG")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runTag(cmd.Context(), a, args[0], args[1:])
		},
	}
}

// runTag moves the tags one after the other, in the order given.
func runTag(ctx context.Context, a *app, ref string, tags []string) error {
	if err := places.CheckReference(ref); err != nil {
		return err
	}
	at := imageref.Cut(ref)
	for _, tag := range tags {
		if !places.IsTag(tag) {
			way := "a tag has letters, digits, _, . and -"
			switch other := imageref.Cut(tag); {
			case strings.Contains(tag, "/") && other.Repository == at.Repository && other.Tag != "":
				way = "mabuild tag " + ref + " " + other.Tag
			case strings.Contains(tag, "/"):
				way = "mabuild mirror " + ref + " " + tag + " copies to another repository"
			}
			return usage(way, "%q is not a tag", tag)
		}
	}
	for _, tag := range tags {
		to := imageref.Parts{Repository: at.Repository, Tag: tag}.String()
		d, err := manifest.Copy(ctx, a.client, to, a.client, ref)
		if err != nil {
			return missing(err)
		}
		if _, err := fmt.Fprintf(a.stdout, "%s@%s\n", to, d.Digest); err != nil {
			return err
		}
	}
	return nil
}

// newDelete returns the command delete.
func newDelete(a *app) *cobra.Command {
	var dryRun, shared bool
	cmd := &cobra.Command{
		Use:   "delete IMAGE…",
		Short: "Delete images from a registry",
		Long: `Delete the manifests that IMAGE names, and with them all tags that name the same
digest. If there are other tags than the given ones, nothing is deleted unless
--shared is set. An image of an index that stays tagged is never deleted. The registry frees the space when it collects garbage.`,
		Example: `  mabuild delete ghcr.io/acme/app:v1.2.3-rc1 --dry-run`,
		Args:    atLeastOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runDelete(cmd.Context(), a, args, shared, dryRun)
		},
	}
	cmd.Flags().BoolVar(&shared, "shared", false, "Delete images that other tags name as well")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "Print what would be deleted, without doing it")
	return cmd
}

// runDelete checks all images before it deletes the first one.
func runDelete(ctx context.Context, a *app, refs []string, shared, dryRun bool) error {
	images := make([]imageref.Parts, len(refs))
	var errs []error
	for i, ref := range refs {
		at := imageref.Cut(ref)
		if at.Tag == "" && at.Digest == "" {
			errs = append(errs, usage("name a tag or a digest", "%s names a repository, but delete requires an image", ref))
			continue
		}
		if err := places.CheckReference(ref); err != nil {
			errs = append(errs, err)
			continue
		}
		d, err := a.client.Resolve(ctx, ref)
		if err != nil {
			errs = append(errs, missing(err))
			continue
		}
		images[i] = imageref.Parts{Repository: at.Repository, Tag: at.Tag, Digest: d.Digest.String()}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	lines := make([]string, len(images))
	for i, image := range images {
		tags, around, err := a.places().TagsOf(ctx, a.log, image)
		if err != nil {
			return err
		}
		given := func(tag string) bool {
			return slices.ContainsFunc(images, func(o imageref.Parts) bool { return o.Repository == image.Repository && o.Tag == tag })
		}
		others := slices.DeleteFunc(slices.Clone(tags), given)
		// Without the image these tags would name an incomplete index.
		if around = slices.DeleteFunc(around, given); len(around) > 0 {
			errs = append(errs, usage("delete these tags too, or keep the image", "%s is part of the index that is tagged %s", refs[i], strings.Join(around, ", ")))
		}
		if len(others) > 0 && !shared {
			errs = append(errs, usage("add --shared to delete it with all its tags", "%s is also named by %s", refs[i], strings.Join(others, ", ")))
		}
		image.Tag = ""
		lines[i] = image.String() + " (" + strings.Join(tags, ", ") + ")"
		if len(tags) == 0 {
			lines[i] = image.String()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	deleted := map[string]bool{}
	for i, image := range images {
		image.Tag = ""
		if deleted[image.String()] {
			continue
		}
		deleted[image.String()] = true
		if !dryRun {
			if err := a.client.Delete(ctx, image.String()); err != nil {
				if len(deleted) > 1 {
					return hint.PartialError{Err: err}
				}
				return err
			}
		}
		if _, err := fmt.Fprintln(a.stdout, plainLines(lines[i])); err != nil {
			return err
		}
	}
	return nil
}

// newCatalog returns the command catalog.
func newCatalog(a *app) *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "catalog HOST",
		Short: "List the repositories of a registry",
		Long: `List the repositories of a registry, one per line. Many public registries do not
support it, and some list only what you may read.`,
		Example: `  mabuild catalog registry.local:5000`,
		Args:    exactlyOne("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if strings.Contains(args[0], "/") {
				_, bare, _ := strings.Cut("://"+strings.TrimSuffix(args[0], "/"), "://")
				if _, rest, ok := strings.Cut(bare, "://"); ok {
					return usage("mabuild catalog "+rest, "%q has a URL scheme, but a registry is HOST[:PORT]", args[0])
				}
				host, _, _ := strings.Cut(args[0], "/")
				return usage("mabuild catalog "+host+", or mabuild tags "+args[0], "%q is a repository, but catalog requires a registry", args[0])
			}
			list, err := a.client.Repositories(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			slices.Sort(list)
			if limit > 0 && limit < len(list) {
				list = list[:limit]
			}
			if asJSON {
				return writeJSON(a.stdout, struct {
					Host         string   `json:"host"`
					Repositories []string `json:"repositories"`
				}{args[0], append([]string{}, list...)})
			}
			for _, repo := range list {
				if _, err := fmt.Fprintln(a.stdout, plainLines(args[0]+"/"+repo)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	bindJSON(cmd.Flags(), &asJSON, "Print a JSON object with host and repositories")
	bindLimit(cmd, &limit, "Print only the first `N` repositories")
	return cmd
}
