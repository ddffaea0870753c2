// Package kube reads Kubernetes manifests: the objects in a stream of YAML or JSON, the pod
// specs in the objects, the images in the pod specs, and the nodes that a pod may land on.
//
// Every value keeps its position. Nothing is ever encoded again: an edit is a [Patch], and
// [File.Apply] replaces the bytes of the patched value alone, so comments, quotes and line
// breaks stay as they are. It reads its result again and compares it with what the patch
// means, so an edit that would change anything else is an error.
//
// The package reads no image and no network. [Match] follows kube-scheduler v1.36; what is
// not known about a node gives [May].
package kube

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// MaxFile is the largest stream that is read, in bytes.
const MaxFile = 64 << 20

// A File is a stream of documents and its bytes.
type File struct {
	Name string // for messages
	Data []byte
	Docs []*Document
	Live bool // the objects are those of a cluster

	lines []int // offset of the first byte of each line
}

// A Document is one document of a stream. Root is never nil; a document without content
// is left out.
type Document struct {
	File   *File
	Root   *yaml.Node
	Source string // the template that Helm names in a comment; "" if there is none

	before     int // lines of the stream before the document
	start, end int // offsets of its bytes, without the markers

	waiting map[*yaml.Node]map[string]string // of objects of a cluster: why containers do not run

	// What Skim has found; the tree is gone then.
	skimmed    bool
	workloads  []*Workload
	nodes      []*Node
	duplicates []Duplicate
	logins     []Login
}

// A Position is a place in a file. Line and Column count from 1, and Column counts
// characters.
type Position struct {
	File         string
	Line, Column int
}

// String returns FILE:LINE:COLUMN, as compilers print it.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Parse reads a stream of YAML or JSON documents (YAML 1.2.2, chapter 9). All documents
// that cannot be read are errors; if there is one, no file is returned. A key that occurs
// twice in a mapping is no error here ([File.Duplicates]).
func Parse(name string, data []byte) (*File, error) { return parse(name, data, false) }

// Skim is [Parse] for callers that only ask for [File.Workloads], [File.Nodes],
// [File.Logins] and [File.Duplicates]: the trees of the documents, which need twenty times the memory of
// their bytes, are dropped at once. Document.Root is a node without content then.
func Skim(name string, data []byte) (*File, error) { return parse(name, data, true) }

