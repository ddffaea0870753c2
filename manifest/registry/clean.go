package registry

import "github.com/mabuild/mabuild/internal/text"

// maxText bounds what is shown of a registry's own words, in bytes.
const maxText = 512

// clean makes text from elsewhere fit for one line of a terminal.
func clean(s string) string { return text.Line(s, maxText) }

// cleaned is an error that repeats what somebody typed or sent.
type cleaned struct{ error }

func (c cleaned) Error() string { return clean(c.error.Error()) }
func (c cleaned) Unwrap() error { return c.error }
