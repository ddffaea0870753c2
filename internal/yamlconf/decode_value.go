package yamlconf

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value reads n into the field f of the struct out, which has the fields all, and records
// its line. An empty value
// counts as not given, so a commented-out list below a key does not clear it. A value
// that is not a mapping, for an object with a short key, is the value of that key.
func (d *Decoder) value(n *yaml.Node, f *Field, all []*Field, out reflect.Value, at string) {
	n, ok := d.Descend(n)
	if !ok || IsNull(n) {
		return
	}
	into := out.FieldByIndex(f.index)
	d.lines[at] = n.Line
	// A secret in the file is an error, and the complaint does not repeat it.
	if f.Check == "secret" && n.Kind != yaml.MappingNode {
		d.Complain(n, at, errors.New("cannot be set in the file; name the variable that holds it: {env: NAME}"))
		return
	}
	// A value that is not a mapping is that of the short key.
	if i := slices.IndexFunc(f.elem, func(e *Field) bool { return e.Key == f.short }); i >= 0 && n.Kind != yaml.MappingNode {
		if slices.ContainsFunc(f.elem, func(e *Field) bool { return e.kind == boolean && e.Key == n.Value && e.Key != f.short }) {
			d.Complain(n, at, fmt.Errorf("must be a mapping; write {%s: true}", n.Value))
			return
		}
		d.value(n, f.elem[i], all, out, join(at, f.short))
		return
	}
	switch f.kind {
	case object:
		d.object(n, f.elem, all, out, at)
		d.imply(n, f, out, at)
	case objects:
		d.objects(n, f, into, at)
	case dict:
		d.dict(n, f, into, at)
	case pairs:
		d.pairs(n, f, into, at)
	case texts:
		d.texts(n, f, into, at)
	case lists:
		d.lists(n, f, into, at)
	// A scalar holds for all keys and is read below like a text.
	case partial:
		if n.Kind == yaml.MappingNode {
			d.partial(n, f, into, at)
			return
		}
		fallthrough
	default:
		if s, ok := d.scalar(n, f.kind, at); ok {
			for _, err := range f.assign(into, []string{s}) {
				d.Complain(n, at, err)
			}
		}
	}
}

// imply sets the short boolean key of an object to true if the file gives the object
// without that key: cgo: {toolchain: zig} turns cgo on.
func (d *Decoder) imply(n *yaml.Node, f *Field, out reflect.Value, at string) {
	i := slices.IndexFunc(f.elem, func(e *Field) bool { return e.Key == f.short && e.kind == boolean })
	if i < 0 || d.lines[join(at, f.short)] > 0 {
		return
	}
	out.FieldByIndex(f.elem[i].index).SetBool(true)
	d.lines[join(at, f.short)] = n.Line
}

// items returns the elements of the sequence n. If n is something else, it complains with
// an example of the list that was probably meant.
func (d *Decoder) items(n *yaml.Node, at string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		wants := "must be a list"
		if n.Kind == yaml.ScalarNode && !IsNull(n) {
			wants = fmt.Sprintf("must be a list, for example [%s]", Shorten(n.Value))
		}
		d.Complain(n, at, fmt.Errorf("%s, got %s", wants, shapeOf(n)))
		return nil
	}
	return n.Content
}

// objects reads a list of mappings. It stops at the bound of values.
func (d *Decoder) objects(n *yaml.Node, f *Field, into reflect.Value, at string) {
	list := reflect.MakeSlice(into.Type(), 0, 0)
	switch {
	case n.Kind == yaml.ScalarNode && len(f.item) > 0 && !IsNull(n):
		d.Complain(n, at, fmt.Errorf("must be a list; write [%s]", f.itemOf(n.Value)))
		return
	case n.Kind == yaml.MappingNode:
		d.Complain(n, at, errors.New("must be a list, got a mapping; begin each item with a dash"))
		return
	}
	for i, item := range d.items(n, at) {
		if d.left < 0 {
			return
		}
		place := fmt.Sprintf("%s[%d]", at, i)
		d.lines[place] = item.Line
		if item.Kind == yaml.ScalarNode && len(f.item) > 0 && !IsNull(item) {
			d.Complain(item, place, fmt.Errorf("must be a mapping of keys to values; write %s", f.itemOf(item.Value)))
			list = reflect.Append(list, reflect.New(into.Type().Elem()).Elem())
			continue
		}
		elem := reflect.New(into.Type().Elem()).Elem()
		d.object(item, f.elem, f.elem, elem, place)
		list = reflect.Append(list, elem)
	}
	into.Set(list)
}