func parse(name string, data []byte, skim bool) (*File, error) {
	f := &File{Name: name, Data: data}
	switch {
	case len(data) > MaxFile:
		return nil, f.wrong(0, "split the file, or check its parts one by one", "the file has %d MB, the limit is %d MB", len(data)/1_000_000, MaxFile/1_000_000)
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return nil, f.wrong(0, "save it as UTF-8", "the file is UTF-16")
	case bytes.IndexByte(data, 0) >= 0:
		return nil, f.wrong(0, "", "this is not text: the file contains a zero byte")
	case !utf8.Valid(data):
		return nil, f.wrong(f.lineOfInvalid(), "save it as UTF-8", "the text is not UTF-8")
	}
	f.lines = lineStarts(data)
	parts := split(data, f.lines)
	docs, errs := make([]*Document, len(parts)), make([]error, len(parts))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	const batch = 64 // documents; most are small
	for from := 0; from < len(parts); from += batch {
		group.Go(func() error {
			for i := from; i < min(from+batch, len(parts)); i++ {
				if docs[i], errs[i] = f.document(parts[i]); docs[i] != nil && skim {
					docs[i].skim()
				}
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	f.Docs = slices.DeleteFunc(docs, func(d *Document) bool { return d == nil })
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > maxProblems {
		errs = append(errs[:maxProblems], f.wrong(0, "", "%d more documents cannot be read", len(errs)-maxProblems))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// skim finds what is asked for and drops the tree. Nodes of single values stay.
func (d *Document) skim() {
	d.workloads, d.nodes, d.duplicates, d.logins = d.findWorkloads(), d.findNodes(), d.findDuplicates(), d.findLogins()
	for _, w := range d.workloads {
		w.Object = position(w.Object)
		if w.Spec != nil {
			w.Spec = position(w.Spec)
		}
		for i, t := range w.Scheduling.Terms {
			w.Scheduling.Terms[i].Node = position(t.Node)
		}
	}
	d.Root, d.skimmed = position(d.Root), true
}

// position returns a node that only has the position of n.
func position(n *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: n.Kind, Line: n.Line, Column: n.Column}
}

// maxProblems is how many unreadable documents of a file are reported.
const maxProblems = 5

// byteOrderMark may begin a stream.
const byteOrderMark = "\ufeff"

// A part is the lines of one document, [from, to) in the stream. The markers --- and ...
// are not in it.
type part struct{ from, to, line int }

// split finds the documents of a stream. A line that begins with --- is a marker even
// within a block scalar (YAML 1.2.2, section 9.1.2), so no parser is needed.
func split(data []byte, lines []int) []part {
	var parts []part
	at := part{}
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		at.from = len(byteOrderMark)
	}
	for i, start := range lines {
		end := len(data)
		if i+1 < len(lines) {
			end = lines[i+1]
		}
		line := data[max(start, at.from):max(end, at.from)]
		switch {
		case isMarker(line, "---"):
			parts = append(parts, part{at.from, start, at.line})
			// Content may follow the marker on its line.
			at = part{max(start, at.from) + 3, 0, i}
		case isMarker(line, "..."):
			parts = append(parts, part{at.from, start, at.line})
			at = part{end, 0, i + 1}
		case len(line) > 0 && line[0] == '%' && len(bytes.TrimSpace(data[at.from:max(start, at.from)])) == 0:
			at = part{end, 0, i + 1} // a directive, which only an empty document precedes
		}
	}
	return append(parts, part{at.from, len(data), at.line})
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// document reads one part; nil if it has no content.
func (f *File) document(p part) (*Document, error) {
	text := f.Data[p.from:max(p.from, p.to)]
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	// Spaces in place of a marker keep the columns.
	if start := f.lines[p.line]; p.from > start {
		text = append(bytes.Repeat([]byte{' '}, utf8.RuneCount(f.Data[start:p.from])), text...)
	}
	var node yaml.Node
	err := guard.Do(func() error { return yaml.Unmarshal(text, &node) })
	if err != nil {
		return nil, f.syntax(p, text, err)
	}
	if len(node.Content) == 0 || node.Content[0].Tag == nullTag {
		return nil, nil
	}
	if key := oddKey(node.Content[0]); key != nil {
		return nil, f.syntax(p, text, fmt.Errorf("yaml: line %d: a key of a mapping is not a string", key.Line))
	}
	return &Document{File: f, Root: node.Content[0], Source: sourceOf(text), before: p.line, start: p.from, end: p.to}, nil
}

// oddKey returns a key that is a mapping or a list, which no object has. A template that is
// not rendered often reads as one: {{ .name }} is a mapping with a mapping as its key.
func oddKey(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; key.Kind != yaml.ScalarNode && key.Kind != yaml.AliasNode {
				return key
			}
		}
	}
	for _, child := range n.Content {
		if key := oddKey(child); key != nil {
			return key
		}
	}
	return nil
}

// nullTag is the tag of a value that is not there.
const nullTag = "!!null"

// sourceOf returns the file that Helm names in the comment before a document, without the
// name of the chart.
func sourceOf(text []byte) string {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if name, ok := bytes.CutPrefix(line, []byte("# Source: ")); ok {
			return string(name)
		}
		if len(line) > 0 && line[0] != '#' {
			return ""
		}
	}
	return ""
}

// syntax makes an error of the YAML library one with the line of the stream.
func (f *File) syntax(p part, text []byte, err error) error {
	line, problem := yamlconf.Syntax(text, err)
	way := ""
	if bytes.Contains(text, []byte("{{")) {
		way = "this is a template: render it first, for example helm template DIR | mabuild check -"
	}
	return f.wrong(p.line+max(line, 1), way, "%s", problem)
}

// wrong returns an error about a line of the file, or about the file if line is 0.
func (f *File) wrong(line int, way, format string, args ...any) error {
	where := f.Name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", f.Name, line)
	}
	return hint.New(hint.Usage, way, "%s: %s", where, fmt.Sprintf(format, args...))
}

// lineOfInvalid returns the line of the first byte that is not UTF-8.
func (f *File) lineOfInvalid() int {
	line := 1
	for text := range bytes.Lines(f.Data) {
		if !utf8.Valid(text) {
			return line
		}
		line++
	}
	return line
}

// lineStarts returns the offset of each line. The breaks are those of YAML 1.1, which the
// library counts: CR LF, CR, LF, NEL, LS and PS.
func lineStarts(data []byte) []int {
	starts := []int{0}
	for i := 0; i < len(data); {
		at := bytes.IndexAny(data[i:], "\r\n\u0085\u2028\u2029")
		if at < 0 {
			break
		}
		i += at
		switch size := 1; {
		case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
			i += 2
		default:
			if data[i] >= utf8.RuneSelf {
				_, size = utf8.DecodeRune(data[i:])
			}
			i += size
		}
		starts = append(starts, i)
	}
	return starts
}

// Position returns where n stands. In objects of a cluster, which nobody reads as a file, the
// line is 0.
func (d *Document) Position(n *yaml.Node) Position {
	if d.File.Live {
		return Position{File: d.File.Name}
	}
	return Position{d.File.Name, d.before + n.Line, n.Column}
}

// offset returns the first byte of n in the data of the file.
func (d *Document) offset(n *yaml.Node) int {
	line := d.before + n.Line - 1
	if line < 0 || line >= len(d.File.lines) {
		return len(d.File.Data)
	}
	at := d.File.lines[line]
	if at == 0 && bytes.HasPrefix(d.File.Data, []byte(byteOrderMark)) {
		at = len(byteOrderMark)
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(d.File.Data[at:])
		at += size
	}
	return min(at, len(d.File.Data))
}

// A Duplicate is a key that a mapping has twice. The API server refuses it or takes the
// last, depending on the client; kubectl takes the last without a word.
type Duplicate struct {
	Doc   *Document
	Key   string
	Node  *yaml.Node // the later one
	First Position
}

// Duplicates returns the keys that occur twice in a mapping of the file.
func (f *File) Duplicates() []Duplicate {
	var found []Duplicate
	for _, doc := range f.Docs {
		if doc.skimmed {
			found = append(found, doc.duplicates...)
		} else {
			found = append(found, doc.findDuplicates()...)
		}
	}
	return found
}

func (d *Document) findDuplicates() []Duplicate {
	var found []Duplicate
	every(d.Root, func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			return
		}
		// Most mappings are small, and a map for each would double the time.
		var seen map[string]*yaml.Node
		if len(n.Content) > 32 {
			seen = make(map[string]*yaml.Node, len(n.Content)/2)
		}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == mergeTag {
				continue
			}
			var first *yaml.Node
			if seen != nil {
				first = seen[key.Value]
				seen[key.Value] = key
			} else {
				for j := 0; j < i && first == nil; j += 2 {
					if n.Content[j].Value == key.Value && n.Content[j].Kind == yaml.ScalarNode {
						first = n.Content[j]
					}
				}
			}
			if first != nil {
				found = append(found, Duplicate{d, key.Value, key, d.Position(first)})
			}
		}
	})
	return found
}

