package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// sbomOptions are the flags of sbom.
type sbomOptions struct {
	platform, format, module string
	json                     bool
}

// newSBOM returns the command sbom.
func newSBOM(a *app) *cobra.Command {
	var o sbomOptions
	cmd := &cobra.Command{
		Use:   "sbom IMAGE",
		Short: "Print the SBOM of an image, or look up a module in it",
		Long: `Print the SBOM of one platform of an image as it is stored. IMAGE is an image in a
registry, or oci:DIR or oci-archive:FILE. The SBOM may be a referrer of the image or
an attestation of BuildKit. Its signature is not checked.

With --module, print the version of a Go module for each platform instead. The exit
code is 1 if no platform contains the module, or if a platform has no SBOM.`,
		Example: `  mabuild sbom ghcr.io/acme/app:v1 --platform linux/arm64 > app.spdx.json
  mabuild sbom ghcr.io/acme/app:v1 --module golang.org/x/net
  mabuild sbom ghcr.io/acme/app:v1 --module stdlib`,
		Args: exactlyOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if err := valued(cmd, "platform", "format", "module"); err != nil {
				return err
			}
			if o.json && o.module == "" {
				return usage("omit it: the SBOM is JSON already", "--json requires --module")
			}
			return runSBOM(cmd.Context(), a, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.platform, "platform", "", "Use only the image for this `PLATFORM` (also --platforms)")
	alike(f, map[string]string{"platforms": "platform"})
	f.StringVar(&o.format, "format", "", "Use the SBOM of this `FORMAT`, spdx or cyclonedx, if there are several")
	f.StringVar(&o.module, "module", "", "Print the version of this Go `MODULE` for each platform; PATH@VERSION looks for one version")
	bindJSON(f, &o.json, "With --module, print a JSON array with platform and versions")
	return cmd
}

// A moduleRow is the answer of --module for one platform. Its JSON is stable.
type moduleRow struct {
	Platform string   `json:"platform"`
	Digest   string   `json:"digest"`
	Versions []string `json:"versions"`
	Error    string   `json:"error,omitempty"`
}

// runSBOM finds the SBOMs of an image and prints one, or what they say about a module.
func runSBOM(ctx context.Context, a *app, o sbomOptions, ref string) error {
	want := attest.Format(strings.ToLower(o.format))
	if want != "" && want != attest.SPDX && want != attest.CycloneDX {
		return usage("use spdx or cyclonedx", "--format %q: unknown format", o.format)
	}
	inspected := inspectOptions{platform: o.platform, referrers: true}
	if err := inspected.parse([]string{ref}); err != nil {
		return err
	}
	source, name, err := a.places().Source(ref)
	if err != nil {
		return err
	}
	report, err := inspected.report(ctx, source, name, ref)
	if err != nil {
		return err
	}
	images := report.Platforms
	// An artifact has no platforms, and an SBOM may also be that of an index as a whole.
	if len(images) != 1 && o.platform == "" && slices.ContainsFunc(report.Referrers, attest.IsSBOM) && o.module == "" || len(images) == 0 {
		images = []manifest.Runnable{{Digest: report.Digest, Referrers: report.Referrers}}
	}
	get := func(d v1.Hash) (manifest.Content, error) {
		at, err := places.Parse(ref)
		if err != nil {
			return nil, err
		}
		return a.places().Get(ctx, at.ByDigest(d).String())
	}
	read := func(image manifest.Runnable) (attest.Document, error) {
		doc, err := attest.Find(image.Referrers, want, get)
		if errors.Is(err, attest.ErrNoSBOM) {
			subject := strings.TrimSpace(ref + " " + image.Platform)
			if _, other := attest.Find(image.Referrers, "", get); want != "" && other == nil {
				return doc, &hint.Error{Err: fmt.Errorf("%s: %w", plain(subject), err), Hint: "omit --format for the SBOM that there is; mabuild push --sbom " + string(want) + " adds one as " + string(want)}
			}
			return doc, &hint.Error{Err: fmt.Errorf("%s: %w", plain(subject), err), Hint: "mabuild inspect --referrers " + plain(ref) + " lists what there is; mabuild push --sbom spdx adds an SBOM, and mabuild mirror --referrers copies it"}
		}
		return doc, err
	}
	if o.module == "" {
		if len(images) > 1 {
			var keys []string
			for _, image := range images {
				keys = append(keys, shownKey(image.Platform))
			}
			return usage("add --platform "+keys[0]+", or --module PATH to look in all", "an SBOM is of one platform, but %s has %s", ref, strings.Join(keys, ", "))
		}
		doc, err := read(images[0])
		if err != nil {
			return err
		}
		return writeExact(a.stdout, doc.Raw)
	}
	module, version, _ := strings.Cut(o.module, "@")
	rows, errs := make([]moduleRow, len(images)), make([]error, len(images))
	var group errgroup.Group
	group.SetLimit(8)
	for i, image := range images {
		group.Go(func() error {
			rows[i] = moduleRow{Platform: image.Platform, Digest: image.Digest.String(), Versions: []string{}}
			doc, err := read(image)
			if err == nil {
				var versions []string
				versions, err = doc.Versions(module)
				rows[i].Versions = append(rows[i].Versions, slices.DeleteFunc(versions, func(v string) bool { return version != "" && v != version })...)
			}
			if err != nil {
				errs[i], rows[i].Error = err, err.Error()
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	if err := o.printModule(a, rows); err != nil {
		return err
	}
	err = errors.Join(errs...)
	way := "the SBOM lists modules, not packages: give the path of the module"
	if version != "" {
		way = "mabuild sbom " + plain(ref) + " --module " + plain(module) + " shows the version that it contains"
	}
	if err == nil && !slices.ContainsFunc(rows, func(r moduleRow) bool { return len(r.Versions) > 0 }) {
		return &hint.Error{Err: fmt.Errorf("%s does not contain %s", plain(ref), plain(o.module)), Hint: way}
	}
	return err
}

// printModule prints the answer of --module: a line for each platform, or JSON.
func (o sbomOptions) printModule(a *app, rows []moduleRow) error {
	if o.json {
		return writeJSON(a.stdout, rows)
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		answer := cmp.Or(strings.Join(row.Versions, ", "), "not found")
		if row.Error != "" {
			answer = "unknown"
		}
		fmt.Fprintf(t, "%s\t%s\n", shownKey(row.Platform), plain(answer))
	}
	_ = t.Flush() // writes to memory
	return trimmed(a.stdout, b.String())
}
