package yamlconf

import (
	"cmp"
	"slices"
	"strings"
)

// Initial returns an initial file that begins with the comment head: every key, below its
// description, apart from those that only people may set. A key with a default is set to
// it. The others are commented out by a # without a space, as opposed to "# " of
// descriptions, so that an editor or a test can enable them; the file loads in both
// forms. A heading begins with ##. shown are the keys that are set to their example all the same. A list of objects
// among them has one item, without the keys that the top level has too.
func (t *Table[T]) Initial(head string, shown ...string) []byte {
	lines := []string{head}
	off := func(f *Field) bool { return !slices.Contains(shown, f.Key) }
	var group string
	for _, f := range t.fields() {
		group = cmp.Or(f.group, group)
		if f.ofPeople() {
			continue
		}
		if group != "" {
			lines, group = append(lines, "", "## "+group), ""
		}
		lines = append(lines, "", "# "+f.Doc)
		switch {
		case f.kind == objects && !off(f):
			own := slices.DeleteFunc(slices.Clone(f.elem), func(e *Field) bool {
				return slices.ContainsFunc(t.fields(), func(above *Field) bool { return above.Key == e.Key })
			})
			entry := documented(own, off)
			lines = append(lines, f.Key+":", "  "+entry[0])
			lines = append(lines, indent("  - ", "    ", entry[1:])...)
		case f.initial != "" || !off(f):
			lines = append(lines, f.sample()...)
		default:
			lines = append(lines, indent("#", "#", f.sample())...)
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// ofPeople reports whether a file of the tree may not set a key at all, or none of the
// keys within it.
func (f *Field) ofPeople() bool {
	if f.elem == nil {
		return f.Trust == People
	}
	return !slices.ContainsFunc(f.elem, func(e *Field) bool { return !e.ofPeople() })
}

// sample returns the lines of YAML that show how a field is written: with its default or
// example. The first line begins with the key.
func (f *Field) sample() []string {
	switch f.kind {
	case object:
		if i := slices.IndexFunc(f.elem, func(e *Field) bool { return e.Key == f.short }); i >= 0 {
			return []string{f.Key + ": " + f.elem[i].example}
		}
		if len(f.elem) == 1 && f.elem[0].elem == nil {
			return []string{f.Key + ": {" + f.elem[0].sample()[0] + "}"}
		}
		return append([]string{f.Key + ":"}, indent("  ", "  ", documented(f.elem, nil))...)
	// The first three keys are enough to show the form.
	case objects:
		var below []string
		for _, e := range f.elem[:min(3, len(f.elem))] {
			below = append(below, e.sample()...)
		}
		return append([]string{f.Key + ":"}, indent("  - ", "    ", below)...)
	case dict:
		below := append([]string{f.example + ":"}, indent("  ", "  ", documented(f.elem, nil))...)
		return append([]string{f.Key + ":"}, indent("  ", "  ", below)...)
	case pairs, lists:
		return []string{f.Key + ": {" + f.example + "}"}
	case boolean:
		return []string{f.Key + ": true"}
	case texts:
		if f.initial != "" {
			return []string{f.Key + ": [" + strings.ReplaceAll(f.initial, ",", ", ") + "]"}
		}
	}
	return []string{f.Key + ": " + f.initial + f.example}
}

// documented returns the lines of YAML for fields, each below its description. Those for
// which off returns true are commented out by a # without a space. off may be nil.
func documented(fields []*Field, off func(*Field) bool) []string {
	var lines []string
	for _, f := range fields {
		lines = append(lines, "# "+f.Doc)
		switch {
		case off != nil && off(f):
			lines = append(lines, indent("#", "#", f.sample())...)
		case off != nil && f.kind == object:
			lines = append(append(lines, f.Key+":"), indent("  ", "  ", documented(f.elem, off))...)
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
