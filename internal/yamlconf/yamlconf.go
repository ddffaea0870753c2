// Package yamlconf reads configuration from YAML files, variables and flags into structs.
//
// The struct tags of a type are its key table. [Describe] reads them once. Decoder, JSON
// schema, initial file, view, flags, variables and merge all follow from that [Table], so
// a new key is one field with its tags.
//
// Files are not trusted: size, nesting and aliases are bounded, and unknown or duplicate
// keys are errors. All errors are reported at once, each a [*Problem] with its line.
//
// The package knows no keys and opens no files. A [Check] passes in what the values of a
// program mean. The caller enforces the tag trust.
package yamlconf

import (
	"encoding"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Tags of the fields, in addition to yaml.
//
//	doc      one sentence for users
//	group    heading of the initial file before this key, for this and the next keys
//	trust    the rule for a file that may come from a stranger; the caller names the
//	         rules and enforces them; [People] is the one that is known here
//	flag     name of the flag; "-" for no flag and no variable; by default the key with
//	         dashes
//	letter   letter of the flag
//	alias    another name of the flag, which its variable may have too
//	default  value if no source sets it, written as in the environment
//	example  what the initial file shows if there is no default
//	check    what each text must be: see [Check]
//	enum     the texts that are allowed, separated by |
//	sep      separator of the items of a list in the environment: a comma, or
//	         "lines" if items may contain commas
//	short    the key of an object that a value other than a map is assigned to
//	item     the keys, separated by commas, that an error suggests for a text in a list of maps:
//	         for the parts of the text between colons
//	said     what other programs call the key, separated by |, for the error about that
//	single   true for a list for which a single text is accepted

// People is the trust of a key that no file of a source tree may set. The initial file
// omits such keys, and the view omits their defaults.
const People = "people"

// A kind is the shape of a value in the file. Decoder, schema, view and initial file all
// switch on it.
type kind int

const (
	text    kind = iota // any scalar
	boolean             // true or false
	number              // an integer, 0 or more
	parsed              // a scalar that an encoding.TextUnmarshaler reads
	texts               // a list of scalars
	partial             // a scalar, or a map from keys to scalars; its check has Rest
	object              // a map with known keys
	objects             // a list of such maps
	dict                // a map from the user's keys to such maps
	pairs               // a map from the user's keys to scalars
	lists               // a map from the user's keys to lists of K=V
)

// A Field describes a key of the file, from the struct tags. It must not be changed.
type Field struct {
	Key   string // the last element of Path
	Path  string // dotted, from the struct that was described
	Doc   string
	Flag  string // "" if neither flag nor variable sets it
	Trust string
	Check string
	Enum  []string

	index []int // for reflect.Value.FieldByIndex, from the same struct
	typ   reflect.Type
	kind  kind
	elem  []*Field // the keys of an object, or of each object in objects and dict
	check Check    // that Check names

	variables                                   []string // that set it
	letter, alias, initial, example, sep, group string

	short  string   // the key of elem for a value that is not a map
	item   []string // the keys of elem that a text in a list of objects probably means
	said   []string // other words for the key
	single bool     // a scalar may stand for a list of one
	leaf   bool     // has a value; may come from flags, environment
}

// Partial reports whether a stronger source may replace only a part of the value, since
// each source sets the texts of some keys.
func (f *Field) Partial() bool { return f.kind == partial }

// A Table has the keys of a struct type T. It is safe for concurrent use. It reads the
// tags when it is first used, and panics then on a type that a file cannot hold, on a key
// without doc and on an unknown check, which are mistakes in this program.
type Table[T any] struct{ fields func() []*Field }

// Describe returns the table of T, whose fields may name checks, and whose variables
// begin with prefix.
func Describe[T any](prefix string, checks map[string]Check) *Table[T] {
	return &Table[T]{sync.OnceValue(func() []*Field {
		fields := fieldsOf(reflect.TypeFor[T](), "", nil, checks)
		nameVariables(leaves(fields), prefix)
		return fields
	})}
}

// nameVariables gives fields the names of the variables that set them: that of the key
// first, MABUILD_CACHE_DIR for cache.dir, then those of the flag and its alias if they
// differ. All are documented, so all are read. A variable that is named like another key
// belongs to that key: the flag --env sets the variables of the image, but the key env
// those of the compiler.
func nameVariables(fields []*Field, prefix string) {
	name := func(s string) string {
		return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s))
	}
	ofKey := map[string]bool{}
	for _, f := range fields {
		ofKey[name(f.Path)] = true
	}
	for _, f := range fields {
		if f.elem != nil || f.Flag == "" {
			continue
		}
		f.variables = []string{name(f.Path)}
		for _, flag := range []string{f.Flag, f.alias} {
			if of := name(flag); flag != "" && !ofKey[of] {
				f.variables = append(f.variables, of)
			}
		}
	}
}

// Only returns the table of the keys at the top level that wanted accepts.
func (t *Table[T]) Only(wanted func(path string) bool) *Table[T] {
	fields := slices.DeleteFunc(slices.Clone(t.fields()), func(f *Field) bool { return !wanted(f.Path) })
	return &Table[T]{func() []*Field { return fields }}
}

