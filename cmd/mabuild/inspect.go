package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/manifest"
)

type inspectOptions struct {
	json, raw, digest bool
}

func newInspect(a *app) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:     "inspect IMAGE…",
		Aliases: []string{"mquery"},
		Short:   "Say which platforms an image runs on",
		Example: "  mabuild inspect alpine:3.22\n  mabuild inspect --json oci:./layout",
		Args:    atLeastOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runInspect(cmd.Context(), a, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print a JSON report")
	f.BoolVar(&o.raw, "raw", false, "print the manifest's exact bytes")
	f.BoolVar(&o.digest, "digest", false, "print the digest alone")
	cmd.MarkFlagsMutuallyExclusive("json", "raw", "digest")
	return cmd
}

func runInspect(ctx context.Context, a *app, o inspectOptions, refs []string) error {
	var errs []error
	whole := 0
	for _, ref := range refs {
		if err := inspect(ctx, a, o, ref); err != nil {
			errs = append(errs, missing(err))
			continue
		}
		whole++
	}
	err := errors.Join(errs...)
	if err != nil && whole > 0 {
		return partly{err}
	}
	return err
}

// missing makes an image that does not exist a mistake of the person's.
func missing(err error) error {
	if errors.Is(err, manifest.ErrNotFound) {
		return &usageError{err: err, way: "is the name right, and the tag?"}
	}
	return err
}

func inspect(ctx context.Context, a *app, o inspectOptions, ref string) error {
	source, name, err := a.source(ref)
	if err != nil {
		return err
	}
	switch {
	case o.digest:
		d, err := source.Resolve(ctx, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.stdout, d.Digest)
		return err
	case o.raw:
		c, err := source.Get(ctx, name)
		if err != nil {
			return err
		}
		raw, err := c.RawManifest()
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(raw)
		return err
	}
	r, err := manifest.Inspect(ctx, source, name)
	if err != nil {
		return err
	}
	r.Ref = ref
	if o.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return printReport(a.stdout, r)
}

// printReport prints a report in mquery's shape.
func printReport(w io.Writer, r *manifest.Report) error {
	list := "No"
	if r.Index {
		list = "Yes"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Image: %s (digest: %s)\n", r.Ref, r.Digest)
	fmt.Fprintf(&b, " * Manifest List: %s (Image type: %s)\n", list, plain(string(r.MediaType)))
	fmt.Fprintf(&b, " * Supported platforms:\n")
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.StripEscape)
	fmt.Fprintf(t, "   PLATFORM\tDIGEST\tNOTES\n")
	for _, p := range r.Platforms {
		key := plain(p.Platform)
		if key == "" {
			key = "(not said)"
		}
		fmt.Fprintf(t, "   %s\t%s\t%s\n", key, p.Digest, strings.Join(p.Notes, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// plain quotes what could steer a terminal.
func plain(s string) string {
	quoted := fmt.Sprintf("%+q", s)
	return quoted[1 : len(quoted)-1]
}
