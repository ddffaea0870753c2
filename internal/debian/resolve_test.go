package debian

import (
	"fmt"
	"strings"
	"testing"
)

// index makes an index of paragraphs without the fields that all of them have.
func index(t *testing.T, texts ...string) *Index {
	t.Helper()
	x := &Index{Architecture: "arm64", From: "archive"}
	var all strings.Builder
	for _, text := range texts {
		name, rest, _ := strings.Cut(text, "\n")
		name, version, versioned := strings.Cut(name, " ")
		if !versioned {
			version = "1.0"
		}
		fmt.Fprintf(&all, "Package: %s\nVersion: %s\nArchitecture: arm64\nFilename: pool/%s.deb\nSHA256: %s\n%s\n\n", name, version, name, strings.Repeat("ab", 32), rest)
	}
	if err := x.add(strings.NewReader(all.String())); err != nil {
		t.Fatal(err)
	}
	return x
}

// base makes a system of NAME=VERSION or NAME=VERSION/PROVIDES.
func base(list ...string) *System {
	s := &System{}
	for _, text := range list {
		name, version, _ := strings.Cut(text, "=")
		version, provides, _ := strings.Cut(version, "/")
		s.add(name, version, provides, true)
	}
	return s
}

// Dependencies are followed as apt does without recommended packages.
func TestResolve(t *testing.T) {
	x := index(
		t, "app\nPre-Depends: pre0\nDepends: lib0 (>= 1), left0 | right0, virtual0\nRecommends: never0", "pre0", "lib0", "left0", "right0", "never0",
		"low0\nProvides: virtual0\nPriority: optional", "high0\nProvides: virtual0\nPriority: important", "also0\nProvides: virtual0\nPriority: important",
		"missing0\nDepends: gone0", "second0\nDepends: gone0 | right0", "loop0\nDepends: loop1", "loop1\nDepends: loop0 (= 1.0)",
		"old0\nDepends: lib0 (>= 2)", "new0\nDepends: lib0 (>= 2) | right0", "double0 1.0", "double0 1.2", "double0 1.1", "wants0\nDepends: double0",
		"versioned0\nDepends: api0 (>= 2)", "api-one0\nProvides: api0 (= 1)", "api-two0\nProvides: api0 (= 2.1)", "plain0\nProvides: api0",
		"any0\nDepends: lib0:any, right0:arm64", "foreign0\nDepends: right0:amd64",
		"fight0\nConflicts: right0\nDepends: right0", "self0\nProvides: mta0\nConflicts: mta0", "other0\nProvides: mta0\nConflicts: mta0", "breaks0\nBreaks: lib0 (<< 1.5)\nDepends: lib0",
	)
	for _, c := range []struct {
		install string
		base    []string
		want    string
	}{
		{"app", nil, "also0 app left0 lib0 pre0"},
		{"app", []string{"right0=1", "lib0=3", "x0=1/virtual0"}, "app pre0"},
		{"app right0", nil, "also0 app lib0 pre0 right0"}, // of the alternatives, one is there
		{"app", []string{"app=0"}, ""},
		{"second0", nil, "right0 second0"},
		{"loop0", nil, "loop0 loop1"},
		{"wants0", nil, "double0=1.2 wants0"},
		{"versioned0", nil, "api-two0 versioned0"},
		{"versioned0", []string{"b0=1/api0 (= 3)"}, "versioned0"},
		{"any0", nil, "any0 lib0 right0"},
		{"new0", []string{"lib0=1"}, "new0 right0"},
		{"self0", nil, "self0"},
		{"missing0", nil, "missing0 1.0 depends on gone0, which archive does not have for arm64"},
		{"foreign0", nil, "foreign0 1.0 depends on right0, which archive does not have for arm64"},
		{"old0", []string{"lib0=1.5"}, "old0 1.0 depends on lib0 (>= 2), but the base image has lib0 1.5"},
		{"lib0 old0", nil, "old0 1.0 depends on lib0 (>= 2), but lib0 1.0 is installed, too"},
		{"aap", nil, "archive has no package aap for arm64"},
		{"virtual0", nil, "archive has no package virtual0 for arm64"},
		{"fight0", nil, "fight0 1.0 conflicts with right0, and right0 1.0 is installed, too"},
		{"self0 other0", nil, "other0 1.0 conflicts with mta0, which self0 1.0 provides\nself0 1.0 conflicts with mta0, which other0 1.0 provides"},
		{"self0", []string{"postfix0=1/mta0"}, "self0 1.0 conflicts with mta0, which postfix0 1 provides"},
		{"breaks0", []string{"lib0=1.4"}, "breaks0 1.0 conflicts with lib0 (<< 1.5), and the base image has lib0 1.4"},
		{"breaks0", []string{"lib0=1.5"}, "breaks0"},
	} {
		list, err := x.Resolve(strings.Fields(c.install), base(c.base...))
		var got []string
		for _, p := range list {
			name := p.Name
			if p.Version != "1.0" {
				name += "=" + p.Version
			}
			got = append(got, name)
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s on %q:\n%s, want\n%s", c.install, c.base, text, c.want)
		}
	}
}

