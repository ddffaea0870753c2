package registry

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds what is shown of a registry's own words, in bytes.
const maxText = 512

// clean makes text from elsewhere fit for one line of a terminal: valid UTF-8,
// no control, format or bidirectional characters, at most maxText bytes.
func clean(text string) string {
	const more = "…"
	var b strings.Builder
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			space = b.Len() > 0
			continue
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) { // IsPrint refuses format and private runes
			r = '?'
		}
		if b.Len()+1+utf8.RuneLen(r)+len(more) > maxText {
			b.WriteString(more)
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cleaned is an error that repeats what somebody typed or sent.
type cleaned struct{ error }

func (c cleaned) Error() string { return clean(c.error.Error()) }
func (c cleaned) Unwrap() error { return c.error }
