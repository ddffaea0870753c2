// Package text makes text from outside safe to print: text of registries, manifests and
// other programs. Its functions remove what controls a terminal and the credentials in
// addresses. They do not decide whether the text is true, and their results are for
// people, not for parsers. All functions are pure and safe for concurrent use.
package text

import (
	"regexp"
	"strings"
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
