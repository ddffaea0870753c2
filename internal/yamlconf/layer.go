package yamlconf

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// A Setting is a value, in the type of its field, and its origin.
type Setting struct {
	Value  any
	Origin Origin
}

// A Layer has the settings of one source, by the path of the field. A field that the
// source does not set is absent; a zero value in it is set to zero.
type Layer map[string]Setting

// Sources are the layers that are merged, by [OriginKind] and so in increasing precedence.
type Sources [FromFlag + 1]Layer

// Merge sets the leaves of out to the setting of the strongest source that has one, and
// records their origins by path, with prefix before it. A stronger source replaces lists
// and maps as a whole, apart from those of [Field.Partial], which are merged key by key.
//
// Viper decides which source holds. It gets whole settings under flat keys, with a
// delimiter that no key contains. This avoids what viper does to plain values: keys split
// at dots, strings turned into lists.
func (t *Table[T]) Merge(s Sources, out *T, origins map[string]Origin, prefix string) {
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	for path, one := range s[FromDefault] {
		v.SetDefault(path, one)
	}
	for _, l := range s[FromUser:FromFlag] {
		values := map[string]any{}
		for path, one := range l {
			values[path] = one
		}
		_ = v.MergeConfigMap(values) // never returns an error
	}
	// Set has the highest precedence in viper, also over merged maps.
	for path, one := range s[FromFlag] {
		v.Set(path, one)
	}
	into := reflect.ValueOf(out).Elem()
	for _, f := range t.Leaves() {
		if one, ok := v.Get(f.Path).(Setting); ok {
			value := reflect.ValueOf(one.Value)
			if f.Partial() {
				value = reflect.ValueOf(s.byKey(f)).Convert(f.typ)
			}
			into.FieldByIndex(f.index).Set(value)
			origins[prefix+f.Path] = one.Origin
		}
	}
}

// byKey merges a partial field, starting with the strongest source. Each weaker source
// only adds keys that are still missing. A source that has a text for all keys ends this,
// since it also covers the keys that weaker sources name.
func (s *Sources) byKey(f *Field) map[string]string {
	m := map[string]string{}
	for _, l := range slices.Backward(s[:]) {
		if one, said := l[f.Path]; said {
			for key, text := range reflect.ValueOf(one.Value).Convert(textMap).Interface().(map[string]string) {
				if _, said := m[key]; !said {
					m[key] = text
				}
			}
		}
		if _, all := m[f.check.Rest]; all {
			break
		}
	}
	return m
}

// Layer returns the settings in value for whose path origin returns true. Without it, a
// zero value could not be told from one that was not set.
func (t *Table[T]) Layer(value *T, origin func(path string) (Origin, bool)) Layer {
	l, in := Layer{}, reflect.ValueOf(value).Elem()
	for _, f := range t.Leaves() {
		if from, ok := origin(f.Path); ok {
			l[f.Path] = Setting{in.FieldByIndex(f.index).Interface(), from}
		}
	}
	return l
}

// Defaults returns the default of each field that has one. It panics on a default that
// its field does not accept, which is a mistake in this program.
func (t *Table[T]) Defaults() Layer {
	l := Layer{}
	for _, f := range t.Leaves() {
		if f.initial != "" {
			one, err := f.read(f.initial, Origin{})
			if err != nil {
				panic(err)
			}
			l[f.Path] = one
		}
	}
	return l
}

// Environment returns the settings of the variables. A field may have several variables,
// named like the key and like the flag. If they are set to different values, that is an
// error, since none has precedence. The error joins a [*Problem] for each variable that
// its field does not accept.
func (t *Table[T]) Environment(lookup func(string) (string, bool)) (Layer, error) {
	l := Layer{}
	var errs []error
	for _, f := range t.Leaves() {
		first, said := "", ""
		for _, name := range f.variables {
			s, ok := lookup(name)
			switch {
			case !ok || s == "":
			case first == "":
				first, said = name, s
				one, err := f.read(s, Origin{Kind: FromEnv, Name: name})
				l[f.Path], errs = one, append(errs, err)
			case s != said:
				errs = append(errs, &Problem{Origin: Origin{Kind: FromEnv, Name: name}, Key: f.Path, Err: fmt.Errorf("contradicts %s, which is the same setting", first)})
			}
		}
	}
	return l, errors.Join(errs...)
}

// Variables returns the names of all variables that Environment reads.
func (t *Table[T]) Variables() (list []string) {
	for _, f := range t.Leaves() {
		list = append(list, f.variables...)
	}
	return list
}

// Given returns the settings of the flags that were given on the command line. flags may
// be nil, and may lack some of the fields. The error joins a [*Problem] for each flag that
// its field does not accept.
func (t *Table[T]) Given(flags *pflag.FlagSet) (Layer, error) {
	l := Layer{}
	if flags == nil {
		return l, nil
	}
	var errs []error
	for _, f := range t.Leaves() {
		flag := flags.Lookup(f.Flag)
		// A flag that is only found through normalization belongs to another field.
		if f.Flag == "" || flag == nil || !flag.Changed || flag.Name != f.Flag {
			continue
		}
		origin := Origin{Kind: FromFlag, Name: flag.Name}
		var one Setting
		var err error
		if list, ok := flag.Value.(pflag.SliceValue); ok && (f.kind == texts || f.kind == partial) {
			one, err = f.typed(list.GetSlice(), origin)
		} else {
			one, err = f.read(flag.Value.String(), origin)
		}
		l[f.Path], errs = one, append(errs, err)
	}
	return l, errors.Join(errs...)
}

// read makes a setting of a text. If f is a list or partial, the text has all items, with
// the separator of the tag sep.
func (f *Field) read(text string, origin Origin) (Setting, error) {
	items := []string{text}
	switch {
	case f.kind == partial:
		items = f.check.Split(text)
	case f.kind == texts && f.sep == "lines":
		items = strings.Split(text, "\n")
	case f.kind == texts:
		items = strings.Split(text, ",")
	}
	if f.kind == texts || f.kind == partial {
		for i, item := range items {
			items[i] = strings.TrimSpace(item)
		}
	}
	return f.typed(items, origin)
}

// typed makes a setting of the items of a list, or of the only item.
func (f *Field) typed(items []string, origin Origin) (Setting, error) {
	out := reflect.New(f.typ).Elem()
	wrong := f.assign(out, items)
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		errs = append(errs, &Problem{Origin: origin, Key: f.Path, Err: wrong[i]})
	}
	return Setting{out.Interface(), origin}, errors.Join(errs...)
}
