// Package koimport converts the configuration of ko, .ko.yaml, into one of mabuild.
package koimport

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Result is a converted file and what a user should know about it.
type Result struct {
	Text []byte // of a [config.FileName]; its keys are valid
	// Dropped has the settings without a counterpart, each a [*yamlconf.Problem] with its
	// line. They are comments in Text.
	Dropped   []error
	Variables []string // that templates in Text read, sorted
}

// A conversion of a .ko.yaml reads YAML nodes with a decoder, for its bounds and the lines
// of errors.
type conversion struct {
	d         *yamlconf.Decoder
	file      string
	dir       string // of .ko.yaml, where go.mod files and kodata are looked up
	dropped   []error
	seen      map[string]bool // comments: builds inherit settings and what is wrong with them
	variables map[string]bool // that templates read
	explained bool            // the comment on symbols was written
}

// Convert converts file, a .ko.yaml in the directory dir with the content data, into a
// [config.FileName] that builds the same programs. A key is written only if its value is
// not the default, and in a build only if it is not that of the top level. The error
// reports a file that ko could not read either.
func Convert(file, dir string, data []byte) (*Result, error) {
	k := &conversion{d: yamlconf.NewDecoder(file), file: file, dir: dir, seen: map[string]bool{}, variables: map[string]bool{}}
	root, ok := k.d.Parse(data)
	if !ok {
		return nil, k.d.Err()
	}
	var body, w writer
	k.top(root, &body)
	if err := k.d.Err(); err != nil {
		return nil, err
	}
	variables := slices.Sorted(maps.Keys(k.variables))
	w.line(config.Modeline("mabuild.schema.json"))
	w.line("# Made from ko's " + filepath.Base(file) + ". Below repo (or KO_DOCKER_REPO), an image is named after its")
	w.line("# id or program, without ko's hash; naming: import-path or bare corresponds to -P and --bare.")
	if len(variables) > 0 {
		w.line("# Templates read variables: use --allow-env " + strings.Join(variables, ",") + ".")
	}
	if slices.ContainsFunc(body, func(line string) bool {
		return strings.Contains(line, "{{.Date}}") || strings.Contains(line, "{{.Timestamp}}")
	}) {
		w.line("# {{.Date}} and {{.Timestamp}} are the time of the commit. ko's .Date and .Timestamp are that of the build.")
	}
	if slices.ContainsFunc(body, func(line string) bool { return strings.Contains(line, "{{.Tag}}") }) {
		w.line("# {{.Tag}} is a tag of the commit itself, and an error without one. ko's .Git.Tag is the nearest one.")
	}
	text := []byte(strings.Join(append(w, body...), "\n") + "\n")
	if err := config.Validate(config.FileName, text); err != nil {
		return nil, fmt.Errorf("the conversion of %s is invalid: %w", file, err)
	}
	return &Result{Text: text, Dropped: k.dropped, Variables: variables}, nil
}

// comment records that n has no counterpart, as an error and in the result.
func (k *conversion) comment(w *writer, n *yaml.Node, key, why string) {
	text := fmt.Sprintf("# not imported, %s line %d: %s: %s", filepath.Base(k.file), n.Line, key, why)
	if k.seen[text] {
		return
	}
	k.seen[text] = true
	k.dropped = append(k.dropped, yamlconf.InFile(k.file, n.Line, key, errors.New("not imported: "+why)))
	w.line(text)
}

// top writes the top level. It collects the keys first, because the result has a fixed
// order and the base images of builds depend on several keys.
func (k *conversion) top(root *yaml.Node, w *writer) {
	var s settings
	var builds, overrides, platforms *yaml.Node
	base := ""
	k.mapping(root, "", func(key, value *yaml.Node) {
		switch strings.ToLower(key.Value) { // ko ignores case
		case "defaultbaseimage":
			base = k.text(value, key.Value)
		case "baseimageoverrides":
			overrides = value
		case "defaultplatforms":
			platforms = value
		case "defaultenv":
			s.env = k.setting(value, key.Value, true)
		case "defaultflags":
			s.flags = k.setting(value, key.Value, true)
		case "defaultldflags":
			s.ldflags = k.setting(value, key.Value, false)
		case "builds":
			builds = value
		default:
			k.comment(w, key, key.Value, "ko does not support it either")
		}
	})
	k.platforms(w, platforms)
	if base == "" {
		w.line("# ko's base image is cgr.dev/chainguard/static; mabuild's is built in and needs no network.")
		base = defaultBase
	}
	if base != defaultBase {
		w.value("base", base)
	}
	above := k.settings(w, s)
	k.write(w, above, config.Settings{})
	k.builds(w, builds, inherited{base: base, nodes: s, values: above}, k.bases(overrides))
}

