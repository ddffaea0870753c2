package build

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/mabuild/mabuild/internal/hint"
)

// Vars are the names that templates know, and the only ones. A template that uses a value
// which is empty is an error.
type Vars struct {
	Version     string // as git describe says it, or the version of module/path@version
	Commit      string
	ShortCommit string
	Date        string // of the commit, RFC 3339
	Tag         string // of the commit itself
	Branch      string

	// Why says why a value is empty, by its name; "" is for those without a word of their
	// own. An error may have a Hint() string.
	Why map[string]error
}

var (
	notSlug = regexp.MustCompile(`[^a-z0-9]+`)
	notTag  = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// slug makes text fit for the name of a resource: lower case, everything else a dash.
func slug(text string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
}

// maxTag is how long a tag may be (distribution-spec, Pulling manifests).
const maxTag = 128

// tag makes text fit for a tag: dots and case stay, / and + become dashes.
func tag(text string) string {
	text = strings.TrimLeft(notTag.ReplaceAllString(text, "-"), ".-")
	return text[:min(len(text), maxTag)]
}

const wayOfTemplates = "templates support only .Version .Commit .ShortCommit .Date .Tag .Branch and the functions tag and slug"

// Expand fills in a template: {{.Version}}, {{.Commit}}, {{.ShortCommit}},
// {{.Date}}, {{.Tag}}, {{.Branch}} and the functions slug and tag. Another name, or a value
// that is empty, is a [*SpecError].
func (v Vars) Expand(text string) (string, error) {
	return v.expand(text, func(string) bool { return true })
}

// notWord is what a value may not hold that becomes part of a word of flags: quotes and
// blanks, which would end the word and begin another.
var notWord = regexp.MustCompile(`[^A-Za-z0-9_./+@:~^,=#%()-]|^-`)

// expandWord is Expand of a part of a word of flags, or of a variable of the go command. A
// value with characters that flags give a meaning is an error: a branch is a pull
// request's to name, and git lets it hold quotes.
func (v Vars) expandWord(text string) (string, error) {
	return v.expand(text, func(value string) bool { return !notWord.MatchString(value) })
}

// expand fills in a template with values that are fit.
func (v Vars) expand(text string, fit func(value string) bool) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Funcs(template.FuncMap{"slug": slug, "tag": tag}).Parse(text)
	if err != nil {
		return "", &SpecError{Field: "template", Reason: fmt.Sprintf("%q: %s", text, strings.TrimPrefix(err.Error(), "template: :")), Way: wayOfTemplates}
	}
	var names []string
	if plain(t.Root.Nodes, &names) != nil {
		return "", &SpecError{Field: "template", Reason: fmt.Sprintf("%q is not a valid template: it can only contain values", text), Way: wayOfTemplates}
	}
	for _, name := range names {
		if v.values()[name] == "" {
			return "", v.empty(text, name)
		}
	}
	var b strings.Builder
	for _, node := range t.Root.Nodes {
		t.Root = &parse.ListNode{NodeType: parse.NodeList, Nodes: []parse.Node{node}}
		var part bytes.Buffer
		if err := t.Execute(&part, v.values()); err != nil {
			return "", &SpecError{Field: "template", Reason: fmt.Sprintf("%q is not a valid template", text), Way: wayOfTemplates}
		}
		if node.Type() != parse.NodeText && !fit(part.String()) {
			return "", &SpecError{
				Field: "template", Reason: fmt.Sprintf("%q: %q contains a character that has a special meaning in flags", text, part.String()),
				Way: "remove such characters with the functions tag and slug: {{tag .Branch}}",
			}
		}
		b.Write(part.Bytes())
	}
	return b.String(), nil
}

// values returns the values by name; another name is an error of the template.
func (v Vars) values() map[string]string {
	return map[string]string{
		"Version": v.Version, "Commit": v.Commit, "ShortCommit": v.ShortCommit, "Date": v.Date, "Tag": v.Tag, "Branch": v.Branch,
	}
}

// empty says why a template cannot be filled in.
func (v Vars) empty(text, name string) error {
	e := &SpecError{Field: "template", Reason: fmt.Sprintf("%q: .%s is empty", text, name), Way: "build in a git repository, or write the value instead of the template"}
	why := v.Why[name]
	if why == nil {
		why = v.Why[""]
	}
	if why == nil {
		return e
	}
	e.Reason += ": " + why.Error()
	e.Way = cmp.Or(hint.Of(why), e.Way)
	return e
}

// plain refuses what a template could do beyond naming a value: loops, variables, the
// built-in functions, and texts of its own, which would stand where a reader does not
// look for them. It notes the names.
func plain(nodes []parse.Node, names *[]string) error {
	for _, n := range nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.FieldNode:
			if _, known := (Vars{}).values()[n.Ident[0]]; !known || len(n.Ident) > 1 {
				return errNotPlain
			}
			*names = append(*names, n.Ident[0])
		case *parse.IdentifierNode:
			if n.Ident != "slug" && n.Ident != "tag" {
				return errNotPlain
			}
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				return errNotPlain
			}
			for _, cmd := range n.Pipe.Cmds {
				if err := plain(cmd.Args, names); err != nil {
					return err
				}
			}
		default:
			return errNotPlain
		}
	}
	return nil
}

var errNotPlain = errors.New("can only contain values")

// ExpandAll fills in each template of list.
func (v Vars) ExpandAll(list []string) ([]string, error) { return expandAll(list, v.Expand) }

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

// expandMap fills in the templates of a map's values.
func (v Vars) expandMap(m map[string]string) (map[string]string, error) {
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

// expand fills in the templates of labels, annotations and the image's variables, and
// tries those of how to compile.
func (s Spec) expand() (Spec, error) {
	var errs [6]error
	s.Config.Env, errs[5] = s.Vars.ExpandAll(s.Config.Env)
	s.Config.Labels, errs[0] = s.Vars.expandMap(s.Config.Labels)
	s.Config.Annotations, errs[1] = s.Vars.expandMap(s.Config.Annotations)
	s.IndexAnnotations, errs[2] = s.Vars.expandMap(s.IndexAnnotations)
	s.ManifestAnnotations, errs[4] = s.Vars.expandMap(s.ManifestAnnotations)
	_, errs[3] = s.Compile.expand(s.Vars)
	all := errs[:]
	for _, o := range s.Overrides {
		_, err := o.expand(s.Vars)
		all = append(all, err)
	}
	return s, errors.Join(all...)
}

// expand fills in the templates of how to compile.
func (c Compile) expand(v Vars) (Compile, error) {
	var err error
	if c.Ldflags, err = expandAll(c.Ldflags, v.expandWord); err != nil {
		return c, fmt.Errorf("ldflags: %w", err)
	}
	c.Env, err = expandAll(c.Env, v.expandWord)
	if err != nil {
		return c, fmt.Errorf("env: %w", err)
	}
	return c, nil
}
