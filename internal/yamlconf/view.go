package yamlconf

import (
	"bytes"
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// View returns the merged value as YAML, with the origin of each value as a comment after
// it. Keys without an origin are omitted, as are keys of an item of a list that have the
// origin of the same key at the top level. note returns a text that follows the origin of
// a key. Decoding the result gives the same value.
func (t *Table[T]) View(value *T, origins map[string]Origin, note func(key string) string) ([]byte, error) {
	v := viewer{origins, note}
	root := v.fields(t.fields(), reflect.ValueOf(value).Elem(), "")
	var b bytes.Buffer
	out := yaml.NewEncoder(&b)
	out.SetIndent(2)
	if err := out.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), out.Close()
}

// A viewer makes nodes of values.
type viewer struct {
	origins map[string]Origin
	note    func(key string) string
}

// fields returns a mapping of the fields of in that have an origin. Objects are always
// entered and omitted if they turn out empty.
func (v *viewer) fields(fields []*Field, in reflect.Value, prefix string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		var n *yaml.Node
		key := scalar(f.Key)
		at := in.FieldByIndex(f.index)
		origin, known := v.origins[prefix+f.Path]
		switch {
		case f.kind == object:
			n = v.fields(f.elem, in, prefix)
		case !known || v.inherited(prefix, f, origin) || f.Trust == People && origin.Kind == FromDefault:
			continue
		default:
			n = v.value(f, at, prefix+f.Path)
			beside(key, n).LineComment = origin.String()
			// The items of a list of objects have comments themselves.
			if f.kind != objects {
				beside(key, n).LineComment += v.note(prefix + f.Path)
			}
		}
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 && f.kind == object {
			continue
		}
		m.Content = append(m.Content, key, n)
	}
	return m
}

// inherited reports whether an item takes the value from the top level: the origin is the
// same then, with the same line.
func (v *viewer) inherited(prefix string, f *Field, origin Origin) bool {
	return prefix != "" && v.origins[f.Path] == origin
}

// beside returns the node whose line comment is printed on the first line of the value:
// the value if it is on one line, otherwise the key.
func beside(key, value *yaml.Node) *yaml.Node {
	if value.Kind == yaml.ScalarNode || value.Style == yaml.FlowStyle {
		return value
	}
	return key
}

// value returns the node of the value at of field f. It reads through the same fields
// as the decoder. Maps are sorted by key.
func (v *viewer) value(f *Field, at reflect.Value, path string) *yaml.Node {
	switch f.kind {
	case texts:
		return flow(at.Interface().([]string))
	case pairs:
		return pairsNode(at.Interface().(map[string]string))
	case lists:
		m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, key := range slices.SortedFunc(slices.Values(at.MapKeys()), compareText) {
			m.Content = append(m.Content, scalar(key.String()), flow(at.MapIndex(key).Interface().([]string)))
		}
		return m
	case partial:
		m := at.Convert(textMap).Interface().(map[string]string)
		if rest, ok := m[f.check.Rest]; ok && len(m) == 1 {
			return scalar(rest)
		}
		return pairsNode(m)
	case objects:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: block(at.Len())}
		for i := range at.Len() {
			list.Content = append(list.Content, v.item(f.elem, at.Index(i), fmt.Sprintf("%s[%d].", path, i)))
		}
		return list
	case dict:
		m := &yaml.Node{Kind: yaml.MappingNode, Style: block(at.Len())}
		for _, key := range slices.SortedFunc(slices.Values(at.MapKeys()), compareText) {
			m.Content = append(m.Content, scalar(key.String()), plainFields(f.elem, at.MapIndex(key)))
		}
		return m
	case boolean:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(at.Bool())}
	case number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(at.Int(), 10)}
	}
	return scalar(textOf(at))
}

// block returns the style of a list or map with n entries: one entry per line, or [] if
// it is empty.
func block(n int) yaml.Style {
	if n == 0 {
		return yaml.FlowStyle
	}
	return 0
}

// item returns the node of an element of a list. An element whose keys have origins shows
// them, as it was merged. Others are shown completely.
func (v *viewer) item(fields []*Field, at reflect.Value, prefix string) *yaml.Node {
	merged := func(f *Field) bool { _, known := v.origins[prefix+f.Path]; return known }
	if slices.ContainsFunc(leaves(fields), merged) {
		return v.fields(fields, at, prefix)
	}
	return plainFields(fields, at)
}

// plainFields returns a mapping of the fields that are not zero, on one line, without
// origins.
func plainFields(fields []*Field, in reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, f := range fields {
		if at := in.FieldByIndex(f.index); !at.IsZero() {
			m.Content = append(m.Content, scalar(f.Key), (&viewer{}).value(f, at, ""))
		}
	}
	return m
}

// pairsNode returns a map on one line, sorted by key.
func pairsNode(t map[string]string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, key := range slices.Sorted(maps.Keys(t)) {
		m.Content = append(m.Content, scalar(key), scalar(t[key]))
	}
	return m
}

// flow returns a list of texts on one line.
func flow(items []string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range items {
		list.Content = append(list.Content, scalar(s))
	}
	return list
}

// scalar returns the node of a text, quoted if YAML would otherwise read another type.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if err := n.Encode(s); err != nil { // strings always encode
		panic(err)
	}
	return n
}

// Quote returns a text as YAML writes it on one line: in quotes if it would otherwise be
// read as something else.
func Quote(s string) string {
	n := scalar(s)
	if strings.ContainsFunc(s, unicode.IsControl) {
		n.Style = yaml.DoubleQuotedStyle // not as a block of lines
	}
	b, err := yaml.Marshal(n)
	if err != nil { // strings always encode
		panic(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

// textOf returns the text of a string, or of a value that marshals to text.
func textOf(at reflect.Value) string {
	if m, ok := at.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return at.String()
}

// compareText orders map keys, which are strings.
func compareText(a, b reflect.Value) int {
	return bytes.Compare([]byte(a.String()), []byte(b.String()))
}
