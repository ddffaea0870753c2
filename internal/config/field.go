package config

import (
	"encoding"
	"reflect"
	"strings"
	"sync"
)

// A kind is the shape of a value in the file. Decoder, schema, view and initial file all
// switch on it.
type kind int

const (
	text        kind = iota // any scalar
	boolean                 // true or false
	number                  // an integer, 0 or more
	parsed                  // a scalar that an encoding.TextUnmarshaler reads
	texts                   // a list of scalars
	perPlatform             // a scalar, or a map from platforms to scalars
	object                  // a map with known keys
	objects                 // a list of such maps
	dict                    // a map from the user's keys to such maps
	pairs                   // a map from the user's keys to scalars
	lists                   // a map from the user's keys to lists of K=V
)

// A field describes a key of the file, from the struct tags. Fields are shared through
// described and must not be changed after describe returns.
type field struct {
	key   string
	path  string // dotted, from the struct that was described
	index []int  // for reflect.Value.FieldByIndex, from the same struct
	typ   reflect.Type
	kind  kind
	elem  []*field // the keys of an object, or of each object in objects and dict

	doc, flag, initial, example, check, sep string
	trust                                   trust
	short                                   string // the key of elem for a value that is not a map
	enum                                    []string
	single                                  bool // a scalar may stand for a list of one
	leaf                                    bool // has a value; may come from flags, environment
}

// env returns the name of the variable for the key: MABUILD_CACHE_DIR for cache.dir.
func (f *field) env() string {
	return "MABUILD_" + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// variables returns the names of all variables that set the field: that of the key first,
// then that of the flag if it differs. Both are documented, so both are read; if they
// disagree, it is an error (see environment).
func (f *field) variables() []string {
	names := []string{f.env()}
	flag := "MABUILD_" + strings.ToUpper(strings.ReplaceAll(f.flag, "-", "_"))
	// MABUILD_ENV is excluded: the flag --env sets the variables of the image, but the
	// key env those of the compiler.
	if flag != names[0] && flag != "MABUILD_ENV" {
		names = append(names, flag)
	}
	if f.path == "platforms" {
		names = append(names, "MABUILD_PLATFORM") // as --platform
	}
	return names
}

// textUnmarshaler is the interface of the kind parsed.
var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// described caches the result of describe, by reflect.Type; the types are fixed, so it
// does not grow. It is safe for concurrent use.
var described sync.Map // reflect.Type → []*field

// describe returns the fields of a struct type in the order of their declaration. It
// panics on a type that a file cannot hold, which is a mistake in this program.
func describe(t reflect.Type) []*field {
	if known, ok := described.Load(t); ok {
		return known.([]*field)
	}
	fields := fieldsOf(t, "", nil)
	described.Store(t, fields)
	return fields
}

// fieldsOf returns the fields of struct type t. prefix and index lead to t from the
// struct that is described. Embedded structs with the option inline add their fields to
// those around them.
func fieldsOf(t reflect.Type, prefix string, index []int) []*field {
	var list []*field
	for sf := range t.Fields() {
		at := append(append([]int{}, index...), sf.Index...)
		key, option, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			list = append(list, fieldsOf(sf.Type, prefix, at)...)
		case key != "" && key != "-":
			list = append(list, newField(sf, prefix, key, at))
		}
	}
	return list
}

// newField reads the struct tags. A missing flag tag means the key with dashes, "-" no
// flag.
func newField(sf reflect.StructField, prefix, key string, index []int) *field {
	tag := sf.Tag
	f := &field{
		path: prefix + key, key: key, index: index,
		doc: tag.Get("doc"), flag: tag.Get("flag"), initial: tag.Get("default"), example: tag.Get("example"),
		check: tag.Get("check"), sep: tag.Get("sep"), leaf: true,
		trust: trust(tag.Get("trust")), short: tag.Get("short"), single: tag.Get("single") == "true",
	}
	if f.flag == "" {
		f.flag = strings.ReplaceAll(f.key, "_", "-")
	}
	if f.flag == "-" {
		f.flag = ""
	}
	if e := tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, "|")
	}
	f.typ = sf.Type
	f.shape(sf.Type)
	return f
}

// shape sets the kind and what follows from it. The order of the cases matters: a type
// that unmarshals text may be an integer or struct as well.
func (f *field) shape(t reflect.Type) {
	switch {
	case t == reflect.TypeFor[PerPlatform]():
		f.kind = perPlatform
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
		f.kind, f.leaf, f.elem = object, false, fieldsOf(t, f.path+".", f.index)
	case t.Kind() == reflect.Slice:
		f.kind, f.elem = objects, fieldsOf(t.Elem(), "", nil)
		for _, e := range f.elem {
			// The elements of a list have no defaults, since they inherit the top level.
			e.initial = ""
		}
	case t == reflect.TypeFor[map[string]string]():
		f.kind = pairs
	case t == reflect.TypeFor[map[string][]string]():
		f.kind = lists
	case t.Kind() == reflect.Map:
		f.kind, f.elem = dict, fieldsOf(t.Elem(), "", nil)
	default:
		panic("config: no file can hold " + t.String())
	}
}

// leaves returns the fields that have a value themselves, including those inside objects
// but not those inside lists and maps.
func leaves(fields []*field) []*field {
	var list []*field
	for _, f := range fields {
		if f.leaf {
			list = append(list, f)
		} else {
			list = append(list, leaves(f.elem)...)
		}
	}
	return list
}
