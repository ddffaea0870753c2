package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan returns the command man.
func newMan(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `Write the manual pages of all commands into DIR, which is created. The path of each
page is printed. man finds them in DIR if DIR is man1 in a directory of MANPATH.`,
		Example: `  mabuild man ~/.local/share/man/man1
  man mabuild-push`,
		Args: exactlyOne("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.ContainsFunc(cmd.Root().Commands(), func(c *cobra.Command) bool { return c.Name() == args[0] }) {
				return usage("mabuild "+args[0]+" --help, or man mabuild-"+args[0]+"; a directory of this name is ./"+args[0], "man %s: names a command, not a directory", args[0])
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return usage("name a directory that you may write to", "%s", err)
			}
			for _, of := range commands(cmd.Root()) {
				file := filepath.Join(args[0], manName(of)+".1")
				if err := replaceFile(file, []byte(manPage(of))); err != nil {
					return err
				}
				if _, err := fmt.Fprintln(a.stdout, plainLines(file)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// manName returns the name of the manual page of a command.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage returns the manual page of a command (man-pages(7), man(7)). It has no date, so it
// changes only with the command.
func manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	fmt.Fprintf(&b, ".nh\n.TH %q 1 \"\" mabuild mabuild\n", strings.ToUpper(manName(cmd)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fP\n", roff(cmd.UseLine()))
	if cmd.Long != "" {
		b.WriteString(".SH DESCRIPTION\n")
		for paragraph := range strings.SplitSeq(cmd.Long, "\n\n") {
			if strings.HasPrefix(paragraph, "  ") {
				fmt.Fprintf(&b, ".EX\n%s\n.EE\n", roff(paragraph))
				continue
			}
			fmt.Fprintf(&b, ".PP\n%s\n", roff(paragraph))
		}
	}
	manOptions(&b, cmd)
	b.WriteString(manExitStatus)
	if !cmd.HasParent() {
		b.WriteString(manEnvironment)
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLE\n.EX\n%s\n.EE\n", roff(cmd.Example))
	}
	var others []string
	if cmd.HasParent() {
		others = append(others, roff(manName(cmd.Parent())))
	}
	for _, sub := range cmd.Commands() {
		if visible(sub) {
			others = append(others, roff(manName(sub)))
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fP(1)\n", strings.Join(others, "\\fP(1), \\fB"))
	return b.String()
}

// roff escapes a text, whose lines may not begin as requests do. A bare - is a hyphen for some
// formatters, which a shell does not read as a minus.
func roff(text string) string {
	lines := strings.Split(strings.TrimRight(strings.NewReplacer(`\`, `\e`, "…", "...", "-", `\-`).Replace(text), "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// manOptions writes the section of a manual page about flags, in the groups of the help.
func manOptions(b *strings.Builder, cmd *cobra.Command) {
	b.WriteString(".SH OPTIONS\n")
	for _, g := range groupedFlags(cmd) {
		b.WriteString(".SS " + g.title + "\n")
		g.flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name, usage := pflag.UnquoteUsage(f)
			b.WriteString(".TP\n")
			if f.Shorthand != "" {
				b.WriteString(`\fB\-` + f.Shorthand + `\fP, `)
			}
			b.WriteString(`\fB\-\-` + roff(f.Name) + `\fP`)
			if name != "" && f.NoOptDefVal == "" {
				b.WriteString(` \fI` + name + `\fP`)
			}
			b.WriteString("\n" + roff(usage) + "\n")
		})
	}
}

// visible reports whether a command is listed in the help and has a manual page.
func visible(cmd *cobra.Command) bool { return cmd.IsAvailableCommand() && cmd.Name() != "help" }

// commands returns root and all visible commands below it.
func commands(root *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		if visible(cmd) {
			list = append(list, commands(cmd)...)
		}
	}
	return list
}

// The sections of a manual page that man-pages(7) asks for. docs/errors.md and docs/cli.md say
// more.
const (
	manExitStatus = `.SH EXIT STATUS
0 success; 1 the build failed, or something that was required does not hold; 2 usage or configuration; 3 credentials;
4 registry or network; 5 content contradicts its digest; 6 some targets are complete and others failed; 130 and 143
after an interrupt.
`
	manEnvironment = `.SH ENVIRONMENT
.TP
\fBMABUILD_*\fP
Each key of .mabuild.yaml has a variable, such as MABUILD_REPO. mabuild config view prints all values and where they
come from.
.TP
\fBDOCKER_CONFIG\fP, \fBREGISTRY_AUTH_FILE\fP
The directory of Docker's config.json and the file of Podman, for credentials.
.TP
\fBSOURCE_DATE_EPOCH\fP
The time of images and files, in seconds.
.TP
\fBHTTPS_PROXY\fP, \fBHTTP_PROXY\fP, \fBNO_PROXY\fP
Proxies.
.TP
\fBNO_COLOR\fP
No colours.
`
)
