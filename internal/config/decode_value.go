package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// value reads n into the field f of the struct out and records its line. An empty value
// counts as not given, so a commented-out list below a key does not clear it. A value
// that is not a mapping, for an object with a short key, is the value of that key.
func (d *decoder) value(n *yaml.Node, f *field, out reflect.Value, at string) {
	n, ok := d.descend(n)
	if !ok || isNull(n) {
		return
	}
	into := out.FieldByIndex(f.index)
	d.lines[at] = n.Line
	// A secret in the file is an error, and the complaint does not repeat it.
	if f.check == "secret" && n.Kind != yaml.MappingNode {
		d.complain(n, at, errors.New("cannot be set in the file; name the variable that holds it: {env: NAME}"))
		return
	}
	// A value that is not a mapping is that of the short key.
	if i := slices.IndexFunc(f.elem, func(e *field) bool { return e.key == f.short }); i >= 0 && n.Kind != yaml.MappingNode {
		d.value(n, f.elem[i], out, join(at, f.short))
		return
	}
	switch f.kind {
	case object:
		d.object(n, f.elem, out, at)
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
	// A scalar holds for all platforms and is read below like a text.
	case perPlatform:
		if n.Kind == yaml.MappingNode {
			d.perPlatform(n, f, into, at)
			return
		}
		fallthrough
	default:
		if s, ok := d.scalar(n, f.kind, at); ok {
			for _, err := range f.assign(into, []string{s}) {
				d.complain(n, at, err)
			}
		}
	}
}

// imply sets the short boolean key of an object to true if the file gives the object
// without that key: cgo: {toolchain: zig} turns cgo on.
func (d *decoder) imply(n *yaml.Node, f *field, out reflect.Value, at string) {
	i := slices.IndexFunc(f.elem, func(e *field) bool { return e.key == f.short && e.kind == boolean })
	if i < 0 || d.lines[join(at, f.short)] > 0 {
		return
	}
	out.FieldByIndex(f.elem[i].index).SetBool(true)
	d.lines[join(at, f.short)] = n.Line
}

// items returns the elements of the sequence n. If n is something else, it complains with
// an example of the list that was probably meant.
func (d *decoder) items(n *yaml.Node, at string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		wants := "must be a list"
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			wants = fmt.Sprintf("must be a list, for example [%s]", shorten(n.Value))
		}
		d.complain(n, at, fmt.Errorf("%s, got %s", wants, shapeOf(n)))
		return nil
	}
	return n.Content
}

// objects reads a list of mappings. It stops at the bound of values.
func (d *decoder) objects(n *yaml.Node, f *field, into reflect.Value, at string) {
	list := reflect.MakeSlice(into.Type(), 0, 0)
	for i, item := range d.items(n, at) {
		if d.left < 0 {
			return
		}
		place := fmt.Sprintf("%s[%d]", at, i)
		d.lines[place] = item.Line
		elem := reflect.New(into.Type().Elem()).Elem()
		d.object(item, f.elem, elem, place)
		list = reflect.Append(list, elem)
	}
	into.Set(list)
}

// dict reads a map from the user's keys to mappings. An empty value is a zero element.
func (d *decoder) dict(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := reflect.MakeMap(into.Type())
	d.keyed(n, f.check, at, func(key string, value *yaml.Node, place string) {
		elem := reflect.New(into.Type().Elem()).Elem()
		if !isNull(value) {
			d.object(value, f.elem, elem, place)
		}
		m.SetMapIndex(reflect.ValueOf(key), elem)
	})
	into.Set(m)
}

// pairs reads a map from the user's keys to scalars. If the keys have a check, such as
// host, they are stored in canonical form.
func (d *decoder) pairs(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := map[string]string{}
	read := func(key string, value *yaml.Node, place string) {
		value, ok := d.descend(value)
		if !ok {
			return
		}
		if s, ok := d.scalar(value, text, place); ok {
			if err := errors.Join(tame(key), tame(s)); err != nil {
				d.complain(value, at, err)
			}
			m[key], d.lines[place] = s, value.Line
		}
	}
	// Platforms and hosts have a canonical spelling; other keys are taken as they are.
	if f.check != "" {
		d.keyed(n, f.check, at, read)
	} else {
		d.each(n, at, func(key, value *yaml.Node) { read(key.Value, value, join(at, key.Value)) })
	}
	into.Set(reflect.ValueOf(m))
}

// lists reads a map from platforms to lists of K=V. Each list is read like a field of
// kind texts, by a copy of f.
func (d *decoder) lists(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := map[string][]string{}
	one := *f
	one.kind, one.check = texts, "keyvalue"
	d.keyed(n, f.check, at, func(key string, value *yaml.Node, place string) {
		value, ok := d.descend(value)
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

// keyed calls do for the pairs of n with the keys in canonical form: platforms or hosts,
// as check says. Two spellings of one key are duplicates.
func (d *decoder) keyed(n *yaml.Node, check, at string, do func(key string, value *yaml.Node, place string)) {
	first := map[string]int{}
	d.each(n, at, func(k, value *yaml.Node) {
		key, err := canonicalKey(check, k.Value)
		if line, again := first[key]; again && err == nil {
			err = fmt.Errorf("%s is a duplicate of line %d", key, line)
		}
		if err != nil {
			d.complain(k, at, err)
			return
		}
		first[key] = k.Line
		do(key, value, at+"["+key+"]")
	})
}

// perPlatform reads a map from platforms, or "default", to texts.
func (d *decoder) perPlatform(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := PerPlatform{}
	d.keyed(n, "platform or default", at, func(key string, value *yaml.Node, place string) {
		value, ok := d.descend(value)
		if !ok {
			return
		}
		if s, ok := d.scalar(value, f.kind, place); ok {
			if err := tame(s); err != nil {
				d.complain(value, place, err)
			}
			m[key] = s
		}
	})
	into.Set(reflect.ValueOf(m))
}

// texts reads a list of scalars. Each item is recorded in lines, so that a check of one
// item reports its line. A mapping for a list of KEY=VALUE is a frequent mistake and gets
// an example; an item whose type is wrong is reported only once.
func (d *decoder) texts(n *yaml.Node, f *field, into reflect.Value, at string) {
	if n.Kind == yaml.MappingNode && len(n.Content) > 1 && f.check == "keyvalue" {
		d.complain(n, at, fmt.Errorf("must be a list, for example [%s]", shorten(n.Content[0].Value+"="+n.Content[1].Value)))
		return
	}
	nodes := []*yaml.Node{n}
	if !f.single || n.Kind != yaml.ScalarNode {
		nodes = d.items(n, at)
	}
	list := make([]string, len(nodes))
	reported := map[int]bool{}
	for i, item := range nodes {
		item, ok := d.descend(item)
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
			d.complain(nodes[i], at, wrong[i])
		}
	}
}

// scalar returns the text of n as it is written, if its YAML type suits k. A text accepts
// numbers and booleans, so that versions and ports need no quotes.
func (d *decoder) scalar(n *yaml.Node, k kind, at string) (string, bool) {
	wants, tags := "a string", []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}
	switch k {
	case boolean:
		wants, tags = "true or false", []string{"!!bool"}
	case number:
		wants, tags = "a number", []string{"!!int"}
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.Tag) {
		d.complain(n, at, fmt.Errorf("must be %s, got %s", wants, shapeOf(n)))
		return "", false
	}
	return n.Value, true
}

// shapeOf describes n for an error message.
func shapeOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(shorten(n.Value))
}
