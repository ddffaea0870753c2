package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest"
)

// newFromArgs returns manifest-tool's command from-args. kind is the --type of manifest
// push, or nil outside of it.
func newFromArgs(a *app, l *targetLogin, kind *string) *cobra.Command {
	var template, target string
	var platforms, annotations []string
	w, r := &indexWriter{login: l, digestLine: true}, &sourceReader{}
	cmd := &cobra.Command{
		Use:   "from-args --platforms LIST --template NAME --target NAME",
		Short: "Create an index of images whose names differ by platform",
		Long: `Create an index of images whose names differ by platform. OS, ARCH and VARIANT in
the template are replaced by that part of each platform, as you typed it. The
last line of output is the digest and the size of the index.`,
		Example: `  mabuild manifest from-args --platforms linux/amd64,linux/arm/v7,linux/arm64 \
    --template acme/app-ARCHVARIANT:v1 --target acme/app:v1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			as := manifest.Assembly{}
			if target == "" || template == "" || len(platforms) == 0 {
				return usage(cmd.UseLine(), "%s requires --platforms, --template and --target", commandName(cmd))
			}
			w.under(kind)
			// manifest-tool has lists of annotations in one flag.
			w.annotations = append(w.annotations, assembly.SplitAnnotations(annotations)...)
			if err := errors.Join(w.begin(a, cmd, target), w.fill(a, &as), r.fill(&as), assembly.AddTemplate(&as, template, platforms)); err != nil {
				return err
			}
			return runAssemble(cmd.Context(), a, w, r, as, target)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&platforms, "platforms", nil, "Add the images of these `PLATFORMS`, each os/arch[/variant]")
	f.StringVar(&template, "template", "", "Use `NAME` as the images' name, with OS, ARCH and VARIANT as placeholders")
	f.StringVar(&target, "target", "", "Publish the index as `NAME`")
	f.StringSliceVar(&w.alsoTag, "tags", nil, "Same as --also-tag")
	f.StringArrayVar(&annotations, "annotations", nil, "Same as --annotation, but `KEY=VALUE,KEY=VALUE` are two")
	alike(f, map[string]string{"platform": "platforms", "tag": "also-tag"})
	w.bind(f)
	r.bind(f, "")
	return cmd
}

// newFromSpec returns manifest-tool's command from-spec.
func newFromSpec(a *app, l *targetLogin, kind *string) *cobra.Command {
	w, r := &indexWriter{login: l, digestLine: true}, &sourceReader{}
	cmd := &cobra.Command{
		Use:     "from-spec FILE",
		Short:   "Create an index from manifest-tool's YAML",
		Example: "  mabuild manifest from-spec app.yaml\n  mabuild manifest from-spec - <app.yaml",
		Args:    exactlyOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := readSpec(a, args[0])
			if err != nil {
				return invalid(err)
			}
			w.under(kind)
			w.alsoTag = append(w.alsoTag, spec.Tags...)
			as := manifest.Assembly{Annotations: map[string]*string{}}
			for key, value := range spec.Annotations {
				as.Annotations[key] = &value
			}
			errs := []error{w.begin(a, cmd, spec.Image), w.fill(a, &as), r.fill(&as)}
			for _, m := range spec.Manifests {
				item, err := m.Item()
				as.Items, errs = append(as.Items, item), append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			return runAssemble(cmd.Context(), a, w, r, as, spec.Image)
		},
	}
	alike(cmd.Flags(), map[string]string{"tag": "also-tag"})
	w.bind(cmd.Flags())
	r.bind(cmd.Flags(), "")
	return cmd
}

// under takes the --type of the parent command, unless the command has its own.
func (w *indexWriter) under(kind *string) {
	if kind != nil && w.kind == "" {
		w.kind = *kind
	}
}

// maxSpec bounds what is read from standard input, in bytes. The decoder's own limit is
// lower, so a cut file is never accepted.
const maxSpec = 4 << 20

// readSpec reads manifest-tool's YAML from a file, or from standard input for "-".
func readSpec(a *app, file string) (*assembly.File, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(io.LimitReader(a.stdin, maxSpec))
	} else {
		data, err = config.ReadFile(file, yamlconf.MaxFile, config.Trust{})
	}
	if err != nil {
		return nil, noFile(file, "name a file, or - for stdin; docs/migrate-manifest-tool.md has an example", fmt.Errorf("%s: %w", file, err))
	}
	return assembly.Read(file, data)
}
