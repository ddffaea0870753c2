package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A Patch is one operation of a JSON patch (RFC 6902): add or replace. Its path has keys and
// positions, unescaped. An element is only added at position 0 of a sequence.
type Patch struct {
	Op    string
	Path  []string
	Value *yaml.Node
}

// An Edit is what changes in one object.
type Edit struct {
	Doc     *Document
	Object  *yaml.Node // what the paths begin at
	Patches []Patch
}

// errShared is the cause of an edit that would change another place, too.
var errShared = errors.New("the value is shared by a YAML anchor or merge, so an edit would change other places")

// Apply returns the bytes of the file with all edits. Bytes outside of the patched values
// stay as they are. An error means that nothing was changed: the place is shared by an
// anchor, or the result would not be what the patches say.
func (f *File) Apply(edits []Edit) ([]byte, error) {
	if len(edits) == 0 {
		return f.Data, nil
	}
	var splices []splice
	wanted := map[*Document]map[*yaml.Node]*yaml.Node{} // the clones of the nodes
	for _, e := range edits {
		clones := wanted[e.Doc]
		if clones == nil {
			clones = map[*yaml.Node]*yaml.Node{}
			clone(e.Doc.Root, clones)
			wanted[e.Doc] = clones
		}
		for _, p := range e.Patches {
			more, err := e.Doc.splice(e.Object, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Doc.Position(e.Object), err)
			}
			splices = append(splices, more...)
			if err := patch(clones[e.Object], p); err != nil {
				return nil, fmt.Errorf("%s: %w", e.Doc.Position(e.Object), err)
			}
		}
	}
	out := join(f.Data, splices)
	if err := f.verify(out, wanted); err != nil {
		return nil, err
	}
	return out, nil
}

// Results returns the edit that adds messages of errors to a ResourceList, as functions of
// kustomize report them (KRM Functions Specification, results). ok is false for another
// object.
func (d *Document) Results(messages []string) (e Edit, ok bool) {
	if kind, _ := Kind(d.Root); kind != "ResourceList" || len(messages) == 0 || lookup(d.Root, "results") != nil {
		return e, false
	}
	var results []*yaml.Node
	for _, message := range messages {
		results = append(results, mapping("message", scalar(message), "severity", scalar("error")))
	}
	return Edit{d, d.Root, []Patch{{"add", []string{"results"}, list(nil, results...)}}}, true
}

// verify compares the documents of out with what they should be.
func (f *File) verify(out []byte, wanted map[*Document]map[*yaml.Node]*yaml.Node) error {
	again, err := Parse(f.Name, out)
	if err != nil {
		return fmt.Errorf("the edited file cannot be read, so it was not changed: %w", err)
	}
	if len(again.Docs) != len(f.Docs) {
		return fmt.Errorf("%s: the edit would change the number of documents, so the file was not changed", f.Name)
	}
	for i, doc := range f.Docs {
		want := doc.Root
		if clones := wanted[doc]; clones != nil {
			want = clones[doc.Root]
		}
		if !Equal(want, again.Docs[i].Root) {
			return fmt.Errorf("%s: the edit would change other values, so the file was not changed; edit it by hand", doc.Position(doc.Root))
		}
	}
	return nil
}

// Equal reports whether two nodes have the same value. Comments, quotes and positions do not
// count.
func Equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Value != b.Value || a.Anchor != b.Anchor || a.ShortTag() != b.ShortTag() || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !Equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// clone copies n and notes the copy of each node. The target of an alias is not copied.
func clone(n *yaml.Node, clones map[*yaml.Node]*yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = clone(child, clones)
	}
	clones[n] = &c
	return &c
}

// patch carries out p on a tree.
func patch(n *yaml.Node, p Patch) error {
	if len(p.Path) == 0 {
		anchor := n.Anchor
		*n = *p.Value
		n.Anchor = anchor
		return nil
	}
	parent, key, err := parentOf(n, p)
	if err != nil {
		return err
	}
	switch parent.Kind {
	case yaml.SequenceNode:
		i, _ := strconv.Atoi(key)
		if p.Op == "add" {
			parent.Content = slices.Insert(parent.Content, i, p.Value)
		} else {
			parent.Content[i] = p.Value
		}
	case yaml.MappingNode:
		for i := len(parent.Content) - 2; i >= 0; i -= 2 {
			if parent.Content[i].Value == key {
				parent.Content[i+1] = p.Value
				return nil
			}
		}
		at := placeOf(parent, key)
		parent.Content = slices.Insert(parent.Content, at, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, p.Value)
	}
	return nil
}

