package main

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// An editor has the flags of the commands that change an index. The result is written to
// the same tag, or to the one of --tag.
type editor struct {
	*indexWriter
	tag string
}

// newEditor returns an editor for the registry connection of l.
func newEditor(l *targetLogin) *editor { return &editor{indexWriter: &indexWriter{login: l}} }

// bind adds the flags.
func (e *editor) bind(f *pflag.FlagSet) {
	e.indexWriter.bind(f)
	f.StringVarP(&e.tag, "tag", "t", "", "Write to this `TAG` or repository:tag instead of INDEX")
}

// target returns the reference to which the changed index of ref is written.
func (e *editor) target(ref string) string {
	switch {
	case e.tag == "":
		return ref
	case places.HasRepository(e.tag):
		return e.tag
	}
	return places.WithTag(ref, e.tag)
}

// edit reads the index ref, changes it as the assembly says, and writes it. It prints the
// digest of the previous index if the tag moved, with a command that restores it. There
// is no lock in a registry: if two users edit a tag at once, the last one wins.
func (e *editor) edit(ctx context.Context, a *app, ref string, as manifest.Assembly) error {
	c, err := a.places().Get(ctx, ref)
	if errors.Is(err, manifest.ErrNotFound) {
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: "mabuild manifest create " + ref + " SOURCE… makes an index; " + hintOf(missing(err))}
	}
	if err != nil {
		return err
	}
	idx, ok := c.(v1.ImageIndex)
	if !ok {
		return usage("create an index of images with mabuild manifest create", "%s is an image, not an index", ref)
	}
	old, err := idx.Digest()
	if err != nil {
		return err
	}
	// Entries and annotations of Base stay unless the assembly changes them.
	as.Base = idx
	made, err := as.Create(ctx, a.places())
	if err != nil {
		return err
	}
	target := e.target(ref)
	if err := e.write(ctx, a, made, target); err != nil || e.dryRun {
		return err
	}
	if target != ref { // which still names the previous index
		return nil
	}
	return a.printPrevious(ref, old, made)
}

// printPrevious prints the digest of what a tag named before it was moved to made, with a command
// that restores it.
func (a *app) printPrevious(ref string, old v1.Hash, made v1.ImageIndex) error {
	is, err := made.Digest()
	if err != nil || is == old || old == (v1.Hash{}) {
		return err
	}
	at, err := places.Parse(ref)
	if err != nil {
		return err
	}
	was := at.ByDigest(old)
	_, err = fmt.Fprintf(a.stderr, "previous digest: %s; to restore it: mabuild manifest create %s %s\n", was, ref, was)
	return err
}

// newManifestAdd returns manifest add.
func newManifestAdd(a *app, l *targetLogin) *cobra.Command {
	e, r := newEditor(l), &sourceReader{}
	var replace bool
	cmd := &cobra.Command{
		Use:     "add INDEX SOURCE[=PLATFORM]…",
		Short:   "Add images to an index",
		Long:    "Add images to an index. Sources are written as for mabuild manifest create. The\nprevious digest is printed, so that you can restore the index.",
		Example: "  mabuild manifest add acme/app:v1 acme/app-riscv64:v1\n  mabuild manifest add --replace acme/app:v1 acme/app-arm64:v1.0.1",
		Args:    indexAnd("at least one SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			as := manifest.Assembly{Replace: replace}
			if err := errors.Join(e.begin(a, cmd, e.target(args[0])), e.fill(a, &as), r.fill(&as), assembly.AddItems(&as, args[1:])); err != nil {
				return err
			}
			if r.referrers {
				e.sources = as.Items
			}
			return e.edit(cmd.Context(), a, args[0], as)
		},
	}
	alike(cmd.Flags(), map[string]string{"platforms": "select", "platform": "select"})
	e.bind(cmd.Flags())
	r.bind(cmd.Flags(), "")
	cmd.Flags().Lookup("select").Usage = "Add only these `PLATFORMS` of the sources (also --platforms)"
	cmd.Flags().BoolVar(&replace, "replace", false, "Replace an image of the same platform")
	return cmd
}

// newManifestRemove returns manifest remove.
func newManifestRemove(a *app, l *targetLogin) *cobra.Command {
	e := newEditor(l)
	cmd := &cobra.Command{
		Use:     "remove INDEX PLATFORM|DIGEST…",
		Aliases: []string{"rm"},
		Short:   "Remove images and their attestations from an index",
		Example: "  mabuild manifest remove acme/app:v1 linux/s390x",
		Args:    indexAnd("at least one PLATFORM or DIGEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			as := manifest.Assembly{}
			if err := errors.Join(e.begin(a, cmd, e.target(args[0])), e.fill(a, &as), assembly.AddRemovals(&as, args[1:])); err != nil {
				return err
			}
			return e.edit(cmd.Context(), a, args[0], as)
		},
	}
	e.bind(cmd.Flags())
	return cmd
}

// newManifestAnnotate returns manifest annotate.
func newManifestAnnotate(a *app, l *targetLogin) *cobra.Command {
	e := newEditor(l)
	cmd := &cobra.Command{
		Use:     "annotate INDEX --annotation [PLATFORM:]KEY=VALUE",
		Short:   "Change the annotations of an index",
		Example: "  mabuild manifest annotate acme/app:v1 --annotation org.opencontainers.image.vendor=Acme\n  mabuild manifest annotate acme/app:v1 --annotation linux/arm64:com.example.tested=yes",
		Args:    exactlyOne("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			as := manifest.Assembly{}
			if len(e.annotations)+len(e.unset) == 0 {
				return usage(cmd.UseLine(), "%s requires --annotation or --remove-annotation", commandName(cmd))
			}
			if err := errors.Join(e.begin(a, cmd, e.target(args[0])), e.fill(a, &as)); err != nil {
				return err
			}
			return e.edit(cmd.Context(), a, args[0], as)
		},
	}
	e.bind(cmd.Flags())
	cmd.Flags().StringArrayVar(&e.unset, "remove-annotation", nil, "Remove `[PLATFORM:]KEY`; repeatable")
	return cmd
}

// indexAnd requires INDEX and at least one more argument.
func indexAnd(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usage(cmd.UseLine(), "%s requires INDEX and %s", commandName(cmd), what)
		}
		return nil
	}
}
