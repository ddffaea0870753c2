// Package web draws the pages that people look at in a browser: those of a registry, those
// of a mirror, and the reports of inspect and check. [Handler] serves a page, and [Write]
// writes one as a file that needs nothing else. A page works without scripts and has one
// stylesheet, which is a part of it.
//
// What a page shows is text of others: names, annotations and errors. It is never markup.
// html/template escapes it for its place. Before that, show makes control characters and
// marks of bidirectional text visible, removes credentials from addresses and bounds the
// length. Both apply to all that a template prints, so a template cannot forget it. The
// Content-Security-Policy of a page permits its stylesheet, by the hash, and nothing else.
//
// A page changes nothing: there is no form, and a [Handler] answers GET and HEAD alone.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"text/template/parse"
	"time"
)

//go:embed pages/*.html
var pages embed.FS

//go:embed style.css
var style string

// A Kind says which template draws a page, and the type of its data.
type Kind string

// The kinds of pages. The data of Mirror and Entry is that of internal/mirror, and the
// data of Check that of internal/check/format: the pages of a registry need neither.
const (
	Message      Kind = "message"      // [Text]
	Repositories Kind = "repositories" // [Listing]
	Repository   Kind = "repository"   // [Tags]
	Image        Kind = "image"        // [View]
	Inspect      Kind = "inspect"      // [Report]
	Check        Kind = "check"        // the findings of a check
	Mirror       Kind = "mirror"       // the status of a mirror
	Entry        Kind = "entry"        // the status of an entry
)

// A Page is one page.
type Page struct {
	Kind  Kind
	Title string
	Path  []Link // where the page is, from the first page of the server on
	// Refresh is how often a browser loads the page again; 0 is never.
	Refresh time.Duration
	Footer  string
	Data    any
}

// A Link is a text that leads to an address of the same server; To may be empty.
type Link struct{ Text, To string }

// policy is the part of the Content-Security-Policy that a file can have, too.
var policy = "default-src 'none'; style-src 'sha256-" + hashOf(style) + "'; base-uri 'none'; form-action 'none'"

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// templates returns the templates by their kind. They are parsed for the first page: most runs
// of mabuild draw none.
var templates = sync.OnceValue(parseAll)

// parseAll parses the templates. Each page is the common frame with a body of its own. All
// that they print goes through show.
func parseAll() map[Kind]*template.Template {
	frame := template.Must(template.New("page.html").Funcs(functions).ParseFS(pages, "pages/page.html", "pages/parts.html"))
	all := map[Kind]*template.Template{}
	for _, kind := range []Kind{Message, Repositories, Repository, Image, Inspect, Check, Mirror, Entry} {
		t := template.Must(template.Must(frame.Clone()).ParseFS(pages, "pages/"+string(kind)+".html"))
		for _, one := range t.Templates() {
			if one.Tree != nil {
				showAll(one.Tree, one.Tree.Root)
			}
		}
		all[kind] = t
	}
	return all
}

// showAll appends show to every pipeline of a template whose value is printed.
func showAll(tree *parse.Tree, node parse.Node) {
	branch := func(b *parse.BranchNode) {
		showAll(tree, b.List)
		if b.ElseList != nil {
			showAll(tree, b.ElseList)
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			showAll(tree, child)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return
		}
		call := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos}
		call.Args = []parse.Node{parse.NewIdentifier("show").SetPos(n.Pos).SetTree(tree)}
		n.Pipe.Cmds = append(n.Pipe.Cmds, call)
	}
}

// draw returns a page as HTML. own is the policy that the page itself has, for a file.
func (p Page) draw(own string) ([]byte, error) {
	t := templates()[p.Kind]
	if t == nil {
		return nil, fmt.Errorf("there is no page %q", p.Kind)
	}
	var b bytes.Buffer
	err := t.Execute(&b, struct {
		Page
		Policy  string
		Refresh int
	}{p, own, int(p.Refresh / time.Second)})
	return b.Bytes(), err
}

// Write writes a page as a file that needs no network: the policy is a part of it, and it
// has links within itself alone if the page has none to a server.
func Write(w io.Writer, p Page) error {
	raw, err := p.draw(policy)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// Handler answers GET and HEAD with the page and the status that get returns, and any
// other method with 405. A page that cannot be drawn is a panic: it is a fault of a
// template.
func Handler(get func(*http.Request) (int, Page)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Protect(w.Header())
		status, p := http.StatusMethodNotAllowed, Say("Not possible", "The pages can be read, not written: only GET and HEAD are supported.")
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			status, p = get(r)
		} else {
			w.Header().Set("Allow", "GET, HEAD")
		}
		raw, err := p.draw("")
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		w.WriteHeader(status)
		_, _ = w.Write(raw) // the client may be gone
	})
}

// Protect sets the headers of a page or of what belongs to it: it loads nothing, no other
// page frames it, and nobody stores it.
func Protect(h http.Header) {
	h.Set("Content-Security-Policy", policy+"; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// Preferred reports whether a client asks for a page: the header Accept names text/html,
// as a browser's does, and no type of JSON before it. */* does not count, since clients of
// registries send it.
func Preferred(h http.Header) bool {
	page, data := 0.0, 0.0
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept"), ","), ",") {
		name, parameters, _ := strings.Cut(part, ";")
		weight := 1.0
		for parameter := range strings.SplitSeq(parameters, ";") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
				q, err := strconv.ParseFloat(text, 64)
				if err != nil {
					q = 0
				}
				weight = q
			}
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == "text/html":
			page = max(page, weight)
		case strings.HasSuffix(name, "json"):
			data = max(data, weight)
		}
	}
	return page > 0 && page >= data
}

// Say returns a page with a text alone.
func Say(head, text string) Page {
	return Page{Kind: Message, Title: head, Data: Text{head, text}}
}

// A Text is a heading and a paragraph.
type Text struct{ Head, Text string }
