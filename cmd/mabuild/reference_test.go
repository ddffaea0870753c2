//go:generate go test -run TestReference -update .

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

// TestReference holds docs/cli-reference.md and man/ to the commands as they are;
// with -update it writes them.
func TestReference(t *testing.T) {
	root := newRoot(&app{})
	root.InitDefaultCompletionCmd()
	files := map[string][]byte{"docs/cli-reference.md": helpOfAll(t, root)}
	for _, cmd := range commands(root) {
		files["man/"+manName(cmd)+".1"] = []byte(manPage(cmd))
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
