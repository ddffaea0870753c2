package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// An OriginKind says where a value came from.
type OriginKind int

// The origins, each of which beats those before it.
const (
	FromDefault OriginKind = iota
	FromUser               // the person's own file
	FromFile               // the file of the tree
	FromEnv
	FromFlag
)

// An Origin is where a value came from.
type Origin struct {
	Kind OriginKind
	Name string // of file, variable or flag
	Line int    // in the file; 0: unknown
}

// String returns "default", ".mabuild.yaml:3", "env MABUILD_REPO" or "flag --tag".
func (o Origin) String() string {
	switch {
	case (o.Kind == FromFile || o.Kind == FromUser) && o.Line > 0:
		return o.Name + ":" + strconv.Itoa(o.Line)
	case o.Kind == FromFile || o.Kind == FromUser:
		return o.Name
	case o.Kind == FromEnv:
		return "env " + o.Name
	case o.Kind == FromFlag:
		return "flag --" + o.Name
	}
	return "default"
}

// A setting is a value, of the type that its field has, and its origin.
type setting struct {
	value  any
	origin Origin
}

// A layer is what one source says, by the path of the field.
type layer map[string]setting

// sources are the layers that are merged, the weakest first.
type sources struct{ defaults, user, file, env, flags layer }

// merge sets the leaves among fields of the struct out, and notes their origins
// below prefix.
//
// Viper decides which source holds. It is given whole values of their own types
// under flat keys, which spares us its handling of text: lower case, dots in
// keys, strings that become lists.
func (s sources) merge(fields []*field, out reflect.Value, origins map[string]Origin, prefix string) {
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	for path, one := range s.defaults {
		v.SetDefault(path, one)
	}
	for _, l := range []layer{s.user, s.file, s.env} {
		values := map[string]any{}
		for path, one := range l {
			values[path] = one
		}
		_ = v.MergeConfigMap(values) // has no error to return
	}
	for path, one := range s.flags {
		v.Set(path, one)
	}
	for _, f := range leaves(fields) {
		if one, ok := v.Get(f.path).(setting); ok {
			if f.kind == perPlatform {
				one.value = s.perPlatform(f.path)
			}
			out.FieldByIndex(f.index).Set(reflect.ValueOf(one.value))
			origins[prefix+f.path] = one.origin
		}
	}
}

// perPlatform returns what holds for each platform: a source that says nothing of
// all platforms leaves to the weaker ones those that it does not name.
func (s sources) perPlatform(path string) PerPlatform {
	m := PerPlatform{}
	for _, l := range []layer{s.flags, s.env, s.file, s.user, s.defaults} {
		texts, _ := l[path].value.(PerPlatform) // nil where the source is silent
		for key, text := range texts {
			if _, said := m[key]; !said {
				m[key] = text
			}
		}
		if _, all := m[everyPlatform]; all {
			break
		}
	}
	return m
}

// inFile returns what a file says in the struct in, which stands at prefix.
func inFile(fields []*field, in reflect.Value, kind OriginKind, file string, lines map[string]int, prefix string) layer {
	l := layer{}
	for _, f := range leaves(fields) {
		if line, ok := lines[prefix+f.path]; ok {
			l[f.path] = setting{in.FieldByIndex(f.index).Interface(), Origin{kind, file, line}}
		}
	}
	return l
}

// defaults returns the values that hold where nobody says anything.
func defaults(fields []*field) layer {
	l := layer{}
	for _, f := range leaves(fields) {
		if f.initial != "" {
			l[f.path], _ = f.read([]string{f.initial}, Origin{}) // a test reads them all
		}
	}
	return l
}

// environment returns what the variables say.
func environment(fields []*field, lookup func(string) (string, bool)) (layer, error) {
	l := layer{}
	var errs []error
	for _, f := range leaves(fields) {
		if !f.plain() || f.flag == "" {
			continue
		}
		first, said := "", ""
		for _, name := range f.variables() {
			s, ok := lookup(name)
			switch {
			case !ok || s == "" || injected(name, s):
			case first == "":
				first, said = name, s
				one, err := f.read([]string{s}, Origin{Kind: FromEnv, Name: name})
				l[f.path], errs = one, append(errs, err)
			case s != said:
				errs = append(errs, &Problem{Origin: Origin{Kind: FromEnv, Name: name}, Key: f.path, Err: fmt.Errorf("contradicts %s, which is the same setting", first)})
			}
		}
	}
	return l, errors.Join(errs...)
}

// injected reports whether Kubernetes has set a variable, for a service that is called
// mabuild: MABUILD_PORT=tcp://10.0.0.1:80.
func injected(name, value string) bool {
	return name == "MABUILD_PORT" && strings.Contains(value, "://")
}

