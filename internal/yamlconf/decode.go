package yamlconf

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

// MaxFile and the constants below it are the bounds of a file. They keep a hostile file from using much memory or time; an
// ordinary file is far below them. The YAML parser itself rejects nesting deeper than
// 10,000.
const (
	MaxFile     = 1 << 20 // bytes
	maxValues   = 50_000  // keys, items and texts; an alias counts as its content
	maxProblems = 20      // that are printed one by one
)

// A Decoder reads a YAML document, into a struct by [Table.Decode] or node by node. It
// continues after an error, so that all errors can be reported at once. It reads nodes,
// since the YAML library's own decoding into structs loses the line of each value and
// accepts merge keys.
type Decoder struct {
	file     string
	problems []error
	left     int            // how many values may still follow; negative: too many
	lines    map[string]int // by dotted path, of each key that was set
}

// NewDecoder returns a decoder of one document; file is its name in errors.
func NewDecoder(file string) *Decoder {
	return &Decoder{file: file, left: maxValues, lines: map[string]int{}}
}

// Decode reads the YAML document of file into a T. lines has the line of every key that
// was given a value. problems has a [*Problem] for each error in the document; value has
// what was readable even then, so that the caller can report errors of later checks in
// the same run. An empty document gives the zero T.
func (t *Table[T]) Decode(file string, data []byte) (value *T, lines map[string]int, problems []error) {
	d := NewDecoder(file)
	value = new(T)
	if root, ok := d.Parse(data); ok && !IsNull(root) {
		d.object(root, t.fields(), t.fields(), reflect.ValueOf(value).Elem(), "")
	}
	return value, d.lines, d.problems
}

// Err joins the errors that were found so far, as [Join] does.
func (d *Decoder) Err() error { return Join(d.file, d.problems) }

// Complain records an error at node n, which may be nil if the line is not known.
func (d *Decoder) Complain(n *yaml.Node, key string, err error) {
	line := 0
	if n != nil {
		line = n.Line
	}
	d.problems = append(d.problems, InFile(d.file, line, key, err))
}

// yamlLine matches the prefix of the parser's errors; the line moves into the [Problem].
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// Parse returns the root node of the only document. An empty file has a root for which
// [IsNull] holds. A second document is an error, since it would be ignored otherwise. ok
// is false after an error.
func (d *Decoder) Parse(data []byte) (root *yaml.Node, ok bool) {
	// A NUL byte is rejected before the parser sees it.
	switch at := bytes.IndexByte(data, 0); {
	case len(data) > MaxFile:
		d.Complain(nil, "", fmt.Errorf("is larger than %d bytes", MaxFile))
		return nil, false
	case at >= 0:
		d.Complain(&yaml.Node{Line: 1 + bytes.Count(data[:at], []byte("\n"))}, "", errors.New("contains a NUL character"))
		return nil, false
	}
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := in.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, true
	}
	if err == nil {
		if err = in.Decode(&second); errors.Is(err, io.EOF) {
			return doc.Content[0], true
		}
		if err == nil {
			d.Complain(&second, "", errors.New("contains a second YAML document"))
			return nil, false
		}
	}
	line, text := Syntax(data, err)
	d.Complain(&yaml.Node{Line: line}, "", errors.New(text))
	return nil, false
}

// Syntax returns the line of an error of the parser, or 0, and what is wrong there.
func Syntax(data []byte, err error) (line int, text string) {
	at := yamlLine.FindStringSubmatch(err.Error())
	if len(at) > 1 {
		line, _ = strconv.Atoi(at[1])
	}
	text = yamlLine.ReplaceAllString(err.Error(), "")
	if tabbed(data, line) {
		text = "the line is indented with a tab; YAML requires spaces"
	}
	return line, text
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

// IsNull reports whether a value was left empty or is written as null or ~.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// Descend counts n and follows an alias. Every node is read through it, and the content
// of an alias is counted each time it is used, so nested aliases cannot multiply beyond
// maxValues. ok is false once the file has more values; this is reported once. The node
// returned for an alias is a copy with the line of its use, where an error has to be
// corrected.
func (d *Decoder) Descend(n *yaml.Node) (_ *yaml.Node, ok bool) {
	if d.left--; d.left < 0 {
		if d.left == -1 {
			d.Complain(n, "", fmt.Errorf("contains more than %d values", maxValues))
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

// object reads the mapping n into the struct out. all are the fields of the struct to
// which fields belong, for suggestions. at is the path of n, "" for the root.
func (d *Decoder) object(n *yaml.Node, fields, all []*Field, out reflect.Value, at string) {
	d.Each(n, at, func(key, value *yaml.Node) {
		i := slices.IndexFunc(fields, func(f *Field) bool { return f.Key == key.Value })
		if i < 0 {
			d.Complain(key, join(at, key.Value), unknownKey(key.Value, fields, all))
			return
		}
		d.value(value, fields[i], all, out, join(at, key.Value))
	})
}

// join returns the path of a key below at.
func join(at, key string) string { return strings.TrimPrefix(at+"."+key, ".") }

// Each calls do for each pair of the mapping n. It rejects duplicate keys, keys that are
// not scalars, and merge keys. at is the path of n.
func (d *Decoder) Each(n *yaml.Node, at string, do func(key, value *yaml.Node)) {
	n, ok := d.Descend(n)
	if !ok {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.Complain(n, at, fmt.Errorf("must be a mapping of keys to values, got %s", shapeOf(n)))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content) && d.left >= 0; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		line, again := first[key.Value]
		switch {
		case key.Tag == "!!merge":
			d.Complain(key, at, errors.New("merge keys are not supported; move common settings of several builds to the top level"))
		case key.Kind != yaml.ScalarNode || IsNull(key):
			d.Complain(key, at, errors.New("a key must be a string"))
		case again:
			d.Complain(key, join(at, key.Value), fmt.Errorf("duplicate of line %d", line))
		default:
			first[key.Value] = key.Line
			do(key, value)
		}
	}
}
