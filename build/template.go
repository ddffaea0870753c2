package build

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
)

// Vars are the names that templates know, and the only ones. What is not known,
// outside a git repository say, is empty.
type Vars struct {
	Version     string // as git describe says it, or the version of module/path@version
	Commit      string
	ShortCommit string
	Date        string // of the commit, RFC 3339
	Tag         string // of the commit itself
	Branch      string
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug makes text fit for a tag: lower case, everything else a dash.
func slug(text string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
}

// Expand fills in a template: {{.Version}}, {{.Commit}}, {{.ShortCommit}},
// {{.Date}}, {{.Tag}}, {{.Branch}} and the function slug. Another name is an
// error.
func (v Vars) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	way := "templates know .Version .Commit .ShortCommit .Date .Tag .Branch and slug"
	t, err := template.New("").Funcs(template.FuncMap{"slug": slug}).Parse(text)
	if err != nil {
		return "", &SpecError{Field: "template", Reason: fmt.Sprintf("%q: %s", text, strings.TrimPrefix(err.Error(), "template: :")), Way: way}
	}
	var b bytes.Buffer
	if err = plain(t.Root.Nodes); err == nil {
		err = t.Execute(&b, v)
	}
	if err != nil {
		return "", &SpecError{Field: "template", Reason: fmt.Sprintf("%q cannot be filled in", text), Way: way}
	}
	return b.String(), nil
}

// plain refuses what a template could do beyond naming a value: loops,
// variables, the built-in functions.
func plain(nodes []parse.Node) error {
	for _, n := range nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.FieldNode, *parse.CommentNode, *parse.StringNode:
		case *parse.IdentifierNode:
			if n.Ident != "slug" {
				return errNotPlain
			}
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				return errNotPlain
			}
			for _, cmd := range n.Pipe.Cmds {
				if err := plain(cmd.Args); err != nil {
					return err
				}
			}
		default:
			return errNotPlain
		}
	}
	return nil
}

var errNotPlain = errors.New("does more than name a value")

// ExpandAll fills in each template of list.
func (v Vars) ExpandAll(list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, text := range list {
		var err error
		if out[i], err = v.Expand(text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// expandMap fills in the templates of a map's values and leaves out what then is
// empty.
func (v Vars) expandMap(m map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for key, text := range m {
		value, err := v.Expand(text)
		if err != nil {
			return nil, err
		}
		if value != "" || text == "" {
			out[key] = value
		}
	}
	return out, nil
}

// expand fills in the templates of labels and annotations, and tries those of how
// to compile.
func (s Spec) expand() (Spec, error) {
	var errs [5]error
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
	if c.Ldflags, err = v.ExpandAll(c.Ldflags); err != nil {
		return c, fmt.Errorf("ldflags: %w", err)
	}
	c.Env, err = v.ExpandAll(c.Env)
	if err != nil {
		return c, fmt.Errorf("env: %w", err)
	}
	return c, nil
}
