package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// global are the keys whose flags all commands have: connections to registries, the cache
// and the output for the user. All other flags exist only for commands that build.
var global = []string{
	"cache.dir", "cache.max", "ca_file", "client_cert", "client_key", "insecure_registries", "progress", "timeout", "trust_realms",
}

// shorthands has the letters of flags that have one.
var shorthands = map[string]string{"tag": "t", "output": "o", "jobs": "j"}

// BindGlobal adds the flags that all commands have.
func BindGlobal(flags *pflag.FlagSet) {
	bind(flags, func(f *field) bool { return slices.Contains(global, f.path) })
}

// BindBuild adds the flags of commands that build. --platform is an alias of --platforms,
// as docker buildx spells it. Permissions for the file are bound here too, without a key.
func BindBuild(flags *pflag.FlagSet) {
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "platform" {
			name = "platforms"
		}
		return pflag.NormalizedName(name)
	})
	bind(flags, func(f *field) bool { return !slices.Contains(global, f.path) })
	flags.Bool(allowUnsafe, false, "Allow all compiler flags and variables in the configuration file, which can run programs")
	BindTrust(flags)
}

// bind adds a flag for each key that has one and that wanted accepts. The flags have zero
// defaults: [Load] reads only those that were given, and applies defaults itself. The
// usage text names the default.
func bind(flags *pflag.FlagSet, wanted func(*field) bool) {
	for _, f := range leaves(describe(reflect.TypeFor[Config]())) {
		if f.flag == "" || !wanted(f) {
			continue
		}
		usage, short := usageOf(f.doc), shorthands[f.flag]
		if f.kind == perPlatform {
			usage += "; `IMAGE` or PLATFORM=IMAGE, repeatable"
		}
		if f.initial != "" {
			usage += " (default " + f.initial + ")"
		}
		switch {
		case f.kind == boolean:
			flags.BoolP(f.flag, short, false, usage)
		case f.kind == number:
			flags.IntP(f.flag, short, 0, usage)
		case f.kind == texts && f.sep == "lines":
			flags.StringArrayP(f.flag, short, nil, usage)
		case f.kind == texts:
			flags.VarP(new(commaList), f.flag, short, usage)
		case f.kind == perPlatform:
			flags.VarP(new(imageList), f.flag, short, usage)
		default:
			flags.StringP(f.flag, short, "", usage)
		}
	}
}

// usageOf turns the description of a key into that of its flag. It removes the full stop
// and puts the name of the value into backquotes, from which pflag takes it for the help.
func usageOf(doc string) string {
	doc = strings.TrimSuffix(doc, ".")
	for _, name := range []string{"KEY=VALUE", " FILE ", " DIR,", " DIR ", " HOST"} {
		if before, after, ok := strings.Cut(doc, name); ok {
			bare := strings.Trim(name, " ,")
			return before + strings.Replace(name, bare, "`"+bare+"`", 1) + after
		}
	}
	return doc
}

// Words returns the words that complete the value of a flag, or nil if there are none.
func Words(flag string) []string {
	switch flag {
	case "base":
		return []string{"static", "scratch"}
	case "compression":
		return []string{"gzip", "zstd"}
	}
	for _, f := range leaves(describe(reflect.TypeFor[Config]())) {
		if f.flag == flag {
			return f.enum
		}
	}
	return nil
}

// A commaList is the value of a repeatable flag whose items are separated by commas.
// pflag's own type reads CSV and would fail at quotes, which templates contain.
type commaList []string

// Set appends the items in text.
func (l *commaList) Set(text string) error {
	*l = append(*l, strings.Split(text, ",")...)
	return nil
}

// String, Type, GetSlice, Append and Replace implement [pflag.Value] and
// [pflag.SliceValue].
func (l *commaList) String() string             { return strings.Join(*l, ",") }
func (l *commaList) Type() string               { return "list" }
func (l *commaList) GetSlice() []string         { return *l }
func (l *commaList) Append(item string) error   { *l = append(*l, item); return nil }
func (l *commaList) Replace(all []string) error { *l = all; return nil }

// An imageList is a commaList of images. A local place may contain commas, within quotes
// or before its option platform=.
type imageList struct{ commaList }

// Set appends the images in text.
func (l *imageList) Set(text string) error {
	l.commaList = append(l.commaList, splitImages(text)...)
	return nil
}

// splitImages splits text at commas, but not within quotes and not before platform=.
// Quotes remain in the items.
func splitImages(text string) (list []string) {
	from, quoted := 0, false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted && !strings.HasPrefix(text[i+1:], "platform="):
			list, from = append(list, text[from:i]), i+1
		}
	}
	return append(list, text[from:])
}