// parentOf follows the path of p to the mapping or sequence that it changes.
func parentOf(n *yaml.Node, p Patch) (parent *yaml.Node, key string, err error) {
	last := len(p.Path) - 1
	for _, key := range p.Path[:last] {
		if n, err = below(n, key); err != nil {
			return nil, "", err
		}
	}
	key = p.Path[last]
	i, notNumber := strconv.Atoi(key)
	switch {
	case n.Kind == yaml.AliasNode:
		return nil, "", errShared
	case n.Kind == yaml.SequenceNode && notNumber == nil && i >= 0 && (i < len(n.Content) || i == 0 && p.Op == "add"):
		return n, key, nil
	case n.Kind == yaml.MappingNode:
		// A value that is merged into the mapping is somewhere else.
		if _, value := entry(n, key, 0); value != nil && !owns(n, value) {
			return nil, "", errShared
		}
		return n, key, nil
	}
	return nil, "", fmt.Errorf("%s is not a mapping", strings.Join(p.Path[:last], "."))
}

// below returns the value of a key, or the element of a sequence. An alias is an error.
func below(n *yaml.Node, key string) (*yaml.Node, error) {
	var value *yaml.Node
	switch n.Kind {
	case yaml.AliasNode:
		return nil, errShared
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			value = n.Content[i]
		}
	case yaml.MappingNode:
		if _, value = entry(n, key, 0); value != nil && !owns(n, value) {
			return nil, errShared
		}
	}
	switch {
	case value == nil:
		return nil, fmt.Errorf("%s is not there", key)
	case value.Kind == yaml.AliasNode:
		return nil, errShared
	}
	return value, nil
}

// placeOf returns where a new key stands in the content of a mapping: before the containers
// of a pod spec, else first.
func placeOf(mapping *yaml.Node, key string) int {
	if key != "affinity" && key != "tolerations" {
		return 0
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if slices.Contains([]string{"initContainers", "containers"}, mapping.Content[i].Value) {
			return i
		}
	}
	return 0
}

// A splice replaces the bytes [from, to) by text.
type splice struct {
	from, to int
	text     string
	front    bool // the text becomes the first element of a list
}

// join carries out the splices. Those at the same offset keep their order, except that the
// last one that is put first is first.
func join(data []byte, splices []splice) []byte {
	slices.Reverse(splices)
	slices.SortStableFunc(splices, func(a, b splice) int { return a.from - b.from })
	for i := 0; i < len(splices); {
		end := i + 1
		for end < len(splices) && splices[end].from == splices[i].from {
			end++
		}
		if !splices[i].front {
			slices.Reverse(splices[i:end])
		}
		i = end
	}
	out := make([]byte, 0, len(data)+256*len(splices))
	done := 0
	for _, s := range splices {
		if s.from < done {
			continue // within a value that was replaced; verify refuses the result
		}
		out = append(append(out, data[done:s.from]...), s.text...)
		done = s.to
	}
	return append(out, data[done:]...)
}

