package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest"
)

// Names are what templates of targets, backups and sources know, and all that
// they know.
type Names struct {
	Registry   string // of the source, its port after a dash
	Repository string // its path
	Name       string // the last part of the path
	Tag        string // as it is called at the target; in sources, as it is called there
	SourceTag  string // as it is called at the source
	Date       string // today, 2006-01-02, UTC
	Time       string // now, 20060102T150405Z
}

func (n *Names) at(t time.Time) {
	t = t.UTC()
	n.Date, n.Time = t.Format(time.DateOnly), t.Format("20060102T150405Z")
}

// invalidTemplate says why a template cannot be filled in.
func invalidTemplate(text, format string, args ...any) error {
	return hint.New(hint.Usage, "templates support .Tag .SourceTag .Registry .Repository .Name .Date and .Time", "%q: %w", text, fmt.Errorf(format, args...))
}

// Expand fills in a template.
func (n Names) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", invalidTemplate(text, "%s", strings.TrimPrefix(err.Error(), "template: :"))
	}
	var b bytes.Buffer
	if err = plain(t.Root.Nodes); err == nil {
		err = t.Execute(&b, n)
	}
	if err != nil {
		return "", invalidTemplate(text, "is not a valid template")
	}
	return b.String(), nil
}

// plain refuses what is more than a name.
func plain(nodes []parse.Node) error {
	for _, n := range nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 || n.Pipe.Cmds[0].Args[0].Type() != parse.NodeField {
				return errNotPlain
			}
		default:
			return errNotPlain
		}
	}
	return nil
}

var errNotPlain = errors.New("can only contain values")

// tagged reports whether a template depends on the tag.
func tagged(text string) bool {
	full, err1 := Names{Tag: "x"}.Expand(text)
	none, err2 := Names{}.Expand(text)
	return err1 == nil && err2 == nil && full != none
}

// names are what templates of a target know of an image of a registry and its tag. A
// repository without a host, in a local place, is not of any registry; one that is not
// spelt as repositories are is not known at all.
func (e *Entry) names(source manifest.Reference, isLocal bool, tag string, now time.Time) Names {
	// A version may have a +, which a tag may not.
	n := Names{Tag: strings.ReplaceAll(e.rename(tag), "+", "-"), SourceTag: tag}
	n.at(now)
	if source.Repository == "" || isLocal && !repositoryName.MatchString(source.Path()) {
		return n
	}
	n.Registry, n.Repository = strings.ReplaceAll(source.Host(), ":", "-"), source.Path() // a path holds no port
	if isLocal && !source.Named() {
		n.Registry, n.Repository = "", source.Repository
	}
	n.Name = n.Repository[strings.LastIndex(n.Repository, "/")+1:]
	return n
}

// repositoryName is what may be the path of a repository (distribution-spec, "Pulling
// manifests").
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// Fill is Expand for a target. What the image does not say is an error.
func (n Names) Fill(text string) (string, error) {
	full, err := n.Expand(text)
	if err != nil {
		return "", err
	}
	for _, one := range []struct{ field, value, why string }{
		{"Registry", n.Registry, "its name has no registry"},
		{"Repository", n.Repository, "it has no full name such as registry/repository:tag in the source"},
		{"Name", n.Name, "it has no full name such as registry/repository:tag in the source"},
		{"Tag", n.Tag, "it has no tag in the source"},
		{"SourceTag", n.SourceTag, "it has no tag in the source"},
	} {
		if one.value == "" && uses(text, one.field) {
			return "", invalidTemplate(text, "the image has no {{.%s}}: %s", one.field, one.why)
		}
	}
	return full, nil
}

// uses reports whether a template, which can be filled in, names a field.
func uses(text, field string) bool {
	t, err := template.New("").Parse(text)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(t.Root.Nodes, func(n parse.Node) bool {
		action, ok := n.(*parse.ActionNode)
		return ok && action.Pipe.Cmds[0].Args[0].String() == "."+field
	})
}
