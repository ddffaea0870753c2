// This test checks the commands in the documentation.
package mabuild_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// The files and headings to which the documentation links exist.
func TestLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	var links int
	for _, file := range documentsOf(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllSubmatch(text, -1) {
			target, anchor, anchored := strings.Cut(string(m[1]), "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			to := filepath.Join(filepath.Dir(file), target)
			if target == "" {
				to = file
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, m[1])
				continue
			}
			if anchors[to] == nil && anchored {
				anchors[to] = anchorsOf(t, to)
			}
			if anchored && !anchors[to][anchor] {
				t.Errorf("%s links to %s, but %s has no such heading", file, m[1], to)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// docs/hybrid-cluster.md shows the commands that its walk runs, in this order. .ci/e2e-walk
// compares the output, too.
func TestWalkRunsThePage(t *testing.T) {
	page, err := os.ReadFile("docs/hybrid-cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	walk, err := os.ReadFile("examples/hybrid-cluster/walk.sh")
	if err != nil {
		t.Fatal(err)
	}
	var shown, run []string
	for _, block := range regexp.MustCompile("(?ms)^```console.*?\n(.*?)^```$").FindAllSubmatch(page, -1) {
		for _, m := range regexp.MustCompile(`(?m)^\$ ((?:.*\\\n)*.*)$`).FindAllSubmatch(block[1], -1) {
			shown = append(shown, string(m[1]))
		}
	}
	for _, m := range regexp.MustCompile(`(?ms)^\trun.*? <<-'SH'\n(.*?)\n\tSH$`).FindAllSubmatch(walk, -1) {
		run = append(run, strings.ReplaceAll(strings.TrimPrefix(string(m[1]), "\t\t"), "\n\t\t", "\n"))
	}
	if len(run) < 20 {
		t.Errorf("only %d commands were found in walk.sh", len(run))
	}
	if !slices.Equal(shown, run) {
		t.Errorf("the page shows\n%s\nand walk.sh runs\n%s", strings.Join(shown, "\n"), strings.Join(run, "\n"))
	}
}

// README.md is short, and its digests are those that the tests of build hold.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines >= 150 {
		t.Errorf("README.md has %d lines, want less than 150", lines)
	}
	tests, err := os.ReadFile("build/image_test.go")
	if err != nil {
		t.Fatal(err)
	}
	digests := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindAllString(string(text), -1)
	for _, digest := range digests {
		if !strings.Contains(string(tests), digest) {
			t.Errorf("no test holds %s", digest)
		}
	}
	if len(digests) < 2 {
		t.Errorf("README.md has %d digests, want two", len(digests))
	}
}

// documentsOf returns the files of the documentation.
func documentsOf(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	return all
}

// anchorsOf returns the anchors that GitHub gives the headings of a file.
func anchorsOf(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAll(text, nil)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		// Letters, digits, - and _ stay, a blank becomes -, and nothing else is left.
		slug := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		slug = regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(slug, "")
		anchor := slug
		for n := 1; all[anchor]; n++ {
			anchor = fmt.Sprintf("%s-%d", slug, n)
		}
		all[anchor] = true
	}
	return all
}
