// Package templates fills in the templates of a Spec: text with values in {{ }}.
//
// A template holds values only, no loops and no text in quotes, so that it can neither run
// for long nor hide anything. A value that is empty is an error.
package templates

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/internal/hint"
)

// Vars has the values for templates. A template that uses an empty value is an error,
// since a label or a tag with a missing part is rarely noticed.
type Vars struct {
	Version     string // from git describe, or the version of module/path@version
	Commit      string
	ShortCommit string
	Date        string // of the commit, in RFC 3339
	Timestamp   string // of the commit, in seconds since 1970
	Tag         string // of this commit, not of an earlier one
	Branch      string
	Env         map[string]string // variables of the environment that templates may read

	// Why has the reason why a value is empty, by name, such as Tag or Env.USER; "" is the
	// reason for all others that are not in Env.
	// The reason may have a method Hint() string.
	Why map[string]error

	platform map[string]string // the values of [For]; nil: there are none
}

// For returns v with the values of one platform: {{.OS}}, {{.Arch}} and {{.Variant}}, which
// may be empty.
func For(v Vars, os, arch, variant string) Vars {
	v.platform = map[string]string{"OS": os, "Arch": arch, "Variant": variant}
	return v
}

// The characters that slug and tag replace.
var (
	notSlug = regexp.MustCompile(`[^a-z0-9]+`)
	notTag  = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// slug returns text in lower case with a dash for everything but letters and digits, as
// names of resources need it.
func slug(text string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
}

// maxTag is the maximum length of a tag (distribution-spec, Pulling manifests).
const maxTag = 128

// tag returns text as a valid tag. Dots and case are kept, / and + become dashes.
func tag(text string) string {
	text = strings.TrimLeft(notTag.ReplaceAllString(text, "-"), ".-")
	return text[:min(len(text), maxTag)]
}

// way returns the hint of an invalid template.
func (v Vars) way() string {
	if v.platform != nil {
		return wayOfTemplates + ", and here .OS .Arch .Variant"
	}
	return wayOfTemplates
}

const wayOfTemplates = "templates support only .Version .Commit .ShortCommit .Date .Timestamp .Tag .Branch .Env.NAME and the functions tag and slug"

// Expand fills in a template. A template may use {{.Version}}, {{.Commit}},
// {{.ShortCommit}}, {{.Date}}, {{.Timestamp}}, {{.Tag}}, {{.Branch}}, {{.Env.NAME}} and the
// functions slug and tag. Any other name, and an empty value, is a [*specerr.Error].
func (v Vars) Expand(text string) (string, error) {
	return v.expand(text, func(string) *specerr.Error { return nil })
}

// Path fills in a template for the path of a file. A value that leads out of the directory
// before it is an error: the author of a pull request chooses the name of its branch.
func Path(v Vars, text string) (string, error) {
	return v.expand(text, func(value string) *specerr.Error {
		if value == "" || filepath.IsLocal(value) {
			return nil
		}
		return &specerr.Error{Reason: "leads out of its directory", Way: "remove .. and a slash at the start with the function slug or tag"}
	})
}

// notWord matches what a value must not have if it becomes a part of a flag: quotes and
// blanks, which would end the flag and begin another one, and a dash at its start.
var notWord = regexp.MustCompile(`[^A-Za-z0-9_./+@:~^,=#%()-]|^-`)

// expandWord is Expand for a part of a flag, or for a variable of the go command. A value
// that notWord matches is an error. The author of a pull request chooses the name of its
// branch, and git allows quotes in it, so a branch could otherwise add flags.
func (v Vars) expandWord(text string) (string, error) {
	return v.expand(text, func(value string) *specerr.Error {
		if !notWord.MatchString(value) {
			return nil
		}
		return &specerr.Error{Reason: "contains a character that has a special meaning in flags", Way: "remove such characters with the functions tag and slug: {{tag .Branch}}"}
	})
}

// expand fills in a template. Each value must be fit: misfit returns why it is not. The text
// around the values need not be, since it comes from the configuration. So the nodes are
// executed one by one.
func (v Vars) expand(text string, misfit func(value string) *specerr.Error) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Funcs(template.FuncMap{"slug": slug, "tag": tag}).Parse(text)
	if err != nil {
		return "", &specerr.Error{Field: "template", Reason: fmt.Sprintf("%q: %s", text, strings.TrimPrefix(err.Error(), "template: :")), Way: v.way()}
	}
	var names []string
	if err := v.plain(t.Root.Nodes, &names); err != nil {
		if unknown := unknownValue(""); errors.As(err, &unknown) {
			return "", &specerr.Error{Field: "template", Reason: fmt.Sprintf("%q: %s", text, err), Way: v.way()}
		}
		return "", &specerr.Error{Field: "template", Reason: fmt.Sprintf("%q is not a valid template: it can only contain values", text), Way: v.way()}
	}
	for _, name := range names {
		if _, ofPlatform := v.platform[name]; !ofPlatform && v.value(name) == "" {
			return "", v.empty(text, name)
		}
	}
	var b strings.Builder
	// Each node is executed separately, so that misfit sees only the values.
	for _, node := range t.Root.Nodes {
		t.Root = &parse.ListNode{NodeType: parse.NodeList, Nodes: []parse.Node{node}}
		var part bytes.Buffer
		if err := t.Execute(&part, v.data()); err != nil {
			return "", &specerr.Error{Field: "template", Reason: fmt.Sprintf("%q is not a valid template", text), Way: v.way()}
		}
		if node.Type() != parse.NodeText {
			if e := misfit(part.String()); e != nil {
				e.Field, e.Reason = "template", fmt.Sprintf("%q: %q %s", text, part.String(), e.Reason)
				return "", e
			}
		}
		b.Write(part.Bytes())
	}
	return b.String(), nil
}

