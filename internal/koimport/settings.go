package koimport

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// A setting is a key of ko with a list: its items and its path.
type setting struct {
	items []*yaml.Node
	key   string
}

// settings are the keys that ko's defaults and builds have in common.
type settings struct {
	env, flags, ldflags setting
}

// setting reads a list (see items).
func (k *conversion) setting(n *yaml.Node, key string, split bool) setting {
	return setting{k.items(n, split), key}
}

// replacedBy returns what a build has. In ko, an empty list of a build does not replace
// that of the top level.
func (s setting) replacedBy(own setting) setting {
	if len(own.items) == 0 {
		return s
	}
	return own
}

// texts returns the items as texts.
func (s setting) texts() (list []string) {
	for _, item := range s.items {
		list = append(list, item.Value)
	}
	return list
}

// settings converts how programs are compiled. What has no counterpart becomes a comment.
// mabuild strips programs by default and ko does not.
func (k *conversion) settings(w *writer, s settings) config.Settings {
	f := k.flags(w, s.flags, s.env.texts())
	k.env(w, &f, s)
	ldflags := s.ldflags
	if len(ldflags.items) == 0 { // else go build ignores those of flags, which come before
		ldflags = setting{f.linker, s.flags.key}
	}
	k.ldflags(w, &f.Settings, ldflags, s.env.texts())
	return f.Settings
}

// write writes the settings that differ from above, which are inherited.
func (k *conversion) write(w *writer, f, above config.Settings) {
	list := func(key string, items, above []string) {
		if !slices.Equal(items, above) {
			w.list(key, items)
		}
	}
	toggle := func(key string, on, above bool, comment string) {
		if on != above {
			w.line(fmt.Sprintf("%s: %v%s", key, on, comment))
		}
	}
	toggle("cgo", f.Cgo.Enabled, above.Cgo.Enabled, "")
	list("env", f.Env, above.Env)
	list("build_tags", f.BuildTags, above.BuildTags)
	list("gcflags", f.Gcflags, above.Gcflags)
	toggle("race", f.Race, above.Race, "")
	toggle("cover", f.Cover, above.Cover, "")
	if f.PGO != above.PGO {
		w.value("pgo", cmp.Or(f.PGO, "auto"))
	}
	list("ldflags", f.Ldflags, above.Ldflags)
	why := ""
	if f.Symbols && !k.explained {
		k.explained = true
		why = " # as in ko: symbols are kept unless ldflags has -s -w"
	}
	toggle("symbols", f.Symbols, above.Symbols, why)
}

// env converts the variables for the go command. Platforms and cgo have keys here.
// Variables that a file may not set become comments, unless they are only for templates,
// which are filled in.
func (k *conversion) env(w *writer, f *flagSettings, s settings) {
	var used []string
	for _, text := range slices.Concat(s.flags.texts(), s.ldflags.texts()) {
		used = append(used, variables(text)...)
	}
	for _, item := range s.env.items {
		name, value, _ := strings.Cut(item.Value, "=")
		switch {
		case name == "CGO_ENABLED":
			f.Cgo.Enabled = value == "1"
		case strings.HasPrefix(name, "GOOS"), strings.HasPrefix(name, "GOARCH"), strings.HasPrefix(name, "GOARM"), strings.HasPrefix(name, "GOAMD64"):
			k.comment(w, item, s.env.key, item.Value+": set by the platforms")
		case config.JudgeVariable(item.Value) == nil && !strings.Contains(value, "{{"): // ko has no templates here
			f.Env = append(f.Env, item.Value)
		case !slices.Contains(used, name) || strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "CGO_"):
			k.comment(w, item, s.env.key, name+" must be set in the environment of mabuild")
		}
	}
}

// flagSettings are the settings of the flags of go build.
type flagSettings struct {
	config.Settings
	linker []*yaml.Node // the value of -ldflags
}

// flags converts the flags of go build, which may have their value in the next word. Of
// flags without a pattern the go command uses the last. Those without a counterpart become
// comments.
func (k *conversion) flags(w *writer, s setting, env []string) (f flagSettings) {
	for i := 0; i < len(s.items); i++ {
		item := s.items[i]
		full := item.Value
		name, value, joined := strings.Cut(strings.TrimLeft(full, "-"), "=")
		if takesValue := slices.Contains([]string{"tags", "ldflags", "gcflags", "pgo", "mod", "p", "asmflags", "installsuffix", "buildmode", "overlay", "modfile", "toolexec"}, name); takesValue && !joined && i+1 < len(s.items) {
			i++
			value = s.items[i].Value
			full += " " + value
		}
		if name == "ldflags" { // ldflags fills in its templates
			f.linker = []*yaml.Node{{Kind: yaml.ScalarNode, Value: value, Line: item.Line}}
			continue
		}
		filled, err := template(full, env)
		if err == nil && strings.Contains(filled, "{{") {
			err = errors.New("of the flags, only ldflags supports templates")
		}
		if err != nil {
			k.comment(w, item, s.key, full+": "+err.Error())
			continue
		}
		if strings.Contains(value, "{{") {
			value, _ = template(value, env) // is a part of full
		}
		k.flag(w, &f.Settings, item, s.key, name, value)
	}
	return f
}