// given returns what the flags say that were given.
func given(fields []*field, flags *pflag.FlagSet) (layer, error) {
	l := layer{}
	if flags == nil {
		return l, nil
	}
	var errs []error
	for _, f := range leaves(fields) {
		flag := flags.Lookup(f.flag)
		if f.flag == "" || flag == nil || !flag.Changed || flag.Name != f.flag { // another's, under this name too
			continue
		}
		origin := Origin{Kind: FromFlag, Name: flag.Name}
		var one setting
		var err error
		if list, ok := flag.Value.(pflag.SliceValue); ok && (f.kind == texts || f.kind == perPlatform) {
			one, err = f.typed(list.GetSlice(), origin)
		} else {
			one, err = f.read([]string{flag.Value.String()}, origin)
		}
		l[f.path], errs = one, append(errs, err)
	}
	return l, errors.Join(errs...)
}

// plain reports whether a value of f can be said in one text.
func (f *field) plain() bool { return f.leaf && f.elem == nil }

// read makes a setting of one text, which for a list holds all of its items.
func (f *field) read(items []string, origin Origin) (setting, error) {
	if f.kind == texts || f.kind == perPlatform {
		sep := ","
		if f.sep == "lines" {
			sep = "\n"
		}
		list := strings.Split(items[0], sep)
		if f.kind == perPlatform {
			list = splitImages(items[0])
		}
		for i, item := range list {
			list[i] = strings.TrimSpace(item)
		}
		items = list
	}
	return f.typed(items, origin)
}

// typed makes a setting of the items of a list, or of the only one.
func (f *field) typed(items []string, origin Origin) (setting, error) {
	out := reflect.New(f.typ).Elem()
	wrong := f.assign(out, items)
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		errs = append(errs, &Problem{Origin: origin, Key: f.path, Err: wrong[i]})
	}
	return setting{out.Interface(), origin}, errors.Join(errs...)
}

// inherit completes the builds of the file: what a build does not say itself it
// has from the top level, and environment and flags beat both.
func (c *Config) inherit(top sources, lines map[string]int) {
	fields, settings := describe(reflect.TypeFor[Build]()), describe(reflect.TypeFor[Settings]())
	above := layer{}
	for _, f := range leaves(settings) {
		above[f.path] = setting{reflect.ValueOf(c.Settings).FieldByIndex(f.index).Interface(), c.origins[f.path]}
	}
	for i := range c.Builds {
		b := reflect.ValueOf(&c.Builds[i]).Elem()
		prefix := fmt.Sprintf("builds[%d].", i)
		own := inFile(fields, b, FromFile, c.File, lines, prefix)
		sources{defaults: above, file: own, env: top.env, flags: top.flags}.merge(fields, b, c.origins, prefix)
		if c.Builds[i].Dir == "" {
			c.Builds[i].Dir = c.Dir
		}
		c.Builds[i].prefix = prefix
		c.Builds[i].yield(top.env, top.flags)
	}
}

// imply takes a flag or a variable that says how C is compiled for saying that it
// is; in the file the decoder did.
func (g *Cgo) imply(origins map[string]Origin, prefix string) {
	for _, key := range []string{"cgo.toolchain", "cgo.static"} {
		if how := origins[prefix+key]; how.Kind >= FromEnv && origins[prefix+"cgo.enabled"].Kind == FromDefault {
			g.Enabled, origins[prefix+"cgo.enabled"] = true, how
		}
	}
}

// yield takes out of the overrides what a stronger source says for every build.
func (b *Build) yield(stronger ...layer) {
	for key, o := range b.Overrides {
		v := reflect.ValueOf(&o).Elem()
		for _, f := range describe(v.Type()) {
			for _, l := range stronger {
				if _, ok := l[f.path]; ok {
					v.FieldByIndex(f.index).SetZero()
				}
			}
		}
		b.Overrides[key] = o
	}
}

// Within returns the directories that the tree's file, and the sources, may not lead out
// of: the tree, and what the person allows. There is none where no tree is.
func (c *Config) Within() []string { return slices.Clone(c.within) }

// Tree returns the directory of the tree, which may be a stranger's, "" where neither a file
// nor .git or go.mod marks one.
func (c *Config) Tree() string { return c.tree }

// FromTree reports whether a file of a tree says a key of a build, rather than a person.
func (c *Config) FromTree(b Build, key string) bool { return c.origins[b.prefix+key].Kind == FromFile }

// Origin returns where the value at a dotted path came from, such as
// "image.user" or "builds[0].ldflags".
func (c *Config) Origin(path string) Origin { return c.origins[path] }