// every calls visit for n and all below it, without following aliases: the node of an
// alias is visited where its anchor is.
func every(n *yaml.Node, visit func(*yaml.Node)) {
	visit(n)
	for _, child := range n.Content {
		every(child, visit)
	}
}

// mergeTag is the tag of the key << (YAML 1.1, merge keys).
const mergeTag = "!!merge"

// resolved returns what an alias names, and any other node as it is. It may return nil.
func resolved(n *yaml.Node) *yaml.Node {
	for range 100 { // an alias of an alias; YAML has no cycle of them, and a limit costs nothing
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// lookup returns the value of a key of a mapping, with aliases and merges resolved; nil if
// there is none, or if it is null. A key that occurs twice has its last value, as in
// kubectl.
func lookup(n *yaml.Node, key string) *yaml.Node {
	_, value := entry(n, key, 0)
	if value = resolved(value); value == nil || value.Tag == nullTag {
		return nil
	}
	return value
}

// entry returns the key and the value as they are written, without resolving the value.
func entry(n *yaml.Node, key string, depth int) (k, v *yaml.Node) {
	n = resolved(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > 20 {
		return nil, nil
	}
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Tag != mergeTag {
			continue
		}
		from := resolved(n.Content[i+1])
		if from != nil && from.Kind == yaml.SequenceNode {
			for _, one := range from.Content {
				if k, v = entry(one, key, depth+1); v != nil {
					return k, v
				}
			}
		} else if k, v = entry(from, key, depth+1); v != nil {
			return k, v
		}
	}
	return nil, nil
}

// at follows keys from n.
func at(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		n = lookup(n, key)
	}
	return n
}

// textOf returns the text of a scalar, or "".
func textOf(n *yaml.Node) string {
	if n = resolved(n); n == nil || n.Kind != yaml.ScalarNode || n.Tag == nullTag {
		return ""
	}
	return n.Value
}

// items returns the elements of a sequence with aliases resolved.
func items(n *yaml.Node) []*yaml.Node {
	if n = resolved(n); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]*yaml.Node, 0, len(n.Content))
	for _, one := range n.Content {
		if one = resolved(one); one != nil {
			out = append(out, one)
		}
	}
	return out
}
