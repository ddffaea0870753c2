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

// The bounds of a file. They keep a hostile file from using much memory or time; an
// ordinary file is far below them. The YAML parser itself rejects nesting deeper than
// 10,000.
const (
	maxFile     = 1 << 20 // bytes
	maxValues   = 50_000  // keys, items and texts; an alias counts as its content
	maxProblems = 20      // that are printed one by one
)

// A decoder reads a YAML document into a struct. It continues after an error, so that all
// errors can be reported at once. It reads nodes, since the YAML library's own decoding
// into structs loses the line of each value and accepts merge keys.
type decoder struct {
	file     string
	problems []error
	left     int            // how many values may still follow; negative: too many
	lines    map[string]int // by dotted path, of each key that was set
}

// decode reads the YAML document of file into a T, a struct that [describe] accepts.
// lines has the line of every key that was given a value. The error joins a [*Problem]
// for each error in the document, and value is nil then. An empty document gives the zero
// T.
func decode[T any](file string, data []byte) (value *T, lines map[string]int, err error) {
	value, lines, d := decodeSome[T](file, data)
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	return value, lines, nil
}

// decodeSome is like decode, but also returns what was readable of a document with
// errors; d has the errors. The mirror's file goes on with that, to report errors of
// later checks in the same run.
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

// err joins the problems. After the first maxProblems it only counts them.
func (d *decoder) err() error {
	if extra := len(d.problems) - maxProblems; extra > 0 {
		return errors.Join(append(d.problems[:maxProblems:maxProblems], fmt.Errorf("%s: %d more errors", d.file, extra))...)
	}
	return errors.Join(d.problems...)
}

// complain records an error at node n, which may be nil if the line is not known.
func (d *decoder) complain(n *yaml.Node, key string, err error) {
	line := 0
	if n != nil {
		line = n.Line
	}
	d.problems = append(d.problems, &Problem{Origin: Origin{Kind: FromFile, Name: d.file, Line: line}, Key: key, Err: err})
}

// yamlLine matches the prefix of the parser's errors; the line moves into the [Problem].
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the root node of the only document, or nil if the file is empty. A second
// document is an error, since it would be ignored otherwise. A NUL byte is rejected
// before the parser sees it.
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

// tabbed reports whether a line of data, or the one after it, is indented with a tab. The
// line in the parser's error may be that of the token before.
func tabbed(data []byte, line int) bool {
	for i, one := range bytes.Split(data, []byte("\n")) {
		space := one[:len(one)-len(bytes.TrimLeft(one, " \t"))]
		if (i+1 == line || i == line) && bytes.ContainsRune(space, '\t') {
			return true
		}
	}
	return false
}

// isNull reports whether a value was left empty or is written as null or ~.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// descend counts n and follows an alias. Every node is read through it, and the content
// of an alias is counted each time it is used, so nested aliases cannot multiply beyond
// maxValues. ok is false once the file has more values; this is reported once. The node
// returned for an alias is a copy with the line of its use, where an error has to be
// corrected.
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
		n, meant.Line = &meant, line
	}
	return n, true
}

// object reads the mapping n into the struct out. at is the path of n, "" for the root.
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

// join returns the path of a key below at.
func join(at, key string) string { return strings.TrimPrefix(at+"."+key, ".") }

// each calls do for each pair of the mapping n. It rejects duplicate keys, keys that are
// not scalars, and merge keys.
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
