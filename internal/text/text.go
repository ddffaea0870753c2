// Package text makes text from outside safe to print: text of registries, manifests and
// other programs. Its functions remove what controls a terminal and the credentials in
// addresses. They do not decide whether the text is true, and their results are for
// people, not for parsers. [Size] has the one form in which sizes are shown. All functions are pure and safe for concurrent use.
package text

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// inURL is the user information of a URL (RFC 3986, section 3.2.1). Everything before
	// the @ is removed, since a token often has the place of the user.
	inURL = regexp.MustCompile(`://[^\s/?#"'<>]*@`)
	// inWord is USER:PASSWORD@HOST without a scheme, as in an address that was pasted
	// without it. NAME:TAG@DIGEST has the same form; it is recognised by the text after
	// the @.
	inWord = regexp.MustCompile(`(^|[\s"'=(,<])([^\s/"'@:=(,<]+:[^\s/"']*)@([^\s/"':@]+)`)
	// digest is the algorithm of a digest as it follows the @ of a reference.
	digest = regexp.MustCompile(`^[a-z0-9]+$`)
)

// Redact removes from s the credentials in addresses: the user and the password before
// the @ of a URL or of HOST/PATH. Digests of images stay. It is a last defence and finds
// these two forms alone: a token in a query or in a header is not recognised.
func Redact(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	s = inURL.ReplaceAllString(s, "://")
	return inWord.ReplaceAllStringFunc(s, func(word string) string {
		m := inWord.FindStringSubmatch(word)
		if digest.MatchString(m[3]) && strings.HasPrefix(m[3], "sha") {
			return word
		}
		return m[1] + m[3]
	})
}

// Steers reports whether a terminal does something other than show r: r is a control
// character, a mark of bidirectional text, a line or paragraph separator, or the
// replacement character, which stands for invalid UTF-8. Marks of bidirectional text are
// included because they can show a name in another order than it has.
func Steers(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar
}

// Line returns s as one line for a terminal: each run of white space becomes one space,
// other control characters are removed, and any other rune that is not printable becomes
// a question mark. Credentials in addresses are removed ([Redact]). A result of more than
// limit bytes ends with … instead, within the limit and never within a rune; 0 is no
// limit. A limit of less than three bytes gives … alone.
func Line(s string, limit int) string {
	const more = "…"
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
	// Control characters are removed before this, so that none in the middle of a
	// password hides it from Redact. Question marks are put in after it, because Redact
	// reads one as the end of the host of a URL.
	s = Redact(strings.Join(strings.Fields(s), " "))
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

// Lines returns s without what controls a terminal. Line feeds and tabs stay, except at
// the end. Credentials in addresses are removed. The length is not limited.
func Lines(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !Steers(r) {
			return r
		}
		return -1
	}, s)
	return strings.TrimRight(Redact(s), "\n\t ")
}

// Escape returns s with each rune that controls a terminal as \u and its number in
// hexadecimal digits, except for the runes in keep. JSON keeps its meaning, because a
// control character can stand only within a string there; give white space between values
// in keep. Credentials in addresses are removed.
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

// Size formats a number of bytes with one decimal, in powers of 1000. A value that would
// round to 1000.0 moves to the next unit.
func Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	size, units := float64(n)/1000, []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	for len(units) > 1 && size >= 999.95 {
		size, units = size/1000, units[1:]
	}
	return fmt.Sprintf("%.1f %s", size, units[0])
}
