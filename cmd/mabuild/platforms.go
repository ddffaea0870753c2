package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

func newPlatforms(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "platforms [IMAGE]",
		Short: "List what this Go builds for, or what it shares with an image",
		Long: `List the platforms that this Go builds for, with the variants it can aim at.
With IMAGE: those that the image runs on as well, which is what
"--platforms all --base IMAGE" builds.`,
		Args: atMostOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runPlatforms(cmd.Context(), a, args)
		},
	}
}

func runPlatforms(ctx context.Context, a *app, args []string) error {
	goc := &crosscompile.Go{Log: a.log}
	targets, err := goc.Targets(ctx, ".")
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return printShared(ctx, a, goc, args[0])
	}
	for _, p := range targets {
		line := platform.Key(p)
		if variants := crosscompile.Variants(p.Architecture); len(variants) > 0 {
			line = fmt.Sprintf("%-18s %s", line, strings.Join(variants, " "))
		}
		if _, err := fmt.Fprintln(a.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// printShared prints what the image runs on and Go builds for.
func printShared(ctx context.Context, a *app, goc *crosscompile.Go, ref string) error {
	source, name, err := a.places().source(ref)
	if err != nil {
		return err
	}
	r, err := manifest.Inspect(ctx, source, name, manifest.Look{})
	if err != nil {
		return missing(err)
	}
	var printed []string
	for _, have := range r.Platforms {
		p, err := platform.Parse(have.Platform)
		if err != nil || goc.Check(ctx, ".", []ocispec.Platform{p}) != nil || slices.Contains(printed, platform.Key(p)) {
			continue
		}
		printed = append(printed, platform.Key(p))
		if _, err := fmt.Fprintln(a.stdout, platform.Key(p)); err != nil {
			return err
		}
	}
	return nil
}
