//go:generate go test -run TestReference -update .

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// TestReference holds docs/cli-reference.md and man/ to the commands as they are;
// with -update it writes them.
func TestReference(t *testing.T) {
	root := newRoot(&app{})
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	files := map[string][]byte{"docs/cli-reference.md": helpOfAll(t, root)}
	for _, cmd := range commands(root) {
		var page bytes.Buffer
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "mabuild", Manual: "mabuild", Date: new(time.Time)}
		if err := doc.GenMan(cmd, header, &page); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(page.String(), "Jan 0001", "", 1) // no date changes a page
		before, after, _ := strings.Cut(text, ".SH OPTIONS\n")
		if _, rest, ok := strings.Cut(after, ".SH OPTIONS INHERITED FROM PARENT COMMANDS\n"); ok {
			after = rest
		}
		_, after, more := strings.Cut(after, "\n\n.SH ")
		if more {
			after = "\n.SH " + after
		}
		sections := manOptions(cmd) + manExitStatus
		if cmd == root {
			sections += manEnvironment
		}
		files["man/"+name+".1"] = []byte(before + sections + after)
	}
	for file, want := range files {
		at := filepath.Join("../..", file)
		if *update {
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(at); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not up to date (%v): go generate ./cmd/mabuild", file, err)
		}
	}
	pages, err := filepath.Glob("../../man/*")
	if err != nil || len(pages) != len(files)-1 {
		t.Errorf("%d pages, want %d (%v)", len(pages), len(files)-1, err)
	}
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

// manOptions is the section of a manual page about flags, in the groups of the help.
func manOptions(cmd *cobra.Command) string {
	var b strings.Builder
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
				b.WriteString("\\fB-" + f.Shorthand + "\\fP, ")
			}
			b.WriteString("\\fB--" + f.Name + "\\fP")
			if name != "" {
				b.WriteString(" \\fI" + name + "\\fP")
			}
			b.WriteString("\n" + usage + "\n")
		})
	}
	return b.String()
}

// commands are root and all below it that people see.
func commands(root *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" {
			list = append(list, commands(cmd)...)
		}
	}
	return list
}

// helpOfAll is the help of every command, one after another.
func helpOfAll(t *testing.T, root *cobra.Command) []byte {
	var all bytes.Buffer
	all.WriteString("# Reference of the command line\n\nWhat `mabuild COMMAND --help` prints, made by `go generate ./cmd/mabuild`. [cli.md](cli.md) explains it.\n")
	for _, cmd := range commands(root) {
		all.WriteString("\n## " + cmd.CommandPath() + "\n\n```\n")
		cmd.SetOut(&all)
		cmd.InitDefaultHelpFlag()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		all.WriteString("```\n")
	}
	return all.Bytes()
}
