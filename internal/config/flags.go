package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// global are the keys whose flags every command takes: how to reach registries
// and how to talk to the person. The others are for commands that build.
var global = []string{
	"cache.dir", "cache.max", "ca_file", "client_cert", "client_key", "insecure_registries", "progress", "timeout", "trust_realms",
}

var shorthands = map[string]string{"tag": "t", "output": "o", "jobs": "j"}

// BindGlobal adds the flags that every command takes.
func BindGlobal(flags *pflag.FlagSet) {
	bind(flags, func(f *field) bool { return slices.Contains(global, f.path) })
}

// BindBuild adds the flags of commands that build. --platform is --platforms.
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

// bind adds a flag for each key that has one and is wanted. [Load] looks at
// those that were given; what a flag would be without is Load's to say, and only
// told here.
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

// usageOf makes the description of a key that of its flag: without a full stop, and
// with the name of the value, if it has one, quoted as pflag wants it.
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

// Words returns what the value of a flag may be, where that is one of a few words.
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

// A commaList is the value of a flag that may be repeated and whose items commas
// separate. Unlike pflag's own it takes quotes for what they are, as templates
// have them.
type commaList []string

func (l *commaList) Set(text string) error {
	*l = append(*l, strings.Split(text, ",")...)
	return nil
}

func (l *commaList) String() string             { return strings.Join(*l, ",") }
func (l *commaList) Type() string               { return "list" }
func (l *commaList) GetSlice() []string         { return *l }
func (l *commaList) Append(item string) error   { *l = append(*l, item); return nil }
func (l *commaList) Replace(all []string) error { *l = all; return nil }

// An imageList is a commaList of images, of which a local place may have commas of its
// own: in quotes, and before its option.
type imageList struct{ commaList }

func (l *imageList) Set(text string) error {
	l.commaList = append(l.commaList, splitImages(text)...)
	return nil
}

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
