package kube

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/hint"
)

// Schemes begin a string that stands for the image of a program. The second is that of ko.
var Schemes = []string{"mabuild://", "ko://"}

// NamesProgram reports whether text begins with one of [Schemes].
func NamesProgram(text string) bool {
	return slices.ContainsFunc(Schemes, func(scheme string) bool { return strings.HasPrefix(text, scheme) })
}

// A Program is a string of a stream that names a program, in place of its image.
type Program struct {
	Doc  *Document
	Node *yaml.Node
	Name string // without the scheme
}

// Programs returns the strings of the file that begin with one of [Schemes], in any place.
// A string that has a scheme in its middle is an error: no part of Kubernetes would resolve
// it.
func (f *File) Programs() (found []Program, err error) {
	var wrong []string
	for _, doc := range f.Docs {
		every(doc.Root, func(n *yaml.Node) {
			if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "://") {
				return
			}
			for _, scheme := range Schemes {
				name, begins := strings.CutPrefix(n.Value, scheme)
				switch {
				case begins && strings.TrimSpace(name) != "" && !strings.ContainsAny(strings.TrimRight(name, "\n"), " \t\n"):
					found = append(found, Program{doc, n, strings.TrimRight(name, "\n")})
				case strings.Contains(n.Value, scheme) && (begins || !inWord(n.Value, scheme)):
					wrong = append(wrong, doc.Position(n).String())
				default:
					continue
				}
				return
			}
		})
	}
	if len(wrong) > 0 {
		err = hint.New(hint.Usage, "a reference must be the whole string; --allow-unresolved leaves the others as they are", "%s: the string has %s in its middle, or names no program", strings.Join(wrong, ", "), strings.Join(Schemes, " or "))
	}
	return found, err
}

// inWord reports whether a scheme only ends a longer word, as in gecko://.
func inWord(s, scheme string) bool {
	at := strings.Index(s, scheme)
	if at <= 0 {
		return false
	}
	c := s[at-1]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-'
}

// Replace returns the edit that writes a reference in place of p.
func (p Program) Replace(reference string) Edit {
	return Edit{p.Doc, p.Node, []Patch{{"replace", nil, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: reference, Style: p.Node.Style}}}}
}

// A Selector selects objects by their labels, as kubectl -l does. The zero value selects
// all.
type Selector []Requirement

// ParseSelector parses a selector: KEY=VALUE, KEY==VALUE, KEY!=VALUE, KEY in (A,B), KEY notin
// (A,B), KEY and !KEY, joined by commas.
func ParseSelector(text string) (Selector, error) {
	var s Selector
	for _, part := range splitSelector(text) {
		part = strings.TrimSpace(part)
		r := Requirement{Operator: "Exists"}
		fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(part))
		switch {
		case len(fields) > 3 && (fields[1] == "in" || fields[1] == "notin") && fields[2] == "(" && fields[len(fields)-1] == ")":
			r.Key, r.Operator = fields[0], map[string]string{"in": "In", "notin": "NotIn"}[fields[1]]
			r.Values = strings.Split(strings.Join(fields[3:len(fields)-1], ""), ",")
		case strings.HasPrefix(part, "!") && !strings.Contains(part, "="):
			r.Key, r.Operator = strings.TrimSpace(part[1:]), "DoesNotExist"
		case strings.Contains(part, "!="):
			key, value, _ := strings.Cut(part, "!=")
			r = Requirement{Key: strings.TrimSpace(key), Operator: "NotIn", Values: []string{strings.TrimSpace(value)}}
		case strings.Contains(part, "="):
			key, value, _ := strings.Cut(part, "=")
			r = Requirement{Key: strings.TrimSpace(key), Operator: "In", Values: []string{strings.TrimSpace(strings.TrimPrefix(value, "="))}}
		default:
			r.Key = part
		}
		if r.Key == "" || strings.ContainsAny(r.Key+strings.Join(r.Values, ""), " ()=!,") {
			return nil, hint.New(hint.Usage, "for example app=web,tier!=test", "%q is not a label selector", text)
		}
		s = append(s, r)
	}
	return s, nil
}

// splitSelector splits at the commas outside of parentheses.
func splitSelector(text string) []string {
	var parts []string
	depth, from := 0, 0
	for i, c := range text {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts, from = append(parts, text[from:i]), i+1
		}
	}
	return append(parts, text[from:])
}

// Select returns the data of the documents whose object matches, each in its own bytes. A
// list must match in all its objects or in none.
func (f *File) Select(s Selector) ([]byte, error) {
	if len(s) == 0 {
		return f.Data, nil
	}
	var out []byte
	for _, doc := range f.Docs {
		matching := 0
		objects := doc.Objects()
		for _, object := range objects {
			if s.matches(object) {
				matching++
			}
		}
		switch {
		case matching == 0:
			continue
		case matching < len(objects):
			return nil, hint.New(hint.Usage, "write its objects as documents", "%s: only some objects of this list match the selector", doc.Position(doc.Root))
		}
		if len(out) > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, doc.text()...)
	}
	return out, nil
}

// matches reports whether the labels of an object meet all requirements.
func (s Selector) matches(object *yaml.Node) bool {
	labels := stringMap(at(object, "metadata", "labels"))
	return !slices.ContainsFunc(s, func(r Requirement) bool {
		value, exists := labels[r.Key]
		return holds(r, value, exists) == No
	})
}

// text returns the bytes of the document with a line break at their end.
func (d *Document) text() []byte {
	data := d.File.Data[d.start:d.end]
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = fmt.Appendf(nil, "%s\n", data)
	}
	return data
}
