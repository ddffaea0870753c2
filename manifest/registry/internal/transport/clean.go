package transport

import "github.com/mabuild/mabuild/internal/text"

// maxText bounds a registry's text in an error, in bytes.
const maxText = 512

// Clean makes text from outside printable on one line of a terminal: a registry could
// otherwise send control sequences.
func Clean(s string) string { return text.Line(s, maxText) }