// splice returns the bytes that carry out p on the mapping or sequence at object.
func (d *Document) splice(object *yaml.Node, p Patch) ([]splice, error) {
	data := d.File.Data
	if len(p.Path) == 0 {
		return d.replace(object, p.Value, true)
	}
	parent, key, err := parentOf(object, p)
	if err != nil {
		return nil, err
	}
	flow := parent.Style&yaml.FlowStyle != 0
	if parent.Kind == yaml.SequenceNode && p.Op == "add" {
		if flow || len(parent.Content) == 0 {
			open := d.skipProperties(parent)
			text := d.flow(parent, p.Value)
			if len(parent.Content) > 0 {
				text += ", "
			}
			return []splice{{open + 1, open + 1, text, true}}, nil
		}
		from := d.skipProperties(parent)
		column := d.column(from)
		return []splice{{from, from, "- " + d.block(p.Value, column+2) + d.newline() + spaces(column), true}}, nil
	}
	var value *yaml.Node
	if parent.Kind == yaml.SequenceNode {
		i, _ := strconv.Atoi(key)
		value = parent.Content[i]
	} else if _, value = entry(parent, key, 0); value == nil {
		return []splice{d.addKey(parent, key, p.Value)}, nil
	}
	if value.Kind == yaml.AliasNode {
		return nil, errShared
	}
	if value.Kind == yaml.ScalarNode && value.Value == "" && value.Style == 0 {
		from := d.offset(value) // after the colon of a key without a value
		if from < len(data) && from > 0 && data[from-1] == ':' {
			return []splice{{from: from, to: from, text: " " + d.flow(parent, p.Value)}}, nil
		}
	}
	return d.replace(value, p.Value, flow)
}

// addKey adds a key that the mapping does not have.
func (d *Document) addKey(mapping *yaml.Node, key string, value *yaml.Node) splice {
	written := d.flow(mapping, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key})
	if len(mapping.Content) == 0 {
		open := d.skipProperties(mapping)
		return splice{from: open + 1, to: open + 1, text: written + ": " + d.flow(mapping, value)}
	}
	next := mapping.Content[placeOf(mapping, key)]
	from := d.offset(next)
	if mapping.Style&yaml.FlowStyle != 0 {
		between := ", "
		if next.Line > mapping.Line {
			between = "," + d.newline() + spaces(next.Column-1)
		}
		return splice{from: from, to: from, text: written + ": " + d.flow(mapping, value) + between}
	}
	indent := next.Column - 1
	body := written + ":"
	if value.Kind == yaml.ScalarNode || len(value.Content) == 0 || isPlainList(value) {
		body += " " + d.flow(mapping, value)
	} else if value.Kind == yaml.SequenceNode {
		body += d.newline() + spaces(indent+d.listIndent()) + d.block(value, indent+d.listIndent())
	} else {
		body += d.newline() + spaces(indent+2) + d.block(value, indent+2)
	}
	// A comment right above the next key belongs to it. A key after a dash has no line of its
	// own.
	if d.startsLine(from) {
		from = d.aboveComments(next)
		return splice{from: from, to: from, text: spaces(indent) + body + d.newline()}
	}
	return splice{from: from, to: from, text: body + d.newline() + spaces(indent)}
}

// startsLine reports whether only blanks precede an offset in its line.
func (d *Document) startsLine(offset int) bool {
	before := d.File.Data[:offset]
	return len(bytes.TrimLeft(before[bytes.LastIndexAny(before, "\r\n")+1:], " ")) == 0
}

// aboveComments returns the start of the line of a key, or of the comments above it.
func (d *Document) aboveComments(key *yaml.Node) int {
	lines, line := d.File.lines, d.before+key.Line-1
	for line > 0 {
		above := bytes.TrimLeft(d.File.Data[lines[line-1]:lines[line]], " ")
		indent := lines[line] - lines[line-1] - len(above)
		if len(above) == 0 || above[0] != '#' || indent != key.Column-1 {
			break
		}
		line--
	}
	return lines[line]
}

