package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// newCacheExplain returns cache explain.
func newCacheExplain(a *app) *cobra.Command {
	o := pushOptions{nowhere: true}
	cmd := &cobra.Command{
		Use:   "explain [PACKAGE…]",
		Short: "Print what the key of a program is made of",
		Long: `Print for each program and platform the key of its build record, whether the
repository has it, what the key is made of, and what has changed since this machine
last compiled or found the program. If it is not recorded, the nearest record of the
program and platform is found, and what differs from it. Nothing is compiled.`,
		Example: "  mabuild cache explain ./cmd/app --cache-repo ghcr.io/acme/build-cache",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			pub, pairs, err := a.pairs(cmd, o)
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, p := range pairs {
				if err := explain(&text, cmd, pub, p); err != nil {
					return err
				}
			}
			a.close()
			_, err = fmt.Fprint(a.stdout, text.String())
			return err
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

// explain writes about one program and platform.
func explain(text *strings.Builder, cmd *cobra.Command, pub *publish.Publisher, p publish.Pair) error {
	fmt.Fprintf(text, "%s %s\n", p.Spec.Name, platform.Key(p.Platform))
	if p.NoKey != "" {
		fmt.Fprintf(text, "  no key: %s\n", p.NoKey)
		return nil
	}
	inputs := p.Inputs()
	key, why, err := pub.Key(cmd.Context(), p)
	if err != nil {
		return err
	}
	state := "recorded"
	switch {
	case errors.Is(why, manifest.ErrNotFound):
		state = "not recorded"
	case records.Untrusted(why):
		state = why.Error()
	case why != nil:
		state = "unusable: " + why.Error()
	}
	fmt.Fprintf(text, "  %-10s %s, %s\n", "key", key, plain(state))
	for _, name := range []string{"go", "GOFLAGS", "package", "flags", "env"} {
		if inputs[name] != "" {
			fmt.Fprintf(text, "  %-10s %s\n", name, inputs[name])
		}
	}
	files := 0
	for name := range inputs {
		if strings.HasPrefix(name, "file ") {
			files++
		}
	}
	fmt.Fprintf(text, "  %-10s %d\n", "files", files)
	is := records.InputsOf(inputs)
	if was, ok := pub.Last(inputs); ok {
		listDifferences(text, "changed", is, was)
	}
	if !errors.Is(why, manifest.ErrNotFound) {
		return nil
	}
	ref, nearest, err := pub.Records.Nearest(cmd.Context(), inputs)
	switch {
	case err != nil:
		fmt.Fprintf(text, "  %-10s unknown: %s\n", "nearest", plain(err.Error()))
	case ref == "":
		fmt.Fprintf(text, "  %-10s none\n", "nearest")
	default:
		fmt.Fprintf(text, "  %-10s %s\n", "nearest", ref)
		listDifferences(text, "differs", is, nearest)
	}
	return nil
}

// listDifferences writes a line for each input that differs from others, or one that says that
// none does.
func listDifferences(text *strings.Builder, title string, is, was records.Inputs) {
	names := is.Differences(was)
	if len(names) == 0 {
		fmt.Fprintf(text, "  %-10s nothing\n", title)
	}
	for _, name := range names {
		what := plain(name)
		switch {
		case strings.HasPrefix(name, "file ") && was[name] == "":
			what += " is new"
		case strings.HasPrefix(name, "file ") && is[name] == "":
			what += " is gone"
		case name == "go" || name == "compressor":
			what = fmt.Sprintf("%s was %s", name, plain(was[name]))
		}
		fmt.Fprintf(text, "  %-10s %s\n", title, what)
	}
}

// newCacheVerify returns cache verify.
func newCacheVerify(a *app) *cobra.Command {
	o := pushOptions{nowhere: true, proves: true}
	sample := "100%"
	cmd := &cobra.Command{
		Use:   "verify [PACKAGE…]",
		Short: "Compile programs and compare them with their build records",
		Long: `Compile programs and compare their layers with those in --cache-repo. A record that
has another layer was forged, or the program does not compile in the same way twice:
the exit code is 5. For each program and platform, one line is printed to stdout.`,
		Example: "  mabuild cache verify --cache-repo ghcr.io/acme/build-cache --sample 5%",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			part, err := parsePercent(sample)
			if err != nil {
				return err
			}
			return runCacheVerify(cmd, a, o, part)
		},
	}
	o.bind(cmd.Flags())
	cmd.Flags().StringVar(&sample, "sample", sample, "Verify this `PERCENTAGE` of the programs and platforms, chosen at random")
	return cmd
}

// parsePercent reads a percentage, as a part of 1.
func parsePercent(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if err == nil && !percent && n > 0 && n <= 100 {
		return 0, usage("write --sample "+text+"%; --sample 100% is all", "--sample %s: must be a percentage", text)
	}
	if err != nil || !(n > 0 && n <= 100) {
		return 0, usage("for example --sample 5%", "--sample %s: must be a percentage", text)
	}
	return n / 100, nil
}

// runCacheVerify runs cache verify.
func runCacheVerify(cmd *cobra.Command, a *app, o pushOptions, part float64) error {
	pub, pairs, err := a.pairs(cmd, o)
	if err != nil {
		return err
	}
	pairs = slices.DeleteFunc(pairs, func(p publish.Pair) bool { return p.NoKey != "" })
	rand.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] }) //nolint:gosec // no secret: each run has another sample
	pairs = pairs[:int(math.Ceil(part*float64(len(pairs))))]
	done, errs := pub.Warm(cmd.Context(), pairs, true)
	a.grown.Store(true)
	a.close()
	var lines []string
	recorded := slices.ContainsFunc(done, func(w publish.Warmed) bool { return w.Recorded != nil })
	for i, w := range done {
		name := w.Spec.Name + " " + platform.Key(w.Platform)
		if errs[i] != nil {
			errs[i] = hint.Named(w.Spec.Name, errs[i])
			continue
		}
		if w.Recorded == nil {
			lines = append(lines, name+" not recorded\n")
			continue
		}
		same, err := w.Same()
		switch {
		case err != nil:
			errs[i] = err
		case same:
			lines = append(lines, name+" verified\n")
		default:
			errs[i] = hint.New(hint.Content, "compile it twice with --no-cache-repo: if both have the same digest, the record was forged; delete its tag",
				"the build record of %s in %s has another layer than the compiler makes", name, pub.Records.Name)
		}
	}
	slices.Sort(lines)
	_, err = fmt.Fprint(a.stdout, strings.Join(lines, ""))
	if err = errors.Join(append(errs, err)...); err == nil && !recorded {
		// A job that verifies nothing must not look green.
		err = hint.New(hint.Build, "check --cache-repo, or record the programs with mabuild warm", "%s has no build record of these programs, so nothing was verified", pub.Records.Name)
	}
	return err
}
