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

// View returns what holds as YAML, with the origin of each value as a comment
// after it. What nobody set and has no default is left out, and so is what
// a build has from the top level. What a file of the tree may not say is marked. The
// result is a file that loads to the same.
func (c *Config) View() ([]byte, error) {
	v := viewer{origins: c.origins, refused: c.Refused}
	root := v.fields(describe(reflect.TypeFor[Config]()), reflect.ValueOf(c).Elem(), "")
	var b bytes.Buffer
	out := yaml.NewEncoder(&b)
	out.SetIndent(2)
	if err := out.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), out.Close()
}

// A viewer turns values back into YAML nodes.
type viewer struct {
	origins map[string]Origin
	refused []*Problem
}

// refusal says why the value of a key is refused, if it is.
func (v viewer) refusal(key string) (text string) {
	for _, p := range v.refused {
		if below, ok := strings.CutPrefix(p.Key, key); ok && (below == "" || below[0] == '[') {
			text += ", refused: " + strings.TrimPrefix(below+": ", ": ") + shorten(p.Err.Error())
		}
	}
	return text
}

// fields returns a mapping of those fields that something was said about.
func (v viewer) fields(fields []*field, in reflect.Value, prefix string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		var n *yaml.Node
		key := scalar(f.key)
		at := in.FieldByIndex(f.index)
		origin, known := v.origins[prefix+f.path]
		switch {
		case f.kind == object:
			n = v.fields(f.elem, in, prefix)
		case !known || v.inherited(prefix, f, origin) || f.trust == trustPeople && origin.Kind == FromDefault:
			continue
		default:
			n = v.value(f, at, prefix+f.path)
			beside(key, n).LineComment = origin.String()
			if f.kind != objects { // whose items say it themselves
				beside(key, n).LineComment += v.refusal(prefix + f.path)
			}
		}
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 && f.kind == object {
			continue
		}
		m.Content = append(m.Content, key, n)
	}
	return m
}

// inherited reports whether a build has the value from the top level.
func (v viewer) inherited(prefix string, f *field, origin Origin) bool {
	return prefix != "" && v.origins[f.path] == origin
}

// beside returns the node that ends the line on which a value begins.
func beside(key, value *yaml.Node) *yaml.Node {
	if value.Kind == yaml.ScalarNode || value.Style == yaml.FlowStyle {
		return value
	}
	return key
}

func (v viewer) value(f *field, at reflect.Value, path string) *yaml.Node {
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

// block returns the style of a list or map of n entries: one a line.
func block(n int) yaml.Style {
	if n == 0 {
		return yaml.FlowStyle
	}
	return 0
}

// item shows what stands in a list: a build with its origins, else all of it.
func (v viewer) item(fields []*field, at reflect.Value, prefix string) *yaml.Node {
	if at.Type() == reflect.TypeFor[Build]() {
		return v.fields(fields, at, prefix)
	}
	return plainFields(fields, at)
}

// plainFields returns a mapping of the fields that are not zero.
func plainFields(fields []*field, in reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, f := range fields {
		if at := in.FieldByIndex(f.index); !at.IsZero() {
			m.Content = append(m.Content, scalar(f.key), viewer{}.value(f, at, ""))
		}
	}
	return m
}

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

func flow(items []string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range items {
		list.Content = append(list.Content, scalar(s))
	}
	return list
}

// scalar returns a text that is read back as one.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if err := n.Encode(s); err != nil { // not of a string
		panic(err)
	}
	return n
}

// textOf returns the text of a string, or of what marshals as one.
func textOf(at reflect.Value) string {
	if m, ok := at.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return at.String()
}

func compareText(a, b reflect.Value) int {
	return bytes.Compare([]byte(a.String()), []byte(b.String()))
}
