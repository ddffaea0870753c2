package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// newPlatforms returns the command platforms.
func newPlatforms(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "platforms [IMAGE]",
		Short: "List the platforms that this Go version supports, or shares with an image",
		Long: `List the container platforms that this Go version supports, one variant per line,
with the GO* variables of each.
With IMAGE, list only those that the image also has, which is what
"--platforms all --base IMAGE" builds. A Windows image has one per version. The
built-in base scratch has all listed platforms, and static all of linux.`,
		Args: atMostOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runPlatforms(cmd.Context(), a, args, asJSON)
		},
	}
	bindJSON(cmd.Flags(), &asJSON, "Print a JSON array, with the C compilers for cgo")
	return cmd
}

// runPlatforms prints the platforms that Go supports, or those of them that an image has.
// The built-in bases are named as in --base; an image of the same name needs its
// registry.
func runPlatforms(ctx context.Context, a *app, args []string, asJSON bool) error {
	goc := &crosscompile.Go{Log: a.log}
	var list []ocispec.Platform
	var err error
	switch {
	case len(args) == 1 && (args[0] == build.Static || args[0] == build.Scratch): // as --base has it
		if list, err = buildable(ctx, goc); args[0] == build.Static {
			list = slices.DeleteFunc(list, func(p ocispec.Platform) bool { return p.OS != "linux" })
		}
	case len(args) == 1:
		list, err = (&build.Builder{Bases: a.places(), Go: goc, Log: a.log}).BasePlatforms(ctx, args[0])
	default:
		list, err = buildable(ctx, goc)
	}
	if err != nil {
		return err
	}
	return printPlatforms(a, list, asJSON)
}

// printPlatforms prints one line per platform with its Go variables, or a JSON array.
func printPlatforms(a *app, list []ocispec.Platform, asJSON bool) error {
	all := make([]struct {
		Platform string            `json:"platform"`
		Env      map[string]string `json:"env"` // GOOS, GOARCH and the variable for the variant
		Cgo      map[string]string `json:"cgo"` // C compiler by toolchain, if it has one
	}, len(list))
	for i, p := range list {
		knobs, err := knobsOf(p)
		if err != nil {
			return err
		}
		all[i].Platform, all[i].Env, all[i].Cgo = platform.Key(p), map[string]string{}, crosscompile.Compilers(p)
		for _, kv := range knobs {
			name, value, _ := strings.Cut(kv, "=")
			all[i].Env[name] = value
		}
		if asJSON {
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "%-24s %s\n", all[i].Platform, strings.Join(knobs, " ")); err != nil {
			return err
		}
	}
	if !asJSON {
		return nil
	}
	return writeJSON(a.stdout, all)
}

// buildable returns the platforms that Go supports and containers can run, with all
// variants, sorted.
func buildable(ctx context.Context, goc *crosscompile.Go) ([]ocispec.Platform, error) {
	targets, err := goc.Targets(ctx, ".")
	if err != nil {
		return nil, err
	}
	var list []ocispec.Platform
	for _, p := range targets {
		// Go also supports systems without containers, such as darwin, and js.
		if !inContainers(p) {
			continue
		}
		list = append(list, p)
		_, variants := crosscompile.Variants(p.Architecture)
		for _, variant := range variants {
			v := p
			if v.Variant = variant; !sameKnobs(v, p) {
				list = append(list, v)
			}
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Compare(a, b) == 0 }), nil
}

// inContainers reports whether containers run on a platform: Linux, WASI, and Windows and
// FreeBSD on the architectures for which base images exist.
func inContainers(p ocispec.Platform) bool {
	p = platform.Normalize(p)
	switch p.OS {
	case "linux":
		return true
	case "windows", "freebsd":
		return p.Architecture == "amd64" || p.Architecture == "arm64"
	case "wasip1":
		return p.Architecture == "wasm"
	}
	return false
}

// knobsOf returns the variables of the go command that differ between platforms: GOOS,
// GOARCH and, if the architecture has variants, the variable for them.
func knobsOf(p ocispec.Platform) ([]string, error) {
	env, err := crosscompile.Env(p)
	names := []string{"GOOS", "GOARCH"}
	if name, _ := crosscompile.Variants(p.Architecture); name != "" {
		names = append(names, name)
	}
	var knobs []string
	for _, name := range names {
		knobs = append(knobs, slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return !strings.HasPrefix(kv, name+"=") })...)
	}
	return knobs, err
}

// sameKnobs reports whether Go compiles the same for both platforms: linux/386/sse2 is
// the default of linux/386, for example, and is not listed twice.
func sameKnobs(a, b ocispec.Platform) bool {
	x, errx := crosscompile.Env(a)
	y, erry := crosscompile.Env(b)
	return errx == nil && erry == nil && slices.Equal(x, y)
}