// Leaves returns the keys that have a value themselves, in the order of the struct. Keys
// inside objects are included, those inside lists and maps are not.
func (t *Table[T]) Leaves() []*Field { return leaves(t.fields()) }

// Keys returns each key that has a value, with its path: builds[].main for one in a list
// or map.
func (t *Table[T]) Keys() iter.Seq2[string, *Field] {
	return func(yield func(string, *Field) bool) { everyKey(t.fields(), "", yield) }
}

// everyKey calls yield for the leaves among fields, including those in lists and maps,
// until it returns false.
func everyKey(fields []*Field, prefix string, yield func(key string, f *Field) bool) bool {
	for _, f := range fields {
		further := false
		switch {
		case f.elem == nil:
			further = yield(prefix+f.Path, f)
		case f.kind == object:
			further = everyKey(f.elem, prefix, yield)
		default:
			further = everyKey(f.elem, prefix+f.Path+"[].", yield)
		}
		if !further {
			return false
		}
	}
	return true
}

// Copy sets the keys of to that wanted accepts to the values in from.
func (t *Table[T]) Copy(to, from *T, wanted func(*Field) bool) {
	out, in := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for _, f := range t.Leaves() {
		if wanted(f) {
			out.FieldByIndex(f.index).Set(in.FieldByIndex(f.index))
		}
	}
}

// textUnmarshaler is the interface of the kind parsed.
var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// fieldsOf returns the fields of struct type t in the order of their declaration. prefix
// and index lead to t from the struct that is described. Embedded structs with the option
// inline add their fields to those around them.
func fieldsOf(t reflect.Type, prefix string, index []int, checks map[string]Check) []*Field {
	var list []*Field
	for sf := range t.Fields() {
		at := append(append([]int{}, index...), sf.Index...)
		key, option, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			list = append(list, fieldsOf(sf.Type, prefix, at, checks)...)
		case key != "" && key != "-":
			list = append(list, newField(sf, prefix, key, at, checks))
		}
	}
	return list
}

// newField reads the struct tags. A missing flag tag means the key with dashes, "-" no
// flag.
func newField(sf reflect.StructField, prefix, key string, index []int, checks map[string]Check) *Field {
	tag := sf.Tag
	f := &Field{
		Path: prefix + key, Key: key, index: index, typ: sf.Type,
		Doc: tag.Get("doc"), Flag: tag.Get("flag"), letter: tag.Get("letter"), alias: tag.Get("alias"),
		initial: tag.Get("default"), example: tag.Get("example"), Check: tag.Get("check"), sep: tag.Get("sep"), group: tag.Get("group"), leaf: true,
		Trust: tag.Get("trust"), short: tag.Get("short"), item: words(tag.Get("item"), ","), said: words(tag.Get("said"), "|"), single: tag.Get("single") == "true",
	}
	if f.Doc == "" {
		panic("yamlconf: no description of " + f.Path)
	}
	if f.Flag == "" {
		f.Flag = strings.ReplaceAll(f.Key, "_", "-")
	}
	if f.Flag == "-" {
		f.Flag = ""
	}
	if e := tag.Get("enum"); e != "" {
		f.Enum = strings.Split(e, "|")
	}
	var known bool
	if f.check, known = checks[f.Check]; !known {
		if f.check, known = ownChecks[f.Check]; !known {
			panic("yamlconf: no check " + f.Check)
		}
	}
	f.shape(sf.Type, checks)
	return f
}

// words splits a text that may be empty.
func words(text, sep string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return string(r) == sep })
}

// shape sets the kind and what follows from it. The order of the cases matters: a type
// that unmarshals text may be an integer or struct as well.
func (f *Field) shape(t reflect.Type, checks map[string]Check) {
	switch {
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		f.kind = parsed
	case t.Kind() == reflect.String:
		f.kind = text
	case t.Kind() == reflect.Bool:
		f.kind = boolean
	case t.Kind() == reflect.Int:
		f.kind = number
	case t == reflect.TypeFor[[]string]():
		f.kind = texts
	case t.Kind() == reflect.Struct:
		f.kind, f.leaf, f.elem = object, false, fieldsOf(t, f.Path+".", f.index, checks)
	case t.Kind() == reflect.Slice:
		f.kind, f.elem = objects, fieldsOf(t.Elem(), "", nil, checks)
		for _, e := range f.elem {
			// The elements of a list have no defaults, since they inherit the top level.
			e.initial = ""
		}
	case t.ConvertibleTo(textMap) && f.check.Rest != "":
		f.kind = partial
	case t == textMap:
		f.kind = pairs
	case t == reflect.TypeFor[map[string][]string]():
		f.kind = lists
	case t.Kind() == reflect.Map:
		f.kind, f.elem = dict, fieldsOf(t.Elem(), "", nil, checks)
	default:
		panic("yamlconf: no file can hold " + t.String())
	}
}

// textMap is the type of the kinds pairs and, converted, partial.
var textMap = reflect.TypeFor[map[string]string]()

// leaves returns the fields that have a value themselves, including those inside objects
// but not those inside lists and maps.
func leaves(fields []*Field) []*Field {
	var list []*Field
	for _, f := range fields {
		if f.leaf {
			list = append(list, f)
		} else {
			list = append(list, leaves(f.elem)...)
		}
	}
	return list
}
