package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
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

// A TemplateError is a template that says what cannot be filled in.
type TemplateError struct{ Text, Reason string }

func (e *TemplateError) Error() string { return fmt.Sprintf("%q: %s", e.Text, e.Reason) }

// Hint lists what can be.
func (e *TemplateError) Hint() string {
	return "templates know .Tag .SourceTag .Registry .Repository .Name .Date and .Time"
}

// Expand fills in a template. The error is a [*TemplateError].
func (n Names) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", &TemplateError{text, strings.TrimPrefix(err.Error(), "template: :")}
	}
	var b bytes.Buffer
	if err = plain(t.Root.Nodes); err == nil {
		err = t.Execute(&b, n)
	}
	if err != nil {
		return "", &TemplateError{text, "cannot be filled in"}
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

var errNotPlain = errors.New("does more than name a value")

// tagged reports whether a template depends on the tag.
func tagged(text string) bool {
	full, err1 := Names{Tag: "x"}.Expand(text)
	none, err2 := Names{}.Expand(text)
	return err1 == nil && err2 == nil && full != none
}

// A ref is a reference taken apart. Local places are taken as a whole.
type ref struct {
	repo   string // host/path
	tag    string // without its colon
	digest string // sha256:…, without its @
}

func cutRef(text string) (r ref) {
	r.repo, r.tag, r.digest = CutName(text)
	return r
}

// CutName takes the name of an image apart: what stands before the tag, the tag
// without its colon and the digest without its @. The port of a host is no tag.
func CutName(text string) (repo, tag, digest string) {
	repo, digest, _ = strings.Cut(text, "@")
	if colon := strings.LastIndex(repo, ":"); colon > strings.LastIndex(repo, "/") {
		repo, tag = repo[:colon], repo[colon+1:]
	}
	return repo, tag, digest
}

func (r ref) String() string {
	text := r.repo
	if r.tag != "" {
		text += ":" + r.tag
	}
	if r.digest != "" {
		text += "@" + r.digest
	}
	return text
}

// host is the registry; Docker Hub's where none is named.
func (r ref) host() string {
	first, _, ok := strings.Cut(r.repo, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "docker.io"
	}
	return first
}

// path is the repository without the registry.
func (r ref) path() string {
	if rest, ok := strings.CutPrefix(r.repo, r.host()+"/"); ok {
		return rest
	}
	return r.repo
}

// names are what templates of a target know of a source and its tag.
func (e *Entry) names(source ref, tag string, now time.Time) Names {
	path := source.path()
	n := Names{
		Registry:   strings.ReplaceAll(source.host(), ":", "-"), // a path holds no port
		Repository: path, Name: path[strings.LastIndex(path, "/")+1:],
		// A version may have a +, which a tag may not.
		Tag: strings.ReplaceAll(e.rename(tag), "+", "-"), SourceTag: tag,
	}
	n.at(now)
	return n
}
