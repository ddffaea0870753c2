package main

import (
	"encoding/json"
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
	if isTerminal(w) {
		raw = append([]byte(plainLines(string(raw))), '\n')
	}
	_, err := w.Write(raw)
	return err
}

// writeJSON prints v as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth returns the width of the terminal w in columns, or 0 if w is not a terminal.
func terminalWidth(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}
