// Package text makes text that others wrote fit to be shown.
package text

import (
	"regexp"
	"strings"
)

var (
	inURL = regexp.MustCompile(`://[^\s/?#"'<>]*@`)
	// A word of the form USER:PASSWORD@HOST, as of a pasted address whose scheme was left
	// off. What follows the @ tells it from NAME:TAG@DIGEST.
	inWord = regexp.MustCompile(`(^|[\s"'=(,<])([^\s/"'@:=(,<]+:[^\s/"']*)@([^\s/"':@]+)`)
	digest = regexp.MustCompile(`^[a-z0-9]+$`)
)

// Redact leaves out of s the credentials that stand in addresses: user and password
// before the @ of a URL, or of HOST/PATH. Digests of images stay.
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
