package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroups are the groups of flags in help and manual pages, in their order. A flag is
// in the first group that lists it and applies to its command; a flag that none lists is
// shown first, under "Flags".
var flagGroups = []struct {
	title    string
	commands []string // and their subcommands; empty means all
	flags    []string
}{
	{"What to build", []string{"push", "build", "run", "warm", "cache verify", "cache explain", "resolve", "apply", "create", "config view"}, []string{
		"platforms", "only", "base", "prebuilt", "as-main", "path", "cgo", "cgo-static", "cgo-toolchain", "build-env", "build-tags", "gcflags", "ldflags",
		"symbols", "race", "cover", "pgo", "debug", "disable-optimizations", "allow-env", "allow-path", "allow-unsafe-build-flags",
	}},
	{"What to show", []string{"inspect", "manifest inspect", "sbom"}, []string{"platform", "module", "require", "size", "referrers", "provenance"}},
	{"What to accept", []string{"verify"}, []string{
		"key", "certificate-identity", "certificate-identity-regexp", "certificate-oidc-issuer", "certificate-oidc-issuer-regexp", "trusted-root", "cosign-arg",
		"require", "source", "ref", "builder-id", "platforms",
	}},
	{"What to put into the index", []string{"manifest"}, []string{
		"select", "platforms", "template", "annotation", "remove-annotation", "replace", "type",
		"allow-mismatch", "trust-platforms", "ignore-missing", "referrers",
	}},
	{"What to copy", []string{"mirror"}, []string{
		"file", "only", "shard", "shards", "template", "platforms", "optional", "referrers", "missing", "min-age", "verify", "allow-path", "allow-env",
	}},
	{"What to read", []string{"check", "place", "resolve", "apply", "create"}, []string{"filename", "recursive", "selector", "cluster", "context"}},
	{"Where workloads may run", []string{"check", "place"}, []string{"nodes", "platform"}},
	{"Placement", []string{"place", "resolve", "apply", "create"}, []string{"place", "always", "prefer", "tolerate", "policy", "apply", "watch"}},
	{"Schedule", []string{"mirror"}, []string{"watch", "listen", "listen-host"}},
	{"Image", []string{"push", "build", "run", "warm", "cache verify", "cache explain", "resolve", "apply", "create", "config view"}, []string{
		"entrypoint", "cmd", "user", "workdir", "env", "port", "volume", "label", "annotation", "stop-signal",
		"file", "health-cmd", "health-interval", "health-timeout", "health-start-period", "health-retries",
		"compression", "media-types", "no-index",
	}},
	{"Tags and destinations", []string{"push", "build", "run", "warm", "cache verify", "cache explain", "resolve", "apply", "create", "config view", "manifest", "mirror"}, []string{
		"tag", "repo", "naming", "output", "load", "run-flag", "target", "also-tag", "backup",
	}},
	{"Supply chain", []string{"push", "build", "run", "warm", "cache verify", "cache explain", "resolve", "apply", "create", "config view"}, []string{
		"attest", "sbom", "sbom-base", "sbom-dir", "provenance", "builder-id", "attestations", "sign", "sign-arg", "sign-format", "attach", "smoke", "smoke-args", "smoke-expect", "smoke-exit", "smoke-timeout", "smoke-alive", "smoke-skip", "before-tag", "vcs",
	}},
	{"Build records of other machines", []string{"push", "build", "run", "resolve", "apply", "create", "config view", "warm", "cache verify", "cache explain"}, []string{
		"cache-repo", "cache-mode", "cache-trust", "cache-check", "cache-compile", "no-cache-repo", "require-cache", "strict", "shard", "shards", "sample",
	}},
	{"Registry", nil, []string{
		"username", "password", "password-stdin", "docker-cfg", "insecure-registry", "plain-http", "insecure", "ca-file", "client-cert", "client-key",
		"trust-realm", "quota-reserve", "verify",
	}},
	{"Output", nil, []string{"dry-run", "limit", "json", "raw", "digest", "format", "html", "report", "metadata-file", "summary", "progress", "quiet", "verbose"}},
	{"General", nil, []string{"config", "directory", "cache", "cache-max", "jobs", "timeout", "help", "version"}},
	{"ko's spellings", []string{"push", "build", "run", "resolve", "apply", "create"}, []string{
		"bare", "base-import-paths", "preserve-import-paths", "tag-only", "image-refs", "image-annotation", "image-label", "image-user", "tags",
	}},
	{"manifest-tool's spellings", []string{"manifest"}, []string{"annotations", "tags"}},
}

// flagsOfCobra has descriptions in mabuild's style for the flags that cobra adds.
var flagsOfCobra = map[string]string{"help": "Show this help", "version": "Show the version", "no-descriptions": "Omit the descriptions"}

// A titledFlags is a group of a command's flags, with its heading.
type titledFlags struct {
	title string
	flags *pflag.FlagSet
}

// groupedFlags returns the flags of cmd in their groups, without empty groups. The flags
// of no group come first.
func groupedFlags(cmd *cobra.Command) []titledFlags {
	// This merges the flags of parent commands into cmd.Flags().
	_ = cmd.InheritedFlags()
	rest := titledFlags{"Flags", pflag.NewFlagSet("", pflag.ContinueOnError)}
	var groups []titledFlags
	taken := map[*pflag.Flag]bool{}
	for _, g := range flagGroups {
		group := titledFlags{g.title, pflag.NewFlagSet("", pflag.ContinueOnError)}
		group.flags.SortFlags = false
		for _, name := range g.flags {
			f := cmd.Flags().Lookup(name)
			if f == nil || taken[f] || len(g.commands) > 0 && !slices.ContainsFunc(g.commands, func(c string) bool { return isBelow(cmd, c) }) {
				continue
			}
			taken[f] = true
			group.flags.AddFlag(shownFlag(f, strings.HasPrefix(g.title, "ko")))
		}
		groups = append(groups, group)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !taken[f] {
			rest.flags.AddFlag(shownFlag(f, false))
		}
	})
	return slices.DeleteFunc(append([]titledFlags{rest}, groups...), func(g titledFlags) bool { return !g.flags.HasAvailableFlags() })
}

// isBelow reports whether cmd is the command of that name, or a subcommand of it.
func isBelow(cmd *cobra.Command, name string) bool {
	return strings.HasPrefix(commandName(cmd)+" ", name+" ")
}

// shownFlag returns a copy of f for the help. ko's spellings are hidden flags, so that
// shells do not complete them, but the help lists them if shown is set.
func shownFlag(f *pflag.Flag, shown bool) *pflag.Flag {
	one := *f
	one.Hidden = f.Hidden && !shown
	if usage, ok := flagsOfCobra[f.Name]; ok {
		one.Usage = usage
	}
	return &one
}

// printUsage prints the usage of a command like cobra's template does, with grouped
// flags.
func printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		b.WriteString("\n  " + cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n  " + cmd.CommandPath() + " COMMAND [flags]")
	}
	if len(cmd.Aliases) > 0 {
		b.WriteString("\n\nAliases:\n  " + cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		b.WriteString("\n\nExamples:\n" + cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n\nCommands:")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	for _, g := range groupedFlags(cmd) {
		b.WriteString("\n\n" + g.title + ":\n" + strings.TrimRight(g.flags.FlagUsages(), "\n "))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\nRun \"%s COMMAND --help\" for the help of a command.", cmd.CommandPath())
	}
	_, err := fmt.Fprintln(cmd.OutOrStderr(), b.String())
	return err
}
