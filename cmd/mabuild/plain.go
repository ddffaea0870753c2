package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	safe "github.com/mabuild/mabuild/internal/text"
)

// steers reports whether r does something on a terminal other than to be seen:
// control characters of both sets, and the marks that turn the text around them.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar
}

// plain shows what could steer a terminal as \u and its number, and so is one
// line. Credentials in addresses are left out.
func plain(s string) string { return shown(s, "") }

// plainLines is plain for text of several lines, which may have tabs. What JSON
// it is given stays JSON of the same meaning.
func plainLines(s string) string { return shown(s, "\n\t") }

func shown(s, allowed string) string {
	var b strings.Builder
	for _, r := range s {
		if steers(r) && !strings.ContainsRune(allowed, r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return safe.Redact(b.String()) // last: a return in a password would hide it
}

// writeExact writes bytes of a registry as they are; to a terminal so that they
// cannot steer it.
func writeExact(w io.Writer, raw []byte) error {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		raw = append([]byte(plainLines(string(raw))), '\n')
	}
	_, err := w.Write(raw)
	return err
}
