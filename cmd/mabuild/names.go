package main

import (
	"encoding/csv"
	"strings"

	"github.com/spf13/pflag"
)

// strategies are ko's flags for the path below repo, with the value of the key naming to
// which each corresponds.
var strategies = []struct{ flag, short, naming, doc string }{
	{"bare", "", "bare", "Push to the repository itself"},
	{"preserve-import-paths", "P", "import-path", "Use the import path (repo/example.com/cmd/app)"},
	{"base-import-paths", "B", "base-import-path", "Use the last element of the import path (repo/app)"},
}

// bindNames adds ko's flags for names of images and lists of references.
func (o *pushOptions) bindNames(flags *pflag.FlagSet) {
	for _, s := range strategies {
		flags.BoolP(s.flag, s.short, false, s.doc)
	}
	flags.BoolVar(&o.tagOnly, "tag-only", false, "Print repository:tag instead of repository@digest")
	flags.StringVar(&o.refsFile, "image-refs", "", "Write the references of all indexes and images to `FILE`, one per line")
}

// named applies ko's flags for names to the configuration, for all builds. They have no
// key themselves, so config.Load does not see them.
func (a *app) named(flags *pflag.FlagSet) error {
	var given []string
	naming := ""
	for _, s := range strategies {
		if on, err := flags.GetBool(s.flag); err == nil && on {
			given, naming = append(given, "--"+s.flag), s.naming
		}
	}
	if len(given) > 0 && flags.Changed("naming") {
		given = append(given, "--naming")
	}
	if len(given) > 1 {
		return usage("use only one of them", "%s cannot be used together", strings.Join(given, " and "))
	}
	if naming == "" {
		return nil
	}
	a.config.Naming = naming
	for i := range a.config.Builds {
		a.config.Builds[i].Naming = naming
	}
	return nil
}

// bindKo adds flags that have another name in ko. In ko, items of labels and annotations
// are separated by commas. The flags are hidden from completion but not from the help.
func bindKo(flags *pflag.FlagSet) {
	for _, f := range []struct{ theirs, ours string }{{"image-label", "label"}, {"image-annotation", "annotation"}, {"image-user", "user"}, {"tags", "tag"}} {
		flags.Var(&koFlag{flags, f.ours}, f.theirs, "Same as --"+f.ours)
		flags.Lookup(f.theirs).Hidden = true
	}
}

// A koFlag sets another flag of the command. It implements [pflag.Value].
type koFlag struct {
	flags *pflag.FlagSet
	ours  string
}

// Set splits text like ko, as a line of CSV, and sets each item; a user is not a list. A
// text without a comma is passed on as it is, since CSV would reject quotes in it.
func (f *koFlag) Set(text string) error {
	items := []string{text}
	if strings.Contains(text, ",") && f.ours != "user" {
		var err error
		if items, err = csv.NewReader(strings.NewReader(text)).Read(); err != nil {
			return err
		}
	}
	for _, item := range items {
		if err := f.flags.Set(f.ours, item); err != nil {
			return err
		}
	}
	return nil
}

// String is empty: the flag has no value itself.
func (f *koFlag) String() string { return "" }
func (f *koFlag) Type() string   { return "list" }