// inherited is what builds inherit from the top level: as ko reads it, and as mabuild
// does.
type inherited struct {
	base   string
	nodes  settings
	values config.Settings
}

// builds writes the builds: those of ko, then one for each program that needs one for its
// base image or its kodata.
func (k *conversion) builds(w *writer, n *yaml.Node, top inherited, bases []*baseImage) {
	var items []writer
	known := map[string]bool{}
	if n != nil && !yamlconf.IsNull(n) && k.kind(n, yaml.SequenceNode, "builds") {
		for i, b := range n.Content {
			item, dir := k.build(b, fmt.Sprintf("builds[%d]", i), top, bases)
			items = append(items, item)
			known[dir] = true
		}
	}
	for _, o := range bases {
		if o.used || o.image == top.base {
			continue
		}
		var b writer
		b.value("main", o.path)
		b.value("base", o.image)
		if dir, ok := k.packageDir(o.path); ok {
			k.data(&b, nil, ".", dir)
			known[dir] = true
		}
		items = append(items, b)
	}
	for _, dir := range k.withData() {
		if !known[dir] {
			var b writer
			b.value("main", relative(dir))
			k.data(&b, nil, ".", dir)
			items = append(items, b)
		}
	}
	if len(items) > 0 {
		w.line("builds:")
	}
	for _, item := range items {
		w.item(item)
	}
}

// The defaults of mabuild, which are not written.
const defaultBase = "static"

var defaultPlatforms = []string{"linux/amd64", "linux/arm64"}

// platforms writes defaultPlatforms. Without it, ko builds for linux/amd64 only, unlike
// mabuild.
func (k *conversion) platforms(w *writer, n *yaml.Node) {
	list := []string{"linux/amd64"}
	if n == nil {
		w.line("# ko's default platform.")
	} else {
		list = nil
		for _, text := range k.texts(n, "defaultPlatforms") {
			_, err := platform.ParseList(strings.Split(text, ","))
			if err != nil && text != "all" {
				k.comment(w, n, "defaultPlatforms", err.Error())
				continue
			}
			list = append(list, strings.Split(text, ",")...)
		}
	}
	if sorted := slices.Sorted(slices.Values(list)); !slices.Equal(sorted, defaultPlatforms) {
		w.values("platforms", list)
	}
}

// A baseImage is an entry of baseImageOverrides: the base image of one import path. Entries
// that no build uses become builds, since their programs are given as arguments to ko.
type baseImage struct {
	path, image string
	used        bool
}

// bases reads baseImageOverrides in the order of the file.
func (k *conversion) bases(n *yaml.Node) []*baseImage {
	var list []*baseImage
	if n != nil {
		k.mapping(n, "baseImageOverrides", func(key, value *yaml.Node) {
			list = append(list, &baseImage{path: key.Value, image: k.text(value, "baseImageOverrides."+key.Value)})
		})
	}
	return list
}

// build returns the lines of one build, at the path at, and the directory of its program
// below that of the file. ko's main may be a file; its directory is the package.
func (k *conversion) build(n *yaml.Node, at string, top inherited, bases []*baseImage) (w writer, program string) {
	s := top.nodes
	id, dir, main := "", ".", "."
	var unknown []*yaml.Node
	k.mapping(n, at, func(key, value *yaml.Node) {
		switch strings.ToLower(key.Value) {
		case "id":
			id = k.text(value, at+".id")
		case "dir":
			dir = k.text(value, at+".dir")
		case "main":
			main = k.text(value, at+".main")
		case "env":
			s.env = s.env.replacedBy(k.setting(value, at+".env", true))
		case "flags":
			s.flags = s.flags.replacedBy(k.setting(value, at+".flags", true))
		case "ldflags":
			s.ldflags = s.ldflags.replacedBy(k.setting(value, at+".ldflags", false))
		default:
			unknown = append(unknown, key)
		}
	})
	if id != "" {
		w.value("id", id)
	}
	if dir = path.Clean(dir); dir != "." {
		w.value("dir", dir)
	}
	if strings.HasSuffix(main, ".go") {
		main = path.Dir(main)
	}
	main = relative(main)
	w.value("main", main)
	for _, o := range bases {
		// ko ignores the case of import paths here.
		if strings.EqualFold(o.path, k.importPath(dir, main)) {
			if o.image != top.base {
				w.value("base", o.image)
			}
			o.used = true
		}
	}
	k.write(&w, k.settings(&w, s), top.values)
	k.data(&w, n, dir, main)
	for _, key := range unknown {
		why := "ko does not support it either"
		if strings.EqualFold(key.Value, "linux_capabilities") {
			why = "mabuild does not set file capabilities; give the capability to the container"
		}
		k.comment(&w, key, at+"."+key.Value, why)
	}
	return w, path.Join(dir, main)
}

