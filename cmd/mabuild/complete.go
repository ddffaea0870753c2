package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirrorfile"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// patience is the time limit of a completion that asks a registry.
const patience = 3 * time.Second

// A completer returns the completions of the word typed so far. If it fails, it offers
// nothing and prints nothing: the command itself reports the error, and output would
// disturb the shell.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective)

// describe removes the backquotes in the descriptions of flags, which pflag takes for the name
// of the value and which a shell would show.
func describe(root *cobra.Command) {
	for _, cmd := range commands(root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
	}
}

// completeFlag registers the completion of a flag of cmd. It panics if there is no such
// flag, which is a mistake in this program.
func completeFlag(cmd *cobra.Command, flag string, f completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// completeWords registers the words of [config.Words] as completions of flags. base also
// completes file names, since local places contain them.
func completeWords(cmd *cobra.Command, flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if flags.Lookup(name) == nil {
			panic("no flag " + name) // a mistake in this program
		}
		rest := cobra.ShellCompDirectiveNoFileComp
		if name == "base" {
			rest = cobra.ShellCompDirectiveDefault
		}
		completeFlag(cmd, name, cobra.FixedCompletions(config.Words(name), rest))
	}
}

// completeList completes the last item of a comma-separated list with the words of all,
// without those already in the list. The shell keeps their order.
func completeList(all func(*cobra.Command) []string) completer {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		at := strings.LastIndex(typed, ",") + 1
		given, item := strings.Split(typed[:at], ","), typed[at:]
		var list []cobra.Completion
		for _, word := range all(cmd) {
			if strings.HasPrefix(word, item) && !slices.Contains(given, word) {
				list = append(list, typed[:at]+word)
			}
		}
		return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeForms completes the form of a local place, and then the name of its file.
func completeForms(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(typed, ":") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var list []cobra.Completion
	for _, form := range []string{local.FormLayout, local.FormArchive, local.FormDockerArchive, local.FormDockerDaemon, local.FormContainerd} {
		if strings.HasPrefix(form, typed) {
			list = append(list, form+":")
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// usualPlatforms are offered before the others.
var usualPlatforms = []string{
	"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/loong64",
}

// platformWords returns the platforms that this Go version supports and containers can run,
// with their variants: those of Linux first, then those of Windows, then the others.
func platformWords(cmd *cobra.Command) []string {
	list, err := buildable(cmd.Context(), new(crosscompile.Go))
	if err != nil {
		return nil
	}
	place := func(p ocispec.Platform) int {
		if i := slices.Index(usualPlatforms, platform.Key(p)); i >= 0 {
			return i
		}
		switch p.OS {
		case "linux":
			return len(usualPlatforms)
		case "windows":
			return len(usualPlatforms) + 1
		}
		return len(usualPlatforms) + 2
	}
	slices.SortStableFunc(list, func(a, b ocispec.Platform) int { return cmp.Compare(place(a), place(b)) })
	var words []string
	for _, p := range list {
		words = append(words, platform.Key(p))
	}
	return append(words, "all")
}

// buildWords returns the ids of the builds in the configuration file.
func (a *app) buildWords(cmd *cobra.Command) []string {
	c, err := config.Load(config.Options{File: a.file, Flags: cmd.Flags()})
	if err != nil {
		return nil
	}
	return plan.IDs(c.Builds)
}

// entryWords returns the names of the entries in the file that --file names.
func entryWords(cmd *cobra.Command) []string {
	file, err := cmd.Flags().GetString("file")
	if err != nil || file == "" {
		return nil
	}
	m, err := mirrorfile.Load(file, config.Trust{})
	if err != nil {
		return nil
	}
	var words []string
	for _, e := range m.Plan() {
		words = append(words, e.Name)
	}
	return words
}

// completeImage completes the tag of an image in a registry, once the user has typed its
// repository and a colon.
func (a *app) completeImage(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	colon := strings.LastIndex(typed, ":")
	if colon <= strings.LastIndex(typed, "/") || !strings.Contains(typed, "/") {
		return nil, cobra.ShellCompDirectiveDefault // may be a file
	}
	if err := a.start(cmd); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	tags, err := a.client.Tags(ctx, typed[:colon])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []cobra.Completion
	for _, tag := range tags {
		if strings.HasPrefix(tag, typed[colon+1:]) {
			list = append(list, typed[:colon+1]+plainLines(tag))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// complete registers the completions of all commands below root. It runs after all flags
// are bound.
func (a *app) complete(root *cobra.Command) {
	completeWords(root, root.PersistentFlags(), "progress")
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "push", "build":
			completeFlag(cmd, "platforms", completeList(platformWords))
			completeFlag(cmd, "only", completeList(a.buildWords))
			completeFlag(cmd, "output", completeForms)
			completeWords(cmd, cmd.Flags(), "base", "cgo-toolchain", "compression", "media-types", "naming", "sbom")
		case "resolve", "apply", "create":
			completeFlag(cmd, "platforms", completeList(platformWords))
			completeWords(cmd, cmd.Flags(), "base", "cgo-toolchain", "compression", "media-types", "naming", "sbom")
		case "check", "place":
			completeFlag(cmd, "platform", completeList(platformWords))
		case "sbom":
			completeFlag(cmd, "platform", completeList(platformWords))
			completeFlag(cmd, "format", cobra.FixedCompletions([]string{"spdx", "cyclonedx"}, cobra.ShellCompDirectiveNoFileComp))
			cmd.ValidArgsFunction = a.completeImage
		case "mirror":
			completeFlag(cmd, "platforms", completeList(platformWords))
			completeFlag(cmd, "only", completeList(entryWords))
			cmd.ValidArgsFunction = a.completeImage
		case "inspect":
			completeFlag(cmd, "platform", completeList(platformWords))
			completeFlag(cmd, "require", completeList(platformWords))
			cmd.ValidArgsFunction = a.completeImage
		case "platforms":
			cmd.ValidArgsFunction = a.completeImage
		case "manifest":
			for _, sub := range cmd.Commands() {
				sub.ValidArgsFunction = a.completeImage
				if sub.Flags().Lookup("select") != nil {
					completeFlag(sub, "select", completeList(platformWords))
				}
			}
		}
	}
}
