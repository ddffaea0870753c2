package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/text"
)

// plain shows what could steer a terminal as \u and its number, and so is one line.
func plain(s string) string { return text.Escape(s, "") }

// plainLines is plain for text of several lines, which may have tabs.
func plainLines(s string) string { return text.Escape(s, "\n\t") }

// writeExact writes bytes of a registry as they are; to a terminal so that they
// cannot steer it.
func writeExact(w io.Writer, raw []byte) error {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		raw = append([]byte(plainLines(string(raw))), '\n')
	}
	_, err := w.Write(raw)
	return err
}
