package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/text"
)

// plain returns s on one line with control characters as \u and their number, so that
// text of a registry or an image cannot control the terminal.
func plain(s string) string { return text.Escape(s, "") }

// plainLines is plain for text of several lines; it keeps line breaks and tabs.
func plainLines(s string) string { return text.Escape(s, "\n\t") }

// writeExact writes bytes of a registry unchanged, so that they have their digest. If w
// is a terminal, control characters are escaped and a line break is added.
func writeExact(w io.Writer, raw []byte) error {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		raw = append([]byte(plainLines(string(raw))), '\n')
	}
	_, err := w.Write(raw)
	return err
}