// relative returns a directory as the go command reads it: . or with ./ before it.
func relative(dir string) string {
	if dir = path.Clean(dir); dir == "." || strings.HasPrefix(dir, "../") {
		return dir
	}
	return "./" + dir
}

// importPath returns the import path of the package main below dir, from the go.mod in
// dir. It returns "" if there is none.
func (k *conversion) importPath(dir, main string) string {
	at := filepath.Join(k.dir, filepath.FromSlash(dir))
	content, err := os.ReadFile(filepath.Join(at, "go.mod"))
	if err != nil {
		return ""
	}
	return path.Join(modfile.ModulePath(content), main)
}

// valueAction matches a template action that is only the name of a value.
var valueAction = regexp.MustCompile(`\{\{-?\s*(\.[A-Za-z_][\w.]*)\s*-?\}\}`)

// names maps the names in ko's templates to mabuild's.
var names = map[string]string{
	".Git.Branch": "{{.Branch}}", ".Git.Tag": "{{.Tag}}", ".Git.ShortCommit": "{{.ShortCommit}}", ".Git.FullCommit": "{{.Commit}}",
	".Git.CommitDate": "{{.Date}}", ".Date": "{{.Date}}",
	".Git.CommitTimestamp": "{{.Timestamp}}", ".Timestamp": "{{.Timestamp}}",
}

// perPlatform are variables that ko sets itself, for each platform.
var perPlatform = []string{"CGO_ENABLED", "GOOS", "GOARCH", "GOARM", "GOAMD64"}

// template converts one of ko's templates. Variables that env sets in the file are filled
// in; the last of several wins. Others stay, since mabuild reads them with --allow-env.
// The error lists everything without a counterpart, such as functions and pipelines.
func template(text string, env []string) (string, error) {
	var wrong []string
	out := valueAction.ReplaceAllStringFunc(text, func(action string) string {
		name := valueAction.FindStringSubmatch(action)[1]
		if ours, ok := names[name]; ok {
			return ours
		}
		variable, isVariable := strings.CutPrefix(name, ".Env.")
		for _, kv := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(kv, variable+"="); ok && isVariable {
				return value
			}
		}
		switch {
		case isVariable && slices.Contains(perPlatform, variable):
			wrong = append(wrong, action+" differs by platform and has no counterpart")
		case isVariable && !strings.Contains(variable, "."):
			return "{{" + name + "}}"
		case slices.Contains([]string{".Git.IsDirty", ".Git.IsClean", ".Git.TreeState"}, name):
			wrong = append(wrong, action+" has no counterpart; {{.Version}} ends in -dirty if a tracked file is changed")
		default:
			wrong = append(wrong, action+" is not supported by mabuild's templates")
		}
		return action
	})
	if rest := valueAction.ReplaceAllString(out, ""); len(wrong) == 0 && strings.Contains(rest, "{{") {
		wrong = append(wrong, "mabuild's templates support only values")
	}
	if len(wrong) > 0 {
		return "", errors.New(strings.Join(wrong, "; "))
	}
	return out, nil
}

// variables returns the variables that templates in text read.
func variables(text string) (list []string) {
	for _, match := range valueAction.FindAllStringSubmatch(text, -1) {
		if name, ok := strings.CutPrefix(match[1], ".Env."); ok {
			list = append(list, name)
		}
	}
	return list
}

// kind reports whether n has a kind, and complains otherwise.
func (k *conversion) kind(n *yaml.Node, kind yaml.Kind, key string) bool {
	if n.Kind != kind {
		k.d.Complain(n, key, errors.New("must be "+map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping of keys to values", yaml.ScalarNode: "a string"}[kind]))
	}
	return n.Kind == kind
}

// mapping calls do for each pair of the mapping n. An empty n has none.
func (k *conversion) mapping(n *yaml.Node, key string, do func(key, value *yaml.Node)) {
	if n == nil || yamlconf.IsNull(n) {
		return
	}
	if n, ok := k.d.Descend(n); ok && k.kind(n, yaml.MappingNode, key) {
		k.d.Each(n, key, do)
	}
}

// text returns the text of the scalar n, or "" if it is empty or invalid.
func (k *conversion) text(n *yaml.Node, key string) string {
	n, ok := k.d.Descend(n)
	if !ok || !k.kind(n, yaml.ScalarNode, key) || yamlconf.IsNull(n) {
		return ""
	}
	return n.Value
}

// texts returns the items of a list, or a single text as a list.
func (k *conversion) texts(n *yaml.Node, key string) []string {
	if n == nil || yamlconf.IsNull(n) {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return []string{k.text(n, key)}
	}
	var list []string
	if n, ok := k.d.Descend(n); ok && k.kind(n, yaml.SequenceNode, key) {
		for _, item := range n.Content {
			list = append(list, k.text(item, key))
		}
	}
	return list
}
