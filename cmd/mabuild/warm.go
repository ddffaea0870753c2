package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest/platform"
)

// newWarm returns the command warm.
func newWarm(a *app) *cobra.Command {
	o := pushOptions{nowhere: true}
	var part string
	var of int
	cmd := &cobra.Command{
		Use:   "warm [PACKAGE…]",
		Short: "Compile programs into the repository of build records",
		Long: `Compile programs and store their build records in --cache-repo, so that a push on
another machine need not compile. No image is published and no tag moves.

--shard divides the programs and platforms among machines. A shard that fails or is
late costs time and nothing else: the push compiles what is missing. For each program
and platform, one line is printed to stdout: compiled, recorded (it was there), kept
(this machine had compiled it before), or no key (it cannot be recorded, so it is not
compiled).`,
		Example: `  mabuild warm --cache-repo ghcr.io/acme/build-cache --shard 2/8
  mabuild warm --cache-repo ghcr.io/acme/build-cache --shard auto --shards 8`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			return runWarm(cmd, a, o, part, of)
		},
	}
	o.bind(cmd.Flags())
	bindShard(cmd.Flags(), &part, &of)
	return cmd
}

// runWarm runs warm.
func runWarm(cmd *cobra.Command, a *app, o pushOptions, part string, of int) error {
	mine, err := parseShard(part, of, os.Getenv)
	if err != nil {
		return err
	}
	pub, pairs, err := a.pairs(cmd, o)
	if err != nil {
		return err
	}
	if !pub.Records.Write {
		return usage("use --cache-mode rw", "warm writes build records, but --cache-mode is ro")
	}
	from, to := 0, len(pairs)
	var division publish.Division
	if mine.n > 1 {
		var weights []float64
		division, weights = pub.Divide(cmd.Context(), pairs)
		from, to = mine.cut(weights)
	}
	done, errs := pub.Warm(cmd.Context(), pairs[from:to], false)
	if mine.n > 1 {
		division.Store(cmd.Context(), done)
	}
	a.grown.Store(true)
	a.close() // removes the progress rows before the result is printed
	var lines strings.Builder
	for i, w := range done {
		name := w.Spec.Name + " " + platform.Key(w.Platform)
		switch {
		case errs[i] != nil:
			errs[i] = hint.Named(w.Spec.Name, errs[i])
			continue
		case w.Image.Recalled:
			fmt.Fprintf(&lines, "%s recorded\n", name)
		case w.Image.Key != "" && w.Image.Binary.Path == "":
			fmt.Fprintf(&lines, "%s kept\n", name)
		case w.Image.Key != "":
			fmt.Fprintf(&lines, "%s compiled\n", name)
		case w.NoKey != "":
			fmt.Fprintf(&lines, "%s no key: %s\n", name, w.NoKey)
		default:
			fmt.Fprintf(&lines, "%s no key: the sources changed, or other files were compiled\n", name)
		}
	}
	_, err = fmt.Fprint(a.stdout, lines.String())
	return errors.Join(append(errs, err)...)
}

// pairs starts a command that compiles for the repository of build records, and returns the
// programs and platforms.
func (a *app) pairs(cmd *cobra.Command, o pushOptions) (*publish.Publisher, []publish.Pair, error) {
	if err := a.startWith(cmd, config.All); err != nil {
		return nil, nil, err
	}
	pub, planner, err := a.publisher(cmd, o)
	if err != nil {
		return nil, nil, err
	}
	if pub.Records == nil {
		return nil, nil, usage("add --cache-repo REPOSITORY, for example ghcr.io/acme/build-cache, or set MABUILD_CACHE_REPO", "no repository of build records is set")
	}
	plans, err := planner.Plans(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	pairs, err := pub.Pairs(cmd.Context(), plans)
	return pub, pairs, err
}