// values returns the values by name.
func (v Vars) values() map[string]string {
	all := map[string]string{
		"Version": v.Version, "Commit": v.Commit, "ShortCommit": v.ShortCommit, "Date": v.Date, "Timestamp": v.Timestamp, "Tag": v.Tag, "Branch": v.Branch,
	}
	maps.Copy(all, v.platform)
	return all
}

// value returns the value of a name, such as Tag or Env.USER.
func (v Vars) value(name string) string {
	if variable, ok := strings.CutPrefix(name, env); ok {
		return v.Env[variable]
	}
	return v.values()[name]
}

// env begins the names of variables.
const env = "Env."

// data returns all values, as text/template reads them.
func (v Vars) data() map[string]any {
	all := map[string]any{"Env": v.Env}
	for name, value := range v.values() {
		all[name] = value
	}
	return all
}

// empty returns the error for a template that uses an empty value.
func (v Vars) empty(text, name string) error {
	e := &specerr.Error{Field: "template", Reason: fmt.Sprintf("%q: .%s is empty", text, name), Way: "build in a git repository, or write the value instead of the template"}
	why := v.Why[name]
	if strings.HasPrefix(name, env) {
		e.Way = "set the variable, or write the value instead of the template"
		if why != nil { // the variable may have a value, but not for templates
			e.Reason = fmt.Sprintf("%q", text)
		}
	} else if why == nil {
		why = v.Why[""]
	}
	if why == nil {
		return e
	}
	e.Reason += ": " + why.Error()
	e.Way = cmp.Or(hint.Of(why), e.Way)
	return e
}

// plain returns an error for anything in a template that is not a value: loops,
// variables, built-in functions and string literals. It appends the names of the values
// to names. A template stays short to read, and cannot run for long or hide text.
func (v Vars) plain(nodes []parse.Node, names *[]string) error {
	for _, n := range nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.FieldNode:
			_, known := v.values()[n.Ident[0]]
			if len(n.Ident) == 1 && n.Ident[0] != "Env" && !known {
				return unknownValue(n.Ident[0])
			}
			if variable := n.Ident[0] == "Env"; variable != (len(n.Ident) == 2) || !variable && !known || len(n.Ident) > 2 {
				return errNotPlain
			}
			*names = append(*names, strings.Join(n.Ident, "."))
		case *parse.IdentifierNode:
			if n.Ident != "slug" && n.Ident != "tag" {
				return errNotPlain
			}
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				return errNotPlain
			}
			for _, cmd := range n.Pipe.Cmds {
				if err := v.plain(cmd.Args, names); err != nil {
					return err
				}
			}
		default:
			return errNotPlain
		}
	}
	return nil
}

// An unknownValue is the name of a value that does not exist.
type unknownValue string

func (u unknownValue) Error() string { return "unknown value ." + string(u) }

// errNotPlain is returned for a template that contains more than values.
var errNotPlain = errors.New("can only contain values")

// ExpandAll fills in each template of list. It does not change list.
func (v Vars) ExpandAll(list []string) ([]string, error) { return expandAll(list, v.Expand) }

// expandAll applies expand to each text and stops at the first error.
func expandAll(list []string, expand func(string) (string, error)) ([]string, error) {
	out := make([]string, len(list))
	for i, text := range list {
		var err error
		if out[i], err = expand(text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Words fills in each template of list, which are parts of flags or variables of the go
// command. A value that could end such a part is an error. It does not change list.
func Words(v Vars, list []string) ([]string, error) { return expandAll(list, v.expandWord) }

// Map fills in the templates in the values of a map. It does not change the map.
func Map(v Vars, m map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for key, text := range m {
		value, err := v.Expand(text)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, nil
}