// itemOf returns the mapping that a text in a list of objects probably means.
func (f *Field) itemOf(text string) string {
	var pairs []string
	for i, part := range strings.SplitN(Shorten(text), ":", len(f.item)) {
		pairs = append(pairs, f.item[i]+": "+part)
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// dict reads a map from the user's keys to mappings. An empty value is a zero element.
func (d *Decoder) dict(n *yaml.Node, f *Field, into reflect.Value, at string) {
	m := reflect.MakeMap(into.Type())
	d.keyed(n, &f.check, at, func(key string, value *yaml.Node, place string) {
		elem := reflect.New(into.Type().Elem()).Elem()
		if !IsNull(value) {
			d.object(value, f.elem, f.elem, elem, place)
		}
		m.SetMapIndex(reflect.ValueOf(key), elem)
	})
	into.Set(m)
}

// pairs reads a map from the user's keys to scalars. If the keys have a check, such as
// host, they are stored in canonical form.
func (d *Decoder) pairs(n *yaml.Node, f *Field, into reflect.Value, at string) {
	m := map[string]string{}
	read := func(key string, value *yaml.Node, place string) {
		value, ok := d.Descend(value)
		if !ok {
			return
		}
		if s, ok := d.scalar(value, text, place); ok {
			if err := errors.Join(tame(key), tame(s)); err != nil {
				d.Complain(value, at, err)
			} else if f.check.Value != nil {
				if err := f.check.Value(s); err != nil {
					d.Complain(value, place, err)
				}
			}
			m[key], d.lines[place] = s, value.Line
		}
	}
	// Platforms and hosts have a canonical spelling; other keys are taken as they are.
	if f.check.Key != nil {
		d.keyed(n, &f.check, at, read)
	} else {
		d.Each(n, at, func(key, value *yaml.Node) { read(key.Value, value, join(at, key.Value)) })
	}
	into.Set(reflect.ValueOf(m))
}

// lists reads a map from keys to lists of K=V. Each list is read like a field of
// kind texts, by a copy of f.
func (d *Decoder) lists(n *yaml.Node, f *Field, into reflect.Value, at string) {
	m := map[string][]string{}
	one := *f
	one.kind, one.Check, one.check = texts, "keyvalue", ownChecks["keyvalue"]
	d.keyed(n, &f.check, at, func(key string, value *yaml.Node, place string) {
		value, ok := d.Descend(value)
		if !ok {
			return
		}
		list := reflect.New(reflect.TypeFor[[]string]()).Elem()
		d.texts(value, &one, list, place)
		m[key] = list.Interface().([]string)
		d.lines[place] = value.Line
	})
	into.Set(reflect.ValueOf(m))
}

// keyed calls do for the pairs of n with the keys in the spelling of check. Two spellings
// of one key are duplicates.
func (d *Decoder) keyed(n *yaml.Node, check *Check, at string, do func(key string, value *yaml.Node, place string)) {
	first := map[string]int{}
	d.Each(n, at, func(k, value *yaml.Node) {
		key, err := check.key(k.Value)
		if line, again := first[key]; again && err == nil {
			err = fmt.Errorf("%s is a duplicate of line %d", key, line)
		}
		if err != nil {
			d.Complain(k, at, err)
			return
		}
		first[key] = k.Line
		do(key, value, at+"["+key+"]")
	})
}

// partial reads a map from keys to texts.
func (d *Decoder) partial(n *yaml.Node, f *Field, into reflect.Value, at string) {
	m := map[string]string{}
	d.keyed(n, &f.check, at, func(key string, value *yaml.Node, place string) {
		value, ok := d.Descend(value)
		if !ok {
			return
		}
		if s, ok := d.scalar(value, f.kind, place); ok {
			if err := tame(s); err != nil {
				d.Complain(value, place, err)
			}
			m[key] = s
		}
	})
	into.Set(reflect.ValueOf(m).Convert(f.typ))
}

// assignments returns the pairs of a mapping from keys to scalars as items KEY=VALUE.
func (d *Decoder) assignments(n *yaml.Node, at string) (items []*yaml.Node) {
	d.Each(n, at, func(k, value *yaml.Node) {
		value, ok := d.Descend(value)
		if !ok {
			return
		}
		if text, ok := d.scalar(value, texts, join(at, k.Value)); ok {
			items = append(items, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: k.Value + "=" + text, Line: k.Line, Column: k.Column})
		}
	})
	return items
}

// texts reads a list of scalars. Each item is recorded in lines, so that a check of one
// item reports its line. A list of KEY=VALUE may also be a mapping. An item whose type is
// wrong is reported only once.
func (d *Decoder) texts(n *yaml.Node, f *Field, into reflect.Value, at string) {
	nodes := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.MappingNode && f.Check == "keyvalue":
		nodes = d.assignments(n, at)
	case !f.single || n.Kind != yaml.ScalarNode:
		nodes = d.items(n, at)
	}
	list := make([]string, len(nodes))
	reported := map[int]bool{}
	for i, item := range nodes {
		item, ok := d.Descend(item)
		if !ok {
			return
		}
		place := fmt.Sprintf("%s[%d]", at, i)
		list[i], ok = d.scalar(item, f.kind, place)
		reported[i], d.lines[place] = !ok, item.Line
	}
	wrong := f.assign(into, list)
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		if !reported[i] {
			d.Complain(nodes[i], at, wrong[i])
		}
	}
}

// scalar returns the text of n as it is written, if its YAML type suits k. A text accepts
// numbers and booleans, so that versions and ports need no quotes.
func (d *Decoder) scalar(n *yaml.Node, k kind, at string) (string, bool) {
	wants, tags := "a string", []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}
	switch k {
	case boolean:
		wants, tags = "true or false", []string{"!!bool"}
	case number:
		wants, tags = "a number", []string{"!!int"}
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.Tag) {
		d.Complain(n, at, fmt.Errorf("must be %s, got %s", wants, shapeOf(n)))
		return "", false
	}
	return n.Value, true
}

// shapeOf describes n for an error message.
func shapeOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode:
		return "a mapping: put templates in quotes, \"{{.Version}}\""
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case IsNull(n):
		return "nothing"
	}
	return strconv.Quote(Shorten(n.Value))
}
