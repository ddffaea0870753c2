package yamlconf

import (
	"encoding"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
)

// Anchor makes relative paths in value, which was read from a file in dir, relative to
// the working directory. It changes the fields whose check is path, in objects, lists and
// maps as well.
func (t *Table[T]) Anchor(value *T, dir string) {
	anchor(t.fields(), reflect.ValueOf(value).Elem(), dir)
}

func anchor(fields []*Field, v reflect.Value, dir string) {
	for _, f := range fields {
		at := v.FieldByIndex(f.index)
		switch {
		case f.kind == object:
			anchor(f.elem, v, dir)
		case f.kind == objects:
			for i := range at.Len() {
				anchor(f.elem, at.Index(i), dir)
			}
		case f.kind == dict:
			for _, key := range at.MapKeys() {
				elem := reflect.New(at.Type().Elem()).Elem()
				elem.Set(at.MapIndex(key))
				anchor(f.elem, elem, dir)
				at.SetMapIndex(key, elem)
			}
		case f.Check == "path" && filepath.IsAbs(at.String()):
			// Clean removes .. by its text, so that a link before it does not change
			// where it leads.
			at.SetString(filepath.Clean(at.String()))
		case f.Check == "path" && at.String() != "":
			at.SetString(filepath.Join(dir, at.String()))
		}
	}
}

// Each calls do for each key of value that lines has, those in lists and maps included.
// list has the value as texts, whatever its type; it is empty for a zero value. prefix
// leads to the struct in which f was described: it is empty, or builds[0]. for an item of
// a list. entry is the key of the map around f, or empty. Maps are visited in sorted order.
func (t *Table[T]) Each(value *T, lines map[string]int, do func(f *Field, list []string, prefix, entry string)) {
	each(t.fields(), reflect.ValueOf(value).Elem(), "", "", func(f *Field, at reflect.Value, prefix, entry string) {
		if _, said := lines[prefix+f.Path]; said {
			do(f, textsOf(f, at), prefix, entry)
		}
	})
}

func each(fields []*Field, in reflect.Value, prefix, entry string, do func(f *Field, at reflect.Value, prefix, entry string)) {
	for _, f := range fields {
		at := in.FieldByIndex(f.index)
		key := prefix + f.Path
		switch f.kind {
		case object:
			each(f.elem, in, prefix, entry, do)
		case objects:
			for i := range at.Len() {
				each(f.elem, at.Index(i), fmt.Sprintf("%s[%d].", key, i), entry, do)
			}
		case dict:
			for _, k := range slices.SortedFunc(slices.Values(at.MapKeys()), compareText) {
				each(f.elem, at.MapIndex(k), fmt.Sprintf("%s[%s].", key, k.String()), k.String(), do)
			}
		default:
			do(f, at, prefix, entry)
		}
	}
}

// textsOf returns the value of a leaf as texts, whatever its kind. A zero value has none.
func textsOf(f *Field, at reflect.Value) (list []string) {
	switch f.kind {
	case texts:
		return at.Interface().([]string)
	case partial, pairs:
		m := at.Convert(textMap).Interface().(map[string]string)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			list = append(list, m[key])
		}
		return list
	case lists:
		m := at.Interface().(map[string][]string)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			list = append(list, m[key]...)
		}
		return list
	case boolean:
		if !at.Bool() {
			return nil
		}
		return []string{"true"}
	case text:
		if at.String() == "" {
			return nil
		}
		return []string{at.String()}
	}
	if m, ok := at.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return []string{string(b)}
		}
	}
	return []string{fmt.Sprint(at.Interface())}
}
