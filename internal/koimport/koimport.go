// Package koimport converts the configuration of ko, .ko.yaml, into one of mabuild.
package koimport

import (
	"errors"
	"fmt"
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

// A conversion of a .ko.yaml reads YAML nodes with a decoder, for its bounds and the lines
// of errors.
type conversion struct {
	d     *yamlconf.Decoder
	file  string
	dir   string // of .ko.yaml, where go.mod files are looked up
	notes []error
}

// Convert converts file, a .ko.yaml in the directory dir with the content data, into a
// [config.FileName] that builds the same programs. A key without a counterpart becomes a
// comment in the result and a note, a [*yamlconf.Problem] with its line. The error reports
// a file that ko could not read either. The result is decoded once before it is returned,
// so its keys are valid.
func Convert(file, dir string, data []byte) (out []byte, notes []error, err error) {
	k := &conversion{d: yamlconf.NewDecoder(file), file: file, dir: dir}
	root, ok := k.d.Parse(data)
	if !ok {
		return nil, nil, k.d.Err()
	}
	w := &writer{}
	w.line("# Made from ko's " + filepath.Base(file) + ". Below repo (or KO_DOCKER_REPO), an image is named after its")
	w.line("# id or program, without ko's hash; naming: import-path or bare corresponds to -P and --bare.")
	k.top(root, w)
	if err := k.d.Err(); err != nil {
		return nil, nil, err
	}
	text := []byte(strings.Join(*w, "\n") + "\n")
	if err := config.Validate(config.FileName, text); err != nil {
		return nil, nil, fmt.Errorf("the conversion of %s is invalid: %w", file, err)
	}
	return text, k.notes, nil
}

// comment records that n has no counterpart, as a note and in the result.
func (k *conversion) comment(w *writer, n *yaml.Node, key, why string) {
	k.notes = append(k.notes, yamlconf.InFile(k.file, n.Line, key, errors.New("not imported: "+why)))
	w.line(fmt.Sprintf("# not imported, %s line %d: %s: %s", filepath.Base(k.file), n.Line, key, why))
}

// settings are the keys that ko's defaults and builds have in common, before they are
// read. A nil node is a key that is not set.
type settings struct {
	env, flags, ldflags *yaml.Node
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
			s.env = value
		case "defaultflags":
			s.flags = value
		case "defaultldflags":
			s.ldflags = value
		case "builds":
			builds = value
		default:
			k.comment(w, key, key.Value, "ko does not support it either")
		}
	})
	k.platforms(w, platforms)
	if base == "" {
		w.line("# ko's base image is cgr.dev/chainguard/static; this one is built in and needs no network.")
		base = "static"
	}
	w.value("base", base)
	top := k.settings(w, s, settings{}, "default")
	bases := k.bases(overrides)
	if builds == nil && len(bases) == 0 {
		return
	}
	w.line("builds:")
	if builds != nil && k.kind(builds, yaml.SequenceNode, "builds") {
		for i, b := range builds.Content {
			w.item(k.build(b, fmt.Sprintf("builds[%d]", i), top, bases))
		}
	}
	for _, o := range bases {
		if !o.used {
			var b writer
			b.value("main", o.path)
			b.value("base", o.image)
			w.item(b)
		}
	}
}

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
	if len(list) > 0 {
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

// build returns the lines of one build, at the path at. ko's main may be a file; its
// directory is the package.
func (k *conversion) build(n *yaml.Node, at string, top settings, bases []*baseImage) (w writer) {
	var s settings
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
			s.env = value
		case "flags":
			s.flags = value
		case "ldflags":
			s.ldflags = value
		default:
			unknown = append(unknown, key)
		}
	})
	if id != "" {
		w.value("id", id)
	}
	if path.Clean(dir) != "." {
		w.value("dir", dir)
	}
	if strings.HasSuffix(main, ".go") {
		main = path.Dir(main)
	}
	if main = path.Clean(main); main != "." {
		main = "./" + main
	}
	w.value("main", main)
	for _, o := range bases {
		// ko ignores the case of import paths here.
		if strings.EqualFold(o.path, k.importPath(dir, main)) {
			w.value("base", o.image)
			o.used = true
		}
	}
	k.settings(&w, s, top, at)
	for _, key := range unknown {
		why := "ko does not support it either"
		if strings.EqualFold(key.Value, "linux_capabilities") {
			why = "mabuild does not set file capabilities; give the capability to the container"
		}
		k.comment(&w, key, at+"."+key.Value, why)
	}
	return w
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

// template converts one of ko's templates. Variables that env sets in the file are filled
// in; the last of several wins. The error lists everything without a counterpart:
// functions, pipelines and variables of the host.
func (k *conversion) template(text string, env []string) (string, error) {
	var wrong []string
	out := valueAction.ReplaceAllStringFunc(text, func(action string) string {
		name := valueAction.FindStringSubmatch(action)[1]
		if ours, ok := names[name]; ok {
			return ours
		}
		if variable, ok := strings.CutPrefix(name, ".Env."); ok {
			for _, kv := range slices.Backward(env) {
				if value, ok := strings.CutPrefix(kv, variable+"="); ok {
					return value
				}
			}
			wrong = append(wrong, fmt.Sprintf(`templates do not support variables; use a flag: --ldflags "-X …=$%s"`, variable))
			return action
		}
		wrong = append(wrong, action+" is not supported by mabuild's templates")
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

// kind reports whether n has a kind, and complains otherwise.
func (k *conversion) kind(n *yaml.Node, kind yaml.Kind, key string) bool {
	if n.Kind != kind {
		k.d.Complain(n, key, errors.New("must be "+map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "keys", yaml.ScalarNode: "a string"}[kind]))
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
