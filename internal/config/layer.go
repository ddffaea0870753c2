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

// An OriginKind is the kind of source that a value came from.
type OriginKind int

// The kinds of sources, in the order of precedence: each beats those before it. The order
// of the constants is relied on (how.Kind >= FromEnv, [sources]).
const (
	FromDefault OriginKind = iota
	FromUser               // the user's own file
	FromFile               // the file of the source tree
	FromEnv
	FromFlag
)

// An Origin identifies the source of a value.
type Origin struct {
	Kind OriginKind
	Name string // of the file, variable or flag; "" for a default
	Line int    // in the file, from 1; 0 if not known
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

// A setting is a value, in the type of its field, and its origin.
type setting struct {
	value  any
	origin Origin
}

// A layer has the settings of one source, by the path of the field. A field that the
// source does not set is absent; a zero value in it is set to zero.
type layer map[string]setting

// sources are the layers that are merged, by [OriginKind] and so in increasing precedence.
type sources [FromFlag + 1]layer

// merge sets the leaves among fields in the struct out, and records their origins by
// path, with prefix before it.
//
// Viper decides which source holds. It gets whole settings under flat keys, with a
// delimiter that no key contains. This avoids what viper does to plain values: keys split
// at dots, strings turned into lists. Lists are therefore replaced by a stronger source,
// not merged.
func (s sources) merge(fields []*field, out reflect.Value, origins map[string]Origin, prefix string) {
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

// perPlatform merges a field per platform, starting with the strongest source. Each
// weaker source only adds platforms that are still missing. A source that has a value for
// all platforms ends this, since it also covers the platforms that weaker sources name.
func (s sources) perPlatform(path string) PerPlatform {
	m := PerPlatform{}
	for _, l := range slices.Backward(s[:]) {
		texts, _ := l[path].value.(PerPlatform) // nil if the source does not set it
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

// inFile returns the settings of a file, whose struct in is at prefix. lines tells which
// keys the file has; without it, a zero value could not be told from a missing one.
func inFile(fields []*field, in reflect.Value, kind OriginKind, file string, lines map[string]int, prefix string) layer {
	l := layer{}
	for _, f := range leaves(fields) {
		if line, ok := lines[prefix+f.path]; ok {
			l[f.path] = setting{in.FieldByIndex(f.index).Interface(), Origin{kind, file, line}}
		}
	}
	return l
}

// defaults returns the default of each field that has one.
func defaults(fields []*field) layer {
	l := layer{}
	for _, f := range leaves(fields) {
		if f.initial != "" {
			l[f.path], _ = f.read([]string{f.initial}, Origin{}) // defaults are valid
		}
	}
	return l
}

// environment returns the settings of the variables. A field may have two variables, one
// named like the key and one like the flag. If both are set to different values, that is
// an error, since neither has precedence.
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

// injected reports whether Kubernetes has set a variable, for a service named mabuild:
// MABUILD_PORT=tcp://10.0.0.1:80.
func injected(name, value string) bool {
	return name == "MABUILD_PORT" && strings.Contains(value, "://")
}

// given returns the settings of the flags that were given on the command line. flags may
// be nil, and may lack some of the fields.
func given(fields []*field, flags *pflag.FlagSet) (layer, error) {
	l := layer{}
	if flags == nil {
		return l, nil
	}
	var errs []error
	for _, f := range leaves(fields) {
		flag := flags.Lookup(f.flag)
		// A flag that is only found through normalization belongs to another field.
		if f.flag == "" || flag == nil || !flag.Changed || flag.Name != f.flag {
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

// plain reports whether a value of f can be written as one text, in a variable or flag.
func (f *field) plain() bool { return f.leaf && f.elem == nil }

// read makes a setting of items[0]. If f is a list or per platform, the text has all
// items, with the separator of the tag sep.
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

// typed makes a setting of the items of a list, or of the only item.
func (f *field) typed(items []string, origin Origin) (setting, error) {
	out := reflect.New(f.typ).Elem()
	wrong := f.assign(out, items)
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		errs = append(errs, &Problem{Origin: origin, Key: f.path, Err: wrong[i]})
	}
	return setting{out.Interface(), origin}, errors.Join(errs...)
}

// inherit completes the builds of the file. A build takes each setting that it lacks from
// the top level, so the merged top level serves as its defaults. Environment and flags
// beat the file, also for builds. The origin of an inherited value is that of the top
// level.
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
		// The user's own file has no settings of programs, so it is missing here.
		sources{FromDefault: above, FromFile: own, FromEnv: top[FromEnv], FromFlag: top[FromFlag]}.merge(fields, b, c.origins, prefix)
		if c.Builds[i].Dir == "" {
			c.Builds[i].Dir = c.Dir
		}
		c.Builds[i].prefix = prefix
		c.Builds[i].yield(top[FromEnv], top[FromFlag])
	}
}

// imply turns cgo on if a flag or variable says how to compile C and no source says
// whether to. For the file, the decoder has done this.
func (g *Cgo) imply(origins map[string]Origin, prefix string) {
	for _, key := range []string{"cgo.toolchain", "cgo.static"} {
		if how := origins[prefix+key]; how.Kind >= FromEnv && origins[prefix+"cgo.enabled"].Kind == FromDefault {
			g.Enabled, origins[prefix+"cgo.enabled"] = true, how
		}
	}
}

// yield clears the overrides that a stronger source sets for every build: an override for
// one platform in the file must not beat a flag.
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

// Within returns the directories that paths in the tree's file, and the sources, must
// stay in: the tree and those that the user allows. It is empty if there is no tree.
func (c *Config) Within() []string { return slices.Clone(c.within) }

// Tree returns the directory of the tree, whose content may be untrusted. It is "" if
// neither a configuration file nor .git or go.mod marks one.
func (c *Config) Tree() string { return c.tree }

// FromTree reports whether a key of a build was set by a file of the tree, not by the
// user.
func (c *Config) FromTree(b Build, key string) bool { return c.origins[b.prefix+key].Kind == FromFile }

// Origin returns where the value at a dotted path came from, such as
// "image.user" or "builds[0].ldflags".
func (c *Config) Origin(path string) Origin { return c.origins[path] }
