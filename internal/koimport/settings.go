package koimport

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// settings writes how programs are compiled, from the keys s, and returns them for the
// builds below. In ko as in mabuild, a key of a build replaces that of the top level. But
// ko's single key flags corresponds to several keys here, so a build that sets it must
// also reset the keys that only the top level's flags set (see writer.settings).
func (k *conversion) settings(w *writer, s, top settings, at string) settings {
	key := func(name string) string {
		if at == "default" {
			return at + strings.ToUpper(name[:1]) + name[1:]
		}
		return at + "." + name
	}
	// The flags of the top level are read again, to see which keys they set.
	above := config.Settings{}
	if s.flags != nil && top.flags != nil {
		above = k.flags(&writer{}, top.flags, "")
	}
	env := k.texts(s.env, key("env"))
	if s.env == nil {
		env = k.texts(top.env, "")
	}
	if s.env != nil {
		k.env(w, s.env, key("env"))
	}
	given := s.ldflags
	f := config.Settings{}
	if s.flags != nil {
		f = k.flags(w, s.flags, key("flags"))
		w.settings(f, above)
	}
	if given != nil || len(f.Ldflags) > 0 || at == "default" {
		k.ldflags(w, given, f.Ldflags, env, key("ldflags"))
	}
	return s
}

// env writes the variables for the go command. Platforms and cgo have keys here.
// Variables that a file may not set become comments.
func (k *conversion) env(w *writer, n *yaml.Node, key string) {
	var kept []string
	for _, item := range k.items(n, true) {
		name, value, _ := strings.Cut(item.Value, "=")
		switch {
		case name == "CGO_ENABLED":
			if value == "1" {
				w.line("cgo: true")
			}
		case strings.HasPrefix(name, "GOOS"), strings.HasPrefix(name, "GOARCH"), strings.HasPrefix(name, "GOARM"), strings.HasPrefix(name, "GOAMD64"):
			k.comment(w, item, key, item.Value+": set by the platforms")
		case config.JudgeVariable(item.Value) != nil:
			k.comment(w, item, key, name+" must be set in the environment of mabuild")
		default:
			kept = append(kept, item.Value)
		}
	}
	w.values("env", kept)
}

// flags returns the settings of the flags of go build, which may have their value in the
// next word, and comments on those without a counterpart.
func (k *conversion) flags(w *writer, n *yaml.Node, key string) (f config.Settings) {
	items := k.items(n, true)
	for i := 0; i < len(items); i++ {
		item := items[i]
		name, value, joined := strings.Cut(strings.TrimLeft(item.Value, "-"), "=")
		if takesValue := slices.Contains([]string{"tags", "ldflags", "gcflags", "pgo", "mod", "p", "asmflags", "installsuffix", "buildmode", "overlay", "modfile", "toolexec"}, name); takesValue && !joined && i+1 < len(items) {
			i++
			value = items[i].Value
		}
		switch name {
		case "trimpath", "v", "x", "a", "work", "p": // always set, or without effect on the program
		case "tags":
			f.BuildTags = append(f.BuildTags, strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })...)
		case "ldflags":
			f.Ldflags = append(f.Ldflags, value)
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
	return f
}

// settings writes the keys that f, the result of flags, sets, and resets those that only
// above sets.
func (w *writer) settings(f, above config.Settings) {
	if len(f.BuildTags)+len(above.BuildTags) > 0 {
		w.list("build_tags", f.BuildTags)
	}
	if len(f.Gcflags)+len(above.Gcflags) > 0 {
		w.list("gcflags", f.Gcflags)
	}
	if f.Race || above.Race {
		w.line(fmt.Sprintf("race: %v", f.Race))
	}
	if f.Cover || above.Cover {
		w.line(fmt.Sprintf("cover: %v", f.Cover))
	}
	if f.PGO != "" {
		w.value("pgo", f.PGO)
	}
}

// ldflags writes the flags of the linker: those of the key n, then more from flags.
// mabuild strips programs by default and ko does not, so the result always has the key
// symbols, which keeps symbols unless -s is given.
func (k *conversion) ldflags(w *writer, n *yaml.Node, more, env []string, key string) {
	var kept []string
	stripped := false
	take := func(item *yaml.Node, text string) {
		text, err := k.template(text, env)
		if err == nil {
			err = config.JudgeFlags("link", text, true)
		}
		if err != nil {
			k.comment(w, item, key, item.Value+": "+err.Error())
			return
		}
		words := strings.Fields(text)
		// -s and -w are mabuild's default and are dropped. Quoted texts are not taken
		// apart.
		if slices.Contains(words, "-s") && !strings.ContainsAny(text, `'"`) {
			stripped = true
			words = slices.DeleteFunc(words, func(word string) bool { return word == "-s" || word == "-w" })
			text = strings.Join(words, " ")
		}
		if text != "" {
			kept = append(kept, text)
		}
	}
	for _, item := range k.items(n, false) {
		take(item, item.Value)
	}
	for _, text := range more {
		take(&yaml.Node{Value: text}, text)
	}
	if stripped {
		kept = slices.DeleteFunc(kept, func(text string) bool { return text == "-w" })
	}
	if n != nil || len(kept) > 0 {
		w.list("ldflags", kept)
	}
	w.line(fmt.Sprintf("symbols: %v # as in ko: symbols are kept unless ldflags has -s -w", !stripped))
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