// replace returns the splice that replaces a scalar, or a list of scalars.
func (d *Document) replace(n, value *yaml.Node, flow bool) ([]splice, error) {
	data, from := d.File.Data, d.skipProperties(n)
	switch {
	case n.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode && n.Value != "":
		// The text alone is replaced, so quotes and block headers stay.
		start := from
		switch {
		case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
			start = from + max(0, bytes.IndexByte(data[from:], '\n'))
			for start < len(data) && strings.IndexByte(" \r\n", data[start]) >= 0 {
				start++
			}
			n = &yaml.Node{Value: strings.TrimRight(n.Value, "\n")}
		case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
			start++
		}
		if !bytes.HasPrefix(data[start:], []byte(n.Value)) {
			return nil, fmt.Errorf("%q is written with escapes or on several lines: write it on one line", n.Value)
		}
		written := value.Value
		if n.Style == 0 && strings.ContainsAny(written, ",[]{}") {
			written = strconv.Quote(written)
		}
		return []splice{{from: start, to: start + len(n.Value), text: written}}, nil
	case n.Kind == yaml.ScalarNode && n.Style == 0: // null
		return []splice{{from: from, to: from + len(n.Value), text: d.flow(n, value)}}, nil
	case n.Kind == yaml.SequenceNode && n.Style&yaml.FlowStyle != 0 || n.Kind == yaml.MappingNode && len(n.Content) == 0:
		end, err := d.closing(from)
		return []splice{{from: from, to: end, text: d.flow(n, value)}}, err
	case n.Kind == yaml.SequenceNode && isPlainList(n) && !flow && len(n.Content) > 0:
		return d.replaceBlock(n, value)
	}
	return nil, errors.New("the value has an unusual form: edit it by hand")
}

// replaceBlock replaces a list of scalars that has an element on each line. If the new list
// is a part of the old one, only the lines of the other elements are removed.
func (d *Document) replaceBlock(n, value *yaml.Node) ([]splice, error) {
	from, lines := d.skipProperties(n), d.File.lines
	end, err := d.endOfScalar(n.Content[len(n.Content)-1])
	if err != nil {
		return nil, err
	}
	var removed []splice
	kept := 0
	for _, one := range n.Content {
		if kept < len(value.Content) && value.Content[kept].Value == one.Value {
			kept++
			continue
		}
		line := d.before + one.Line - 1
		next := len(d.File.Data)
		if line+1 < len(lines) {
			next = lines[line+1]
		}
		removed = append(removed, splice{from: lines[line], to: next})
	}
	if kept == len(value.Content) {
		return removed, nil
	}
	var elements []string
	for _, one := range value.Content {
		elements = append(elements, "- "+d.flow(n, one))
	}
	return []splice{{from: from, to: end, text: strings.Join(elements, d.newline()+spaces(d.column(from)))}}, nil
}

// column returns the column, from 0, of the character at an offset.
func (d *Document) column(offset int) int {
	i, found := slices.BinarySearch(d.File.lines, offset)
	if !found {
		i--
	}
	return utf8.RuneCount(d.File.Data[d.File.lines[i]:offset])
}

// endOfScalar returns the offset after a scalar on one line.
func (d *Document) endOfScalar(n *yaml.Node) (int, error) {
	from := d.skipProperties(n)
	data := d.File.Data
	switch n.Style {
	case yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle:
		return quoted(data, from), nil
	case 0:
		if bytes.HasPrefix(data[from:], []byte(n.Value)) {
			return from + len(n.Value), nil
		}
	}
	return 0, errors.New("a value is written on several lines: edit it by hand")
}

// quoted returns the offset after a quoted scalar that begins at from.
func quoted(data []byte, from int) int {
	quote := data[from]
	for i := from + 1; i < len(data); i++ {
		switch {
		case data[i] == '\\' && quote == '"':
			i++
		case data[i] == quote && quote == '\'' && i+1 < len(data) && data[i+1] == quote:
			i++
		case data[i] == quote:
			return i + 1
		}
	}
	return len(data)
}

// closing returns the offset after the flow collection that begins at from.
func (d *Document) closing(from int) (int, error) {
	data, depth := d.File.Data, 0
	for i := from; i < len(data); i++ {
		switch c := data[i]; {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		case (c == '"' || c == '\'') && strings.IndexByte("[{,: \n", data[i-1]) >= 0:
			i = quoted(data, i) - 1
		case c == '#' && strings.IndexByte(" \t\n\r", data[i-1]) >= 0:
			for i+1 < len(data) && data[i+1] != '\n' {
				i++
			}
		}
	}
	return 0, errors.New("a bracket is not closed")
}

// skipProperties returns the offset of the content of a node, after its anchor and tag.
func (d *Document) skipProperties(n *yaml.Node) int {
	data, from := d.File.Data, d.offset(n)
	for from < len(data) && (data[from] == '&' || data[from] == '!') {
		for from < len(data) && strings.IndexByte(" \t\r\n", data[from]) < 0 {
			from++
		}
		for from < len(data) && strings.IndexByte(" \t\r\n", data[from]) >= 0 {
			from++
		}
	}
	return from
}

