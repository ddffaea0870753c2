package config

import (
	"bytes"
	"reflect"
	"strings"
)

// Init returns a [FileName] to begin with: every key of the top level with what
// it is for. What has a default stands there with it; all else is commented out
// by a # without a space, and the file loads with and without those.
func Init() []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of mabuild. Every key may be left out.\n" +
		"# Flags beat variables (MABUILD_REPO, ...), which beat this file.\n")
	for _, f := range describe(reflect.TypeFor[Config]()) {
		mark := "#"
		if f.initial != "" {
			mark = ""
		}
		b.WriteString("\n# " + f.doc + "\n")
		for _, line := range f.sample() {
			b.WriteString(mark + line + "\n")
		}
	}
	return b.Bytes()
}

// sample returns the lines of YAML that show how a field is written.
func (f *field) sample() []string {
	switch f.kind {
	case object:
		var below []string
		for _, e := range f.elem {
			below = append(append(below, "# "+e.doc), e.sample()...)
		}
		return append([]string{f.key + ":"}, indent("  ", "  ", below)...)
	case objects: // the first keys tell enough
		var below []string
		for _, e := range f.elem[:min(3, len(f.elem))] {
			below = append(below, e.sample()...)
		}
		return append([]string{f.key + ":"}, indent("  - ", "    ", below)...)
	case dict:
		below := append([]string{f.example + ":"}, indent("  ", "  ", f.elem[0].sample())...)
		return append([]string{f.key + ":"}, indent("  ", "  ", below)...)
	case boolean:
		return []string{f.key + ": true"}
	case texts:
		if f.initial != "" {
			return []string{f.key + ": [" + strings.ReplaceAll(f.initial, ",", ", ") + "]"}
		}
	}
	return []string{f.key + ": " + f.initial + f.example}
}

// indent puts first before the first line and rest before the others.
func indent(first, rest string, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = rest + line
		if i == 0 {
			out[i] = first + line
		}
	}
	return out
}
