package main

import (
	"fmt"
	"strings"

	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/text"
)

// summary returns the Markdown of --summary: for each program that is published somewhere,
// its references and a table of its images.
func summary(done []*publish.Result) ([]byte, error) {
	var b strings.Builder
	for _, d := range done {
		if !d.Anywhere() {
			continue
		}
		p, err := publish.Describe(d)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", markdown(p.Name), markdown(p.Digest))
		for _, place := range append(p.Tags, p.Outputs...) {
			fmt.Fprintf(&b, "* %s\n", markdown(place))
		}
		b.WriteString("\n| platform | size | digest |\n|---|---:|---|\n")
		for _, i := range p.Platforms {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", markdown(i.Platform), text.Size(i.Size), markdown(i.Digest))
		}
		b.WriteString("\n")
	}
	return []byte(b.String()), nil
}

// markdown returns s as one line of Markdown that shows s and nothing else. Names can come
// from a pull request, so all but letters, digits and a few harmless signs are numeric
// character references, which never have a meaning in Markdown or HTML (CommonMark 0.31,
// 2.5).
func markdown(s string) string {
	var b strings.Builder
	for _, r := range text.Line(s, 0) {
		switch {
		case r > 0x7f, 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(" ./-", r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