// newline returns the line break of the file.
func (d *Document) newline() string {
	if i := bytes.IndexByte(d.File.Data, '\n'); i > 0 && d.File.Data[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func spaces(n int) string { return strings.Repeat(" ", max(n, 0)) }

// listIndent returns by how many columns a list is indented below its key in this document:
// 0 or 2.
func (d *Document) listIndent() int {
	indent := 0
	every(d.Root, func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle != 0 {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if list := n.Content[i+1]; list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0 && list.Line > n.Content[i].Line && indent == 0 {
				indent = list.Column - n.Content[i].Column
			}
		}
	})
	return max(indent, 0)
}

// isPlainList reports whether n is a list of scalars.
func isPlainList(n *yaml.Node) bool {
	return n.Kind == yaml.SequenceNode && !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return c.Kind != yaml.ScalarNode })
}

// flow writes a value on one line. Next to keys in double quotes, as in JSON, all strings
// have them.
func (d *Document) flow(beside, n *yaml.Node) string {
	asJSON := len(beside.Content) > 0 && beside.Content[0].Style&yaml.DoubleQuotedStyle != 0 || d.isJSON()
	return inFlow(n, asJSON)
}

// isJSON reports whether the document is an object in braces with quoted keys.
func (d *Document) isJSON() bool {
	root := d.Root
	return root.Style&yaml.FlowStyle != 0 && len(root.Content) > 0 && root.Content[0].Style&yaml.DoubleQuotedStyle != 0
}

func inFlow(n *yaml.Node, asJSON bool) string {
	parts := make([]string, 0, len(n.Content))
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, inFlow(n.Content[i], asJSON)+": "+inFlow(n.Content[i+1], asJSON))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case yaml.SequenceNode:
		for _, one := range n.Content {
			parts = append(parts, inFlow(one, asJSON))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if n.ShortTag() == "!!str" && (asJSON || !plainInFlow(n.Value)) {
		return strconv.Quote(n.Value)
	}
	return n.Value
}

// plainInFlow reports whether a string needs no quotes: it has the characters of a label or
// an annotation of ours, and does not read as another type.
func plainInFlow(s string) bool {
	var n yaml.Node
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("./_-", r)
	}) {
		return false
	}
	return yaml.Unmarshal([]byte(s), &n) == nil && len(n.Content) == 1 && n.Content[0].ShortTag() == "!!str" && n.Content[0].Value == s
}

// block writes a mapping or list in block style. Its first line has no indentation, and the
// others have that of indent.
func (d *Document) block(n *yaml.Node, indent int) string {
	var lines []string
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := inFlow(n.Content[i], false), n.Content[i+1]
			switch {
			case value.Kind == yaml.ScalarNode || isPlainList(value) || len(value.Content) == 0:
				lines = append(lines, key+": "+inFlow(value, false))
			case value.Kind == yaml.SequenceNode:
				in := indent + d.listIndent()
				lines = append(lines, key+":", spaces(in-indent)+d.block(value, in))
			default:
				lines = append(lines, key+":", "  "+d.block(value, indent+2))
			}
		}
	case yaml.SequenceNode:
		for _, one := range n.Content {
			lines = append(lines, "- "+d.block(one, indent+2))
		}
	default:
		return inFlow(n, false)
	}
	return strings.Join(lines, d.newline()+spaces(indent))
}

// pointer writes a key as an element of a JSON pointer (RFC 6901, section 3).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// JSONPatch writes patches as a JSON patch (RFC 6902).
func JSONPatch(patches []Patch) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var all []operation
	for _, p := range patches {
		var path strings.Builder
		for _, key := range p.Path {
			path.WriteString("/" + pointer.Replace(key))
		}
		value, err := decoded(p.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, operation{p.Op, path.String(), value})
	}
	return json.Marshal(all)
}

// decoded converts a value of a patch to one that encoding/json writes.
func decoded(n *yaml.Node) (v any, err error) {
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("value of a patch: %w", err)
	}
	return v, nil
}
