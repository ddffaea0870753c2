// This test checks the commands in the documentation.
package mabuild_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The make targets and tests that the documentation names exist.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	read := func(file string) []byte {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	exists, makefile := declared(t, true), read("Makefile")
	var targets, tests int
	for _, file := range append(documents, "README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md") {
		text := read(file)
		for _, m := range regexp.MustCompile("(?m)(?:`|^)make ([a-z0-9/]+)").FindAllSubmatch(text, -1) {
			if targets++; !regexp.MustCompile(`(?m)^(\$\(BIN\)/|bin/)?` + regexp.QuoteMeta(filepath.Base(string(m[1]))) + `:`).Match(makefile) {
				t.Errorf("%s: there is no make %s", file, m[1])
			}
		}
	names:
		for _, m := range regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z]+\b`).FindAll(text, -1) {
			tests++
			for name := range exists { // -run also matches a prefix of a name
				if strings.HasPrefix(name, string(m)) {
					continue names
				}
			}
			t.Errorf("%s: there is no %s", file, m)
		}
	}
	if targets < 10 || tests < 20 {
		t.Errorf("only %d targets and %d tests were found", targets, tests)
	}
}
