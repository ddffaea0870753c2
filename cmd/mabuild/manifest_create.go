package main

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A sourceReader has the flags for reading the images of an index.
type sourceReader struct {
	selected                            []string
	allowMismatch, trust, ignoreMissing bool
	referrers                           bool
}

// bind adds the flags. also is appended to the description of --select, for its other
// names.
func (r *sourceReader) bind(f *pflag.FlagSet, also string) {
	f.StringSliceVar(&r.selected, "select", nil, "Keep only these `PLATFORMS`"+also)
	f.BoolVar(&r.allowMismatch, "allow-mismatch", false, "Warn if an image's config contradicts the declared platform, and use the declared one")
	f.BoolVar(&r.trust, "trust-platforms", false, "Use declared platforms without reading the images, to save requests")
	f.BoolVar(&r.referrers, "referrers", false, "Also copy the referrers of the images: signatures, SBOMs and provenance")
	f.BoolVar(&r.ignoreMissing, "ignore-missing", false, "Omit images that do not exist, with a warning")
}

// fill sets the fields of the assembly.
func (r *sourceReader) fill(as *manifest.Assembly) (err error) {
	as.AllowMismatch, as.TrustPlatforms, as.IgnoreMissing = r.allowMismatch, r.trust, r.ignoreMissing
	if len(r.selected) > 0 {
		as.Select, err = platform.ParseList(r.selected)
	}
	return err
}

// newManifestCreate returns manifest create.
func newManifestCreate(a *app, l *targetLogin) *cobra.Command {
	w, r := &indexWriter{login: l}, &sourceReader{}
	cmd := &cobra.Command{
		Use:   "create TARGET SOURCE[=PLATFORM]…",
		Short: "Create an index of existing images in any registry",
		Long: `Create an index named TARGET of existing images. A source is an image by tag or
digest in any repository of any registry, or oci:DIR. Content that TARGET's
repository lacks is mounted if possible, else copied.

The platform of a source is read from its config; SOURCE=linux/arm/v6 declares
another one. If a source is an index, all its images are added, with their
attestations. If one index is the only source and nothing changes, it keeps its
digest.`,
		Example: `  mabuild manifest create acme/app:v1 acme/app-amd64:v1 acme/app-arm64:v1
  mabuild manifest create acme/app:v1 quay.io/x/app:v1-arm=linux/arm/v6 ghcr.io/y/app@sha256:…
  mabuild manifest create acme/app:small acme/app:v1 --select linux/amd64,linux/arm64`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage(cmd.UseLine(), "%s requires TARGET and at least one SOURCE", commandName(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			as := manifest.Assembly{}
			if err := errors.Join(w.begin(a, cmd, args[0]), w.fill(a, &as), r.fill(&as), assembly.AddItems(&as, args[1:])); err != nil {
				return err
			}
			return runAssemble(cmd.Context(), a, w, r, as, args[0])
		},
	}
	alike(cmd.Flags(), map[string]string{"platforms": "select", "platform": "select", "tag": "also-tag"})
	w.bind(cmd.Flags())
	r.bind(cmd.Flags(), " (also --platforms)")
	cmd.Flags().Lookup("also-tag").Usage += " (also --tag)"
	return cmd
}

// runAssemble creates the index and writes it to target. Nothing is written before all
// sources have been read and checked.
func runAssemble(ctx context.Context, a *app, w *indexWriter, r *sourceReader, as manifest.Assembly, target string) error {
	if r.referrers {
		w.sources = as.Items
	}
	idx, err := as.Create(ctx, a.places())
	if err != nil {
		return err
	}
	// The client asks once in a run what a tag names, so this costs no request.
	was, err := a.places().Resolve(ctx, target)
	if err != nil {
		was.Digest = v1.Hash{} // there is nothing to restore, or the write says what is wrong
	}
	if err := w.write(ctx, a, idx, target); err != nil || w.dryRun {
		return err
	}
	return a.printPrevious(target, was.Digest, idx)
}
