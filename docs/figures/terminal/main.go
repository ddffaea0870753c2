// Command terminal makes a picture of what was printed in a terminal.
//
//	terminal screen <RAW >TEXT       what a terminal shows in the end, of all that was printed in it
//	terminal draw TEXT FIGURE.svg    draws it; lines that begin with "$ " are commands
//
// docs/figures/record prints what docs/terminal.txt has.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"html"
	"io"
	"log"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

func main() {
	log.SetFlags(0)
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "screen":
		var raw []byte
		if raw, err = io.ReadAll(os.Stdin); err == nil {
			_, err = os.Stdout.WriteString(strings.Join(screen(string(raw)), "\n") + "\n")
		}
	case len(os.Args) == 4 && os.Args[1] == "draw":
		var text []byte
		if text, err = os.ReadFile(os.Args[2]); err == nil {
			err = os.WriteFile(os.Args[3], draw(text), 0o644)
		}
	default:
		err = fmt.Errorf("usage: terminal screen <RAW >TEXT, or terminal draw TEXT FIGURE.svg")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// screen returns the lines that a terminal shows after text was printed. It knows what mabuild
// prints: the end of a line, the cursor one line up, a line erased, and colours, which it leaves out.
func screen(text string) []string {
	lines, row := []string{""}, 0
	for _, part := range regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]|\r?\n|\r|[^\x1b\r\n]+`).FindAllString(text, -1) {
		switch {
		case strings.HasSuffix(part, "\n"):
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		case part == "\x1b[A":
			row = max(row-1, 0)
		case part == "\x1b[K":
			lines[row] = ""
		case part[0] == '\x1b' || part == "\r":
		default:
			lines[row] += strings.TrimRight(part, " ")
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// The measures of the picture, in pixels. A character of the usual fonts is at most 0.61 of the
// font's size wide.
const (
	fontSize   = 14
	lineHeight = 20
	padding    = 20
	bar        = 36
)

// style has the colours, for a light and a dark page.
const style = `
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; white-space: pre }
text { fill: #1f2328 } .page { fill: #ffffff; stroke: #d0d7de } .bar { fill: #f6f8fa; stroke: #d0d7de } .dot { fill: #d0d7de }
.command { font-weight: 600 } .prompt { fill: #0969da } .quiet { fill: #656d76 } .good { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117; stroke: #30363d } .bar { fill: #161b22; stroke: #30363d } .dot { fill: #484f58 }
  .prompt { fill: #58a6ff } .quiet { fill: #8d96a0 } .good { fill: #3fb950 }
}
`

// marks are the parts of output that are drawn in another colour.
var marks = regexp.MustCompile(`started and passed|\bdone\b|sha256:[0-9a-f…]+|[0-9.]+m?s$|duration=\S+`)

// draw returns the picture. Its last line has the digest of the text, which a test compares.
func draw(text []byte) []byte {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	columns := 0
	for _, line := range lines {
		columns = max(columns, utf8.RuneCountInString(line))
	}
	width := 2*padding + columns*fontSize*61/100
	height := bar + 2*padding + lineHeight*len(lines) - (lineHeight - fontSize)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">`+"\n", width, height)
	fmt.Fprintf(&b, "<title id=\"title\">A terminal with %s</title>\n<style>%s</style>\n", html.EscapeString(strings.TrimPrefix(lines[0], "$ ")), style)
	fmt.Fprintf(&b, `<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" class="page"/>`+"\n", width-1, height-1)
	fmt.Fprintf(&b, `<path d="M0.5 %d V8.5 a8 8 0 0 1 8 -8 H%.1f a8 8 0 0 1 8 8 V%[1]d Z" class="bar"/>`+"\n", bar, float64(width)-8.5)
	for i := range 3 {
		fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="5.5" class="dot"/>`+"\n", padding+2+i*19, bar/2)
	}
	command := false
	for i, line := range lines {
		if line == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" xml:space="preserve">%s</text>`+"\n", padding, bar+padding+fontSize-2+i*lineHeight, painted(line, command))
		command = (command || strings.HasPrefix(line, "$ ")) && strings.HasSuffix(line, `\`)
	}
	b.WriteString("</svg>")
	fmt.Fprintf(&b, "\n<!-- %x -->\n", sha256.Sum256(text))
	return b.Bytes()
}

// painted returns the spans of a line. It is a command if it begins with "$ ", or if it continues one.
func painted(line string, continued bool) string {
	span := func(class, text string) string {
		return `<tspan class="` + class + `">` + html.EscapeString(text) + `</tspan>`
	}
	if command, is := strings.CutPrefix(line, "$ "); is {
		return span("prompt", "$ ") + span("command", command)
	}
	if continued {
		return span("command", line)
	}
	var b strings.Builder
	last := 0
	for _, at := range marks.FindAllStringIndex(line, -1) {
		class, part := "quiet", line[at[0]:at[1]]
		if part == "done" || part == "started and passed" {
			class = "good"
		}
		b.WriteString(html.EscapeString(line[last:at[0]]) + span(class, part))
		last = at[1]
	}
	return b.String() + html.EscapeString(line[last:])
}
