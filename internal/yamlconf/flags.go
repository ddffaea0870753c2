package yamlconf

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Bind adds a flag for each key that has one and that wanted accepts. The flags have zero
// defaults: [Table.Given] reads only those that were given, and [Table.Defaults] has the
// defaults. The usage text names the default. Aliases of flags are normalized.
func (t *Table[T]) Bind(flags *pflag.FlagSet, wanted func(path string) bool) {
	bound := slices.DeleteFunc(t.Leaves(), func(f *Field) bool { return f.Flag == "" || !wanted(f.Path) })
	for _, f := range bound {
		if f.alias != "" {
			aliases := flags.GetNormalizeFunc()
			flags.SetNormalizeFunc(func(flags *pflag.FlagSet, name string) pflag.NormalizedName {
				if name == f.alias {
					name = f.Flag
				}
				return aliases(flags, name)
			})
		}
	}
	for _, f := range bound {
		usage := usageOf(f.Doc) + f.check.Usage
		if slices.ContainsFunc(f.Enum, func(word string) bool { return !strings.Contains(f.Doc, word) }) {
			usage += ": " + strings.Join(f.Enum, ", ")
		}
		if f.initial != "" {
			usage += " (default " + f.initial + ")"
		}
		switch {
		case f.kind == boolean:
			flags.BoolP(f.Flag, f.letter, false, usage)
		case f.kind == number:
			flags.IntP(f.Flag, f.letter, 0, usage)
		case f.kind == texts && f.sep == "lines":
			flags.StringArrayP(f.Flag, f.letter, nil, usage)
		case f.kind == texts:
			comma := func(text string) []string {
				items := strings.Split(text, ",")
				for i, item := range items {
					items[i] = strings.TrimSpace(item)
				}
				return items
			}
			flags.VarP(&splitList{split: comma}, f.Flag, f.letter, usage)
		case f.kind == partial:
			flags.VarP(&splitList{split: f.check.Split}, f.Flag, f.letter, usage)
		default:
			flags.StringP(f.Flag, f.letter, "", usage)
		}
	}
}

// usageOf turns the description of a key into that of its flag. It removes the full stop
// and puts the name of the value into backquotes, from which pflag takes it for the help.
func usageOf(doc string) string {
	doc = strings.TrimSuffix(doc, ".")
	for _, name := range []string{"KEY=VALUE", " FILE ", " REPOSITORY,", " DIR,", " DIR ", " HOST"} {
		if before, after, ok := strings.Cut(doc, name); ok {
			bare := strings.Trim(name, " ,")
			return before + strings.Replace(name, bare, "`"+bare+"`", 1) + after
		}
	}
	return doc
}

// A splitList is the value of a repeatable flag whose text split takes apart, mostly at
// commas. pflag's own type reads CSV and would fail at quotes, which templates contain.
type splitList struct {
	items []string
	split func(string) []string
}

// Set appends the items in text.
func (l *splitList) Set(text string) error {
	l.items = append(l.items, l.split(text)...)
	return nil
}

// String, Type, GetSlice, Append and Replace implement [pflag.Value] and
// [pflag.SliceValue].
func (l *splitList) String() string             { return strings.Join(l.items, ",") }
func (l *splitList) Type() string               { return "list" }
func (l *splitList) GetSlice() []string         { return l.items }
func (l *splitList) Append(item string) error   { l.items = append(l.items, item); return nil }
func (l *splitList) Replace(all []string) error { l.items = all; return nil }