// A package of an index that cannot be used makes it invalid.
func TestBadIndex(t *testing.T) {
	good := "Package: a0\nVersion: 1\nArchitecture: arm64\nFilename: pool/a.deb\nSHA256: " + strings.Repeat("ab", 32) + "\n"
	for from, to := range map[string]string{
		"a0": "../a", "Version: 1": "Version: 1 2", "Version: ": "Other: ", "arm64": "ARM/64", "pool/a.deb": "../a.deb", "abab": "ABAB", "Filename: pool": "Filename: /pool",
		"a.deb": "a.deb?x", "pool/": "pool//", "SHA256": "SHA1", "Architecture: arm64": "Architecture: arm64\nProvides: (",
	} {
		x := Index{Architecture: "arm64"}
		if err := x.add(strings.NewReader(strings.Replace(good, from, to, 1))); err == nil {
			t.Errorf("%s in place of %s is no error", to, from)
		}
	}
	if err := (&Index{Architecture: "arm64"}).add(strings.NewReader(good)); err != nil {
		t.Error(err)
	}
}

// The databases of a base list what is installed, for the architecture of the image.
func TestAddBase(t *testing.T) {
	text := `Package: a0
Status: install ok installed
Version: 1
Architecture: arm64
Provides: x0 (= 3),
 y0
Description: long
 text

Package: removed0
Status: deinstall ok config-files
Version: 1
Architecture: arm64

Package: foreign0
Status: install ok installed
Version: 1
Architecture: armhf

Package: all0
Version: 2
Architecture: all
`
	short, err := Condense(strings.NewReader(text), 1000)
	s := &System{}
	if err != nil || s.AddBase(short, "arm64") != nil {
		t.Fatal(short, err)
	}
	for name, want := range map[string]bool{"a0": true, "removed0": false, "foreign0": false, "all0": true} {
		if s.Has(name) != want {
			t.Errorf("%s: %t", name, s.Has(name))
		}
	}
	if !s.satisfies(relation{name: "x0", op: ">=", version: "2"}) || !s.satisfies(relation{name: "y0"}) {
		t.Error("what is provided is not there")
	}
	if _, err := Condense(strings.NewReader(text), 50); err == nil {
		t.Error("no limit")
	}
	for name, want := range map[string]bool{
		"var/lib/dpkg/status": true, "var/lib/dpkg/status.d/a": true, "var/lib/dpkg/status.d/a.md5sums": false, "var/lib/dpkg/status-old": false, "var/lib/dpkg/status.d/a/b": false,
	} {
		if IsStatus(name) != want {
			t.Errorf("%s: %t", name, IsStatus(name))
		}
	}
}
