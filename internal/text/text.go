package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Steers reports whether a terminal does something other than show r: it is a control
// character, a mark of bidirectional text, a line separator, or not valid UTF-8.
func Steers(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar
}

// Line returns s as one line that a terminal shows: each run of white space is one space,
// other control characters are left out, and any other rune that is not printable is a
// question mark. Credentials in addresses are left out ([Redact]). A result of more than
// limit bytes ends with … instead; 0 is no limit.
func Line(s string, limit int) string {
	const more = "…"
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
	s = Redact(strings.Join(strings.Fields(s), " ")) // a rune that hides a password is gone, and none is put into one yet
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) { // IsPrint refuses format and private runes
			return '?'
		}
		return r
	}, s)
	if limit <= 0 || len(s) <= limit {
		return s
	}
	end := 0
	for i, r := range s {
		if i+utf8.RuneLen(r)+len(more) > limit {
			break
		}
		end = i + utf8.RuneLen(r)
	}
	return strings.TrimRight(s[:end], " ") + more
}

// Lines returns s without what steers a terminal; line feeds and tabs stay, but for those
// at the end. Credentials in addresses are left out.
func Lines(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !Steers(r) {
			return r
		}
		return -1
	}, s)
	return strings.TrimRight(Redact(s), "\n\t ")
}

// Escape returns s with each rune that steers a terminal as \u and its number, but for
// those in keep. JSON stays JSON of the same meaning. Credentials in addresses are left
// out.
func Escape(s, keep string) string {
	var b strings.Builder
	for _, r := range s {
		if Steers(r) && !strings.ContainsRune(keep, r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return Redact(b.String())
}
