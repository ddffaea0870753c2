package config

import (
	"encoding"
	"reflect"
	"strings"
	"sync"
)

// A kind is the shape of a value in the file.
type kind int

const (
	text        kind = iota // any scalar
	boolean                 // true or false
	number                  // an integer, not negative
	parsed                  // a scalar that an encoding.TextUnmarshaler reads
	texts                   // a list of scalars
	perPlatform             // a scalar, or a map from platforms to scalars
	object                  // a map with known keys
	objects                 // a list of those
	dict                    // a map from keys of the user's to those
	pairs                   // a map from keys of the user's to scalars
	lists                   // a map from keys of the user's to lists of K=V
)

// A field is a key that the file may have, as the struct tags describe it.
type field struct {
	key   string
	path  string // dotted, from the struct that was described
	index []int  // for reflect.Value.FieldByIndex, from the same struct
	typ   reflect.Type
	kind  kind
	elem  []*field // the keys of an object, or of those in objects and dict

	doc, flag, initial, example, check, sep string
	trust                                   trust
	short                                   string // the key of elem that a value which is no map is for
	enum                                    []string
	single                                  bool // one text may stand for a list of it
	leaf                                    bool // has a value of its own; may come from flags and environment
}

// env returns the name of the variable that sets the field.
func (f *field) env() string {
	return "MABUILD_" + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// variables returns the names of the variables that set the field, the first of
// them first: the key's and, where it is another, the flag's.
func (f *field) variables() []string {
	names := []string{f.env()}
	flag := "MABUILD_" + strings.ToUpper(strings.ReplaceAll(f.flag, "-", "_"))
	// The flag --env is the image's, the key env the compiler's.
	if flag != names[0] && flag != "MABUILD_ENV" {
		names = append(names, flag)
	}
	if f.path == "platforms" {
		names = append(names, "MABUILD_PLATFORM") // as --platform
	}
	return names
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

var described sync.Map // reflect.Type to []*field

// describe returns the fields of a struct type, in order. It panics on a type
// that a file cannot hold: that is a mistake in this program.
func describe(t reflect.Type) []*field {
	if known, ok := described.Load(t); ok {
		return known.([]*field)
	}
	fields := fieldsOf(t, "", nil)
	described.Store(t, fields)
	return fields
}

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

// shape sets what follows from the type.
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
			e.initial = "" // what the top level says is the default there
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

// leaves returns the fields that have a value of their own, with those inside
// objects.
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
