package registry

import "github.com/mabuild/mabuild/internal/text"

// maxText bounds a registry's text in an error, in bytes.
const maxText = 512

// clean makes text from outside printable on one line of a terminal: a registry could
// otherwise send control sequences.
func clean(s string) string { return text.Line(s, maxText) }

// A cleaned error repeats input of a user or a registry. Its text is clean, and the error
// it wraps can still be found.
type cleaned struct{ error }

func (c cleaned) Error() string { return clean(c.error.Error()) }
func (c cleaned) Unwrap() error { return c.error }
