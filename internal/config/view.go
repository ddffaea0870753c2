package config

import (
	"bytes"
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// View returns the merged configuration as YAML, with the origin of each value as a
// comment after it. Keys that are not set and have no default are omitted, as are
// settings that a build takes from the top level. Values that a file of the tree is not
// allowed to set are marked. Loading the result as a file gives the same configuration.
func (c *Config) View() ([]byte, error) {
	root := c.viewFields(describe(reflect.TypeFor[Config]()), reflect.ValueOf(c).Elem(), "")
	var b bytes.Buffer
	out := yaml.NewEncoder(&b)
	out.SetIndent(2)
	if err := out.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), out.Close()
}

// refusal returns a text if the value of a key, or an item of it, is refused; otherwise
// "".
func (c *Config) refusal(key string) (text string) {
	for _, p := range c.Refused {
		if below, ok := strings.CutPrefix(p.Key, key); ok && (below == "" || below[0] == '[') {
			text += ", refused: " + strings.TrimPrefix(below+": ", ": ") + shorten(p.Err.Error())
		}
	}
	return text
}

// viewFields returns a mapping of the fields of in that have an origin. Objects are always
// entered and omitted if they turn out empty.
func (c *Config) viewFields(fields []*field, in reflect.Value, prefix string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		var n *yaml.Node
		key := scalar(f.key)
		at := in.FieldByIndex(f.index)
		origin, known := c.origins[prefix+f.path]
		switch {
		case f.kind == object:
			n = c.viewFields(f.elem, in, prefix)
		case !known || c.inherited(prefix, f, origin) || f.trust == trustPeople && origin.Kind == FromDefault:
			continue
		default:
			n = c.viewValue(f, at, prefix+f.path)
			beside(key, n).LineComment = origin.String()
			// The items of a list of objects have comments themselves.
			if f.kind != objects {
				beside(key, n).LineComment += c.refusal(prefix + f.path)
			}
		}
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 && f.kind == object {
			continue
		}
		m.Content = append(m.Content, key, n)
	}
	return m
}

// inherited reports whether a build takes the value from the top level: the origin is the
// same then, with the same line.
func (c *Config) inherited(prefix string, f *field, origin Origin) bool {
	return prefix != "" && c.origins[f.path] == origin
}

// beside returns the node whose line comment is printed on the first line of the value:
// the value if it is on one line, otherwise the key.
func beside(key, value *yaml.Node) *yaml.Node {
	if value.Kind == yaml.ScalarNode || value.Style == yaml.FlowStyle {
		return value
	}
	return key
}

// viewValue returns the node of the value at of field f. It reads through the same fields
// as the decoder. Maps are sorted by key.
func (c *Config) viewValue(f *field, at reflect.Value, path string) *yaml.Node {
	switch f.kind {
	case texts:
		return flow(at.Interface().([]string))
	case pairs:
		return perPlatformNode(PerPlatform(at.Interface().(map[string]string)))
	case lists:
		m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, key := range slices.SortedFunc(slices.Values(at.MapKeys()), compareText) {
			m.Content = append(m.Content, scalar(key.String()), flow(at.MapIndex(key).Interface().([]string)))
		}
		return m
	case perPlatform:
		return perPlatformNode(at.Interface().(PerPlatform))
	case objects:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: block(at.Len())}
		for i := range at.Len() {
			list.Content = append(list.Content, c.viewItem(f.elem, at.Index(i), fmt.Sprintf("%s[%d].", path, i)))
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

// viewItem returns the node of an element of a list. A build shows its origins; other
// elements are shown completely, since their fields have none.
func (c *Config) viewItem(fields []*field, at reflect.Value, prefix string) *yaml.Node {
	if at.Type() == reflect.TypeFor[Build]() {
		return c.viewFields(fields, at, prefix)
	}
	return plainFields(fields, at)
}

// plainFields returns a mapping of the fields that are not zero, on one line, without
// origins.
func plainFields(fields []*field, in reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, f := range fields {
		if at := in.FieldByIndex(f.index); !at.IsZero() {
			m.Content = append(m.Content, scalar(f.key), (&Config{}).viewValue(f, at, ""))
		}
	}
	return m
}

// perPlatformNode returns a scalar if the text is the same for all platforms, otherwise a
// map.
func perPlatformNode(t PerPlatform) *yaml.Node {
	if _, ok := t[everyPlatform]; ok && len(t) == 1 {
		return scalar(t[everyPlatform])
	}
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
