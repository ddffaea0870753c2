package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file. The parser itself refuses nesting deeper than 10,000.
const (
	maxFile     = 1 << 20 // bytes
	maxValues   = 50_000  // keys, items and texts, each alias counted as what it stands for
	maxProblems = 20      // that are told one by one
)

// A decoder reads a YAML document into a struct, and keeps going after what is
// wrong so that all of it can be told at once.
type decoder struct {
	file     string
	problems []error
	left     int            // values that may still come
	lines    map[string]int // by the path of what was set, builds[0].image.user
}

// decode reads the YAML document of file into a T, which [describe] must know.
// lines has the line of every key that was given a value. The error joins
// a [*Problem] for each thing wrong; there is no value then.
func decode[T any](file string, data []byte) (value *T, lines map[string]int, err error) {
	value, lines, d := decodeSome[T](file, data)
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	return value, lines, nil
}

// decodeSome is decode that also returns what it could read of a document in which
// something is wrong: d has what.
func decodeSome[T any](file string, data []byte) (value *T, lines map[string]int, d *decoder) {
	d = &decoder{file: file, left: maxValues, lines: map[string]int{}}
	value = new(T)
	root, err := d.parse(data)
	if err == nil && root != nil && !isNull(root) {
		out := reflect.ValueOf(value).Elem()
		d.object(root, describe(out.Type()), out, "")
	}
	return value, d.lines, d
}

// err joins the problems, most of them.
func (d *decoder) err() error {
	if extra := len(d.problems) - maxProblems; extra > 0 {
		return errors.Join(append(d.problems[:maxProblems:maxProblems], fmt.Errorf("%s: %d more", d.file, extra))...)
	}
	return errors.Join(d.problems...)
}

func (d *decoder) complain(n *yaml.Node, key string, err error) {
	line := 0
	if n != nil {
		line = n.Line
	}
	d.problems = append(d.problems, &Problem{Origin: Origin{Kind: FromFile, Name: d.file, Line: line}, Key: key, Err: err})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the root of the only document, nil when there is none.
func (d *decoder) parse(data []byte) (*yaml.Node, error) {
	switch at := bytes.IndexByte(data, 0); {
	case len(data) > maxFile:
		d.complain(nil, "", fmt.Errorf("is larger than %d bytes", maxFile))
		return nil, d.err()
	case at >= 0:
		d.complain(&yaml.Node{Line: 1 + bytes.Count(data[:at], []byte("\n"))}, "", errors.New("holds a NUL"))
		return nil, d.err()
	}
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := in.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if err = in.Decode(&second); errors.Is(err, io.EOF) {
			return doc.Content[0], nil
		}
		if err == nil {
			d.complain(&second, "", errors.New("holds a second document"))
			return nil, d.err()
		}
	}
	at := yamlLine.FindStringSubmatch(err.Error())
	line := 0
	if len(at) > 1 {
		line, _ = strconv.Atoi(at[1])
	}
	text := yamlLine.ReplaceAllString(err.Error(), "")
	if strings.Contains(text, "cannot start any token") && tabbed(data, line) {
		text = "a tab indents the line, and YAML wants spaces"
	}
	d.complain(&yaml.Node{Line: line}, "", errors.New(text))
	return nil, d.err()
}

// tabbed reports whether a line of data, or the one after it, begins with a tab: the
// parser is not sure which it is.
func tabbed(data []byte, line int) bool {
	for i, one := range bytes.Split(data, []byte("\n")) {
		space := one[:len(one)-len(bytes.TrimLeft(one, " \t"))]
		if (i+1 == line || i == line) && bytes.ContainsRune(space, '\t') {
			return true
		}
	}
	return false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// enter counts n and follows an alias. ok is false when the file holds too much.
func (d *decoder) enter(n *yaml.Node) (_ *yaml.Node, ok bool) {
	if d.left--; d.left < 0 {
		if d.left == -1 {
			d.complain(n, "", fmt.Errorf("holds more than %d values", maxValues))
		}
		return n, false
	}
	for n.Kind == yaml.AliasNode {
		line := n.Line
		meant := *n.Alias
		n, meant.Line = &meant, line // what is wrong is wrong where it is used
	}
	return n, true
}

// object reads the mapping n into the struct out, field by field.
func (d *decoder) object(n *yaml.Node, fields []*field, out reflect.Value, at string) {
	d.each(n, at, func(key, value *yaml.Node) {
		i := slices.IndexFunc(fields, func(f *field) bool { return f.key == key.Value })
		if i < 0 {
			d.complain(key, join(at, key.Value), unknownKey(key.Value, fields, out.Type()))
			return
		}
		d.value(value, fields[i], out, join(at, key.Value))
	})
}

// join makes the path of a key.
func join(at, key string) string { return strings.TrimPrefix(at+"."+key, ".") }

// each calls do for the pairs of the mapping n, whose keys it checks.
func (d *decoder) each(n *yaml.Node, at string, do func(key, value *yaml.Node)) {
	n, ok := d.enter(n)
	if !ok {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.complain(n, at, fmt.Errorf("wants keys with values, is %s", shapeOf(n)))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content) && d.left >= 0; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		line, again := first[key.Value]
		switch {
		case key.Tag == "!!merge":
			d.complain(key, at, errors.New("merge keys are not read; what several builds share goes to the top level"))
		case key.Kind != yaml.ScalarNode || isNull(key):
			d.complain(key, at, errors.New("a key must be plain text"))
		case again:
			d.complain(key, join(at, key.Value), fmt.Errorf("is there already, in line %d", line))
		default:
			first[key.Value] = key.Line
			do(key, value)
		}
	}
}

