package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
		return errors.Join(append(d.problems[:maxProblems:maxProblems], fmt.Errorf("%s: %d more errors", d.file, extra))...)
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
		d.complain(&yaml.Node{Line: 1 + bytes.Count(data[:at], []byte("\n"))}, "", errors.New("contains a NUL character"))
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
			d.complain(&second, "", errors.New("contains a second YAML document"))
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
		text = "the line is indented with a tab; YAML requires spaces"
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

// descend counts n and follows an alias. ok is false when the file holds too much.
func (d *decoder) descend(n *yaml.Node) (_ *yaml.Node, ok bool) {
	if d.left--; d.left < 0 {
		if d.left == -1 {
			d.complain(n, "", fmt.Errorf("contains more than %d values", maxValues))
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
	n, ok := d.descend(n)
	if !ok {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.complain(n, at, fmt.Errorf("must be a mapping of keys to values, got %s", shapeOf(n)))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content) && d.left >= 0; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		line, again := first[key.Value]
		switch {
		case key.Tag == "!!merge":
			d.complain(key, at, errors.New("merge keys are not supported; move common settings of several builds to the top level"))
		case key.Kind != yaml.ScalarNode || isNull(key):
			d.complain(key, at, errors.New("a key must be a string"))
		case again:
			d.complain(key, join(at, key.Value), fmt.Errorf("duplicate of line %d", line))
		default:
			first[key.Value] = key.Line
			do(key, value)
		}
	}
}
