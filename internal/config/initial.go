package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
)

// Init returns the initial [FileName]: every key of the top level that such a file may
// set, below its description. A key with a default is set to it. The others are commented
// out by a # without a space, as opposed to "# " of descriptions, so that an editor or a
// test can enable them; the file loads in both forms.
func Init() []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of mabuild. All keys are optional.\n" +
		"# Flags beat variables (MABUILD_REPO, ...), which beat this file.\n" +
		"# Trust of registries and the location of the cache are set in " + userFileName() + ".\n")
	for _, f := range describe(reflect.TypeFor[Config]()) {
		if f.ofPeople() {
			continue
		}
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

// ofPeople reports whether a file of the tree may not set a key at all, or none of the
// keys within it.
func (f *field) ofPeople() bool {
	if f.elem == nil {
		return f.trust == trustPeople
	}
	return !slices.ContainsFunc(f.elem, func(e *field) bool { return !e.ofPeople() })
}

// MirrorInit returns the initial [MirrorFileName]: one entry and, commented out as in
// Init, all other keys. Keys that an entry shares with the top level are only shown
// there.
func MirrorInit() []byte {
	lines := []string{"# Configuration of mabuild mirror. Only entries is required."}
	top := describe(reflect.TypeFor[Mirror]())
	above := describe(reflect.TypeFor[MirrorSettings]())
	for _, f := range top {
		lines = append(lines, "", "# "+f.doc)
		if f.kind != objects {
			lines = append(lines, indent("#", "#", f.sample())...)
			continue
		}
		own := slices.DeleteFunc(slices.Clone(f.elem), func(e *field) bool {
			return slices.ContainsFunc(above, func(s *field) bool { return s.key == e.key })
		})
		off := func(e *field) bool {
			return !slices.Contains([]string{"name", "source", "target", "tags", "exact"}, e.key)
		}
		entry := documented(own, off)
		lines = append(lines, f.key+":", "  "+entry[0])
		lines = append(lines, indent("  - ", "    ", entry[1:])...)
		lines = append(lines, "    # An entry may also have the top-level keys from every to backup.")
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// sample returns the lines of YAML that show how a field is written: with its default or
// example. The first line begins with the key.
func (f *field) sample() []string {
	switch f.kind {
	case object:
		if i := slices.IndexFunc(f.elem, func(e *field) bool { return e.key == f.short }); i >= 0 {
			return []string{f.key + ": " + f.elem[i].example}
		}
		if len(f.elem) == 1 {
			return []string{f.key + ": {" + f.elem[0].sample()[0] + "}"}
		}
		return append([]string{f.key + ":"}, indent("  ", "  ", documented(f.elem, nil))...)
	// The first three keys are enough to show the form.
	case objects:
		var below []string
		for _, e := range f.elem[:min(3, len(f.elem))] {
			below = append(below, e.sample()...)
		}
		return append([]string{f.key + ":"}, indent("  - ", "    ", below)...)
	case dict:
		below := append([]string{f.example + ":"}, indent("  ", "  ", documented(f.elem, nil))...)
		return append([]string{f.key + ":"}, indent("  ", "  ", below)...)
	case pairs, lists:
		return []string{f.key + ": {" + f.example + "}"}
	case boolean:
		return []string{f.key + ": true"}
	case texts:
		if f.initial != "" {
			return []string{f.key + ": [" + strings.ReplaceAll(f.initial, ",", ", ") + "]"}
		}
	}
	return []string{f.key + ": " + f.initial + f.example}
}

// documented returns the lines of YAML for fields, each below its description. Those for
// which off returns true are commented out by a # without a space. off may be nil.
func documented(fields []*field, off func(*field) bool) []string {
	var lines []string
	for _, f := range fields {
		lines = append(lines, "# "+f.doc)
		switch {
		case off != nil && off(f):
			lines = append(lines, indent("#", "#", f.sample())...)
		case off != nil && f.kind == object:
			lines = append(append(lines, f.key+":"), indent("  ", "  ", documented(f.elem, off))...)
		default:
			lines = append(lines, f.sample()...)
		}
	}
	return lines
}

// indent returns lines with first before the first one and rest before the others.
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