// value reads n into the field f of the struct out. A value that is left empty
// counts as not given.
func (d *decoder) value(n *yaml.Node, f *field, out reflect.Value, at string) {
	n, ok := d.enter(n)
	if !ok || isNull(n) {
		return
	}
	into := out.FieldByIndex(f.index)
	d.lines[at] = n.Line
	if f.check == "secret" && n.Kind != yaml.MappingNode { // and it is not repeated in the complaint
		d.complain(n, at, errors.New("is not written down here; name the variable that holds it: {env: NAME}"))
		return
	}
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

// imply takes a map for the true that might stand in its place.
func (d *decoder) imply(n *yaml.Node, f *field, out reflect.Value, at string) {
	i := slices.IndexFunc(f.elem, func(e *field) bool { return e.key == f.short && e.kind == boolean })
	if i < 0 || d.lines[join(at, f.short)] > 0 {
		return
	}
	out.FieldByIndex(f.elem[i].index).SetBool(true)
	d.lines[join(at, f.short)] = n.Line
}

// items returns what is in the sequence n.
func (d *decoder) items(n *yaml.Node, at string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		wants := "wants a list"
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			wants = fmt.Sprintf("wants a list, [%s]", shorten(n.Value))
		}
		d.complain(n, at, fmt.Errorf("%s, is %s", wants, shapeOf(n)))
		return nil
	}
	return n.Content
}

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

// pairs reads a map from keys of the user's to scalars.
func (d *decoder) pairs(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := map[string]string{}
	read := func(key string, value *yaml.Node, place string) {
		value, ok := d.enter(value)
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
	if f.check != "" {
		d.keyed(n, f.check, at, read)
	} else {
		d.each(n, at, func(key, value *yaml.Node) { read(key.Value, value, join(at, key.Value)) })
	}
	into.Set(reflect.ValueOf(m))
}

// lists reads a map from platforms to lists of K=V.
func (d *decoder) lists(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := map[string][]string{}
	one := *f
	one.kind, one.check = texts, "keyvalue"
	d.keyed(n, f.check, at, func(key string, value *yaml.Node, place string) {
		value, ok := d.enter(value)
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

// keyed calls do for the pairs of n with the keys in canonical form, which are
// platforms or hosts as check says, and no two the same.
func (d *decoder) keyed(n *yaml.Node, check, at string, do func(key string, value *yaml.Node, place string)) {
	first := map[string]int{}
	d.each(n, at, func(k, value *yaml.Node) {
		key, err := canonicalKey(check, k.Value)
		if line, again := first[key]; again && err == nil {
			err = fmt.Errorf("%s is there already, in line %d", key, line)
		}
		if err != nil {
			d.complain(k, at, err)
			return
		}
		first[key] = k.Line
		do(key, value, at+"["+key+"]")
	})
}

func (d *decoder) perPlatform(n *yaml.Node, f *field, into reflect.Value, at string) {
	m := PerPlatform{}
	d.keyed(n, "platform or default", at, func(key string, value *yaml.Node, place string) {
		value, ok := d.enter(value)
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

func (d *decoder) texts(n *yaml.Node, f *field, into reflect.Value, at string) {
	nodes := []*yaml.Node{n}
	if !f.single || n.Kind != yaml.ScalarNode {
		nodes = d.items(n, at)
	}
	list := make([]string, len(nodes))
	told := map[int]bool{}
	for i, item := range nodes {
		item, ok := d.enter(item)
		if !ok {
			return
		}
		place := fmt.Sprintf("%s[%d]", at, i)
		list[i], ok = d.scalar(item, f.kind, place)
		told[i], d.lines[place] = !ok, item.Line
	}
	wrong := f.assign(into, list)
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		if !told[i] {
			d.complain(nodes[i], at, wrong[i])
		}
	}
}

// scalar returns the text of n, which must suit k.
func (d *decoder) scalar(n *yaml.Node, k kind, at string) (string, bool) {
	wants, tags := "a text", []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}
	switch k {
	case boolean:
		wants, tags = "true or false", []string{"!!bool"}
	case number:
		wants, tags = "a number", []string{"!!int"}
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.Tag) {
		d.complain(n, at, fmt.Errorf("wants %s, is %s", wants, shapeOf(n)))
		return "", false
	}
	return n.Value, true
}

// shapeOf names what n is, for a complaint.
func shapeOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "empty"
	}
	return strconv.Quote(shorten(n.Value))
}