// flag converts one flag.
func (k *conversion) flag(w *writer, f *config.Settings, item *yaml.Node, key, name, value string) {
	switch name {
	case "trimpath", "v", "x", "a", "work", "p": // always set, or without effect on the program
	case "tags":
		f.BuildTags = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	case "gcflags":
		f.Gcflags = append(f.Gcflags, value)
	case "race":
		f.Race = value != "false"
	case "cover":
		f.Cover = value != "false"
	case "pgo":
		f.PGO = value
	case "buildvcs":
		if value == "true" || value == "" {
			k.comment(w, item, key, item.Value+": --vcs adds the commit as annotations, which does not change the program")
		}
	case "mod":
		k.comment(w, item, key, "-mod="+value+": a vendor directory is used automatically; or set GOFLAGS=-mod="+value+" in the environment")
	default:
		k.comment(w, item, key, item.Value+" has no counterpart")
	}
}

// ldflags converts the flags of the linker. -s and -w become symbols: false, mabuild's
// default. Quoted texts are not taken apart.
func (k *conversion) ldflags(w *writer, f *config.Settings, s setting, env []string) {
	f.Symbols = true
	for _, item := range s.items {
		text, err := template(item.Value, env)
		if err == nil {
			err = config.JudgeFlags("link", text, true)
		}
		if err != nil {
			k.comment(w, item, s.key, item.Value+": "+err.Error())
			continue
		}
		if words := strings.Fields(text); slices.Contains(words, "-s") && !strings.ContainsAny(text, `'"`) {
			f.Symbols = false
			text = strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "-s" || word == "-w" }), " ")
		}
		if text == "" {
			continue
		}
		f.Ldflags = append(f.Ldflags, text)
		for _, name := range variables(text) {
			k.variables[name] = true
		}
	}
	if !f.Symbols {
		f.Ldflags = slices.DeleteFunc(f.Ldflags, func(text string) bool { return text == "-w" })
	}
}

// items returns the scalars of a list. A single text is split into words if split is set,
// as ko reads flags, else it is one item, as ko reads ldflags.
func (k *conversion) items(n *yaml.Node, split bool) []*yaml.Node {
	if n == nil || yamlconf.IsNull(n) {
		return nil
	}
	n, ok := k.d.Descend(n)
	if !ok {
		return nil
	}
	var list []*yaml.Node
	switch {
	case n.Kind == yaml.ScalarNode && !split:
		list = append(list, n)
	case n.Kind == yaml.ScalarNode:
		for _, word := range strings.Fields(n.Value) {
			list = append(list, &yaml.Node{Kind: yaml.ScalarNode, Value: word, Line: n.Line})
		}
	case k.kind(n, yaml.SequenceNode, ""):
		for _, item := range n.Content {
			if item, ok := k.d.Descend(item); ok && k.kind(item, yaml.ScalarNode, "") {
				list = append(list, item)
			}
		}
	}
	return list
}

// A writer has lines of YAML at one level.
type writer []string

// line adds a line as it is.
func (w *writer) line(text string) { *w = append(*w, text) }

// value adds a key with a text.
func (w *writer) value(key, text string) { w.line(key + ": " + quoted(text)) }

// values writes a list unless it is empty.
func (w *writer) values(key string, items []string) {
	if len(items) > 0 {
		w.list(key, items)
	}
}

// list writes a list on one line, even if it is empty: that resets an inherited key.
func (w *writer) list(key string, items []string) {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = quoted(item)
	}
	w.line(key + ": [" + strings.Join(texts, ", ") + "]")
}

// item adds the lines of a list item, indented. The dash goes before the first line that
// is not a comment.
func (w *writer) item(lines writer) {
	at := slices.IndexFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "#") })
	for i, line := range lines {
		switch {
		case i == at:
			w.line("  - " + line)
		case i < at:
			w.line("  " + line)
		default:
			w.line("    " + line)
		}
	}
}

// quoted returns a text as a JSON string, which is also a YAML string.
func quoted(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil { // never fails for a string
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
