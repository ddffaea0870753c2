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
	"github.com/mabuild/mabuild/internal/imageref"
)

// This file fills in the templates of targets, backups and sources.

// Names are the values for templates of targets, backups and sources. A template can use
// nothing else. "" means that the image has no such value.
type Names struct {
	Registry   string // host of the source, with - in place of the : before a port
	Repository string // its path
	Name       string // the last element of the path
	Tag        string // at the target, after Rename; in sources, the tag there
	SourceTag  string // at the source
	Date       string // of the run, 2006-01-02, UTC
	Time       string // of the run, 20060102T150405Z
}

// at sets Date and Time.
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

// plain refuses everything but text and {{.Field}}: functions, pipelines and loops would
// make a plan a program, and could run without end.
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

// names returns the values for the targets of an image of a registry with this tag. A
// repository without a host in a local place belongs to no registry. A name in a local
// place that is not a valid repository gives no repository.
func (e *Entry) names(source imageref.Parts, isLocal bool, tag string, now time.Time) Names {
	// A semantic version may have a + before its build metadata, which a tag must not
	// have.
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

// repositoryName matches the path of a repository (distribution-spec, "Pulling
// manifests").
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// Fill is Expand for a target. What the image does not say is an error.
func (n Names) Fill(text string) (string, error) {
	full, err := n.Expand(text)
	if err != nil {
		return "", err
	}
	// Date and Time always have a value.
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

// uses reports whether a valid template uses a field.
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
