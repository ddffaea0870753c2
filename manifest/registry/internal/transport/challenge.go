package transport

import (
	"net/http"
	"slices"
	"strings"
)

// A challenge is one authentication scheme of a 401, with its parameters (RFC 9110,
// 11.6.1).
type challenge struct {
	scheme string            // lower case: basic, bearer
	params map[string]string // keys in lower case
}

// parseChallenges reads all WWW-Authenticate headers of h. A part that does not parse is
// left out with the rest of its line.
func parseChallenges(h http.Header) []challenge {
	var all []challenge
	for _, line := range h.Values("WWW-Authenticate") {
		all = append(all, parseChallengeLine(line)...)
	}
	return all
}

// parseChallengeLine reads a comma-separated list of challenges, each a scheme with
// comma-separated parameters. The comma has two meanings: only the "=" after a word tells
// a parameter from the next scheme. Of a repeated parameter the first value counts.
func parseChallengeLine(line string) []challenge {
	var all []challenge
	for line = trimList(line); line != ""; line = trimList(line) {
		word, rest := token(line)
		if word == "" {
			return all
		}
		if after := strings.TrimLeft(rest, " \t"); strings.HasPrefix(after, "=") && len(all) > 0 {
			value, rest, ok := parameter(strings.TrimLeft(after[1:], " \t"))
			if !ok {
				return all
			}
			key := strings.ToLower(word)
			if last := all[len(all)-1].params; last[key] == "" {
				last[key] = value
			}
			line = rest
			continue
		}
		all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
		line = rest
	}
	return all
}

// trimList skips the separators of a list. Empty elements are valid (RFC 9110, 5.6.1).
func trimList(s string) string { return strings.TrimLeft(s, " \t,") }

// token splits off the token (RFC 9110, 5.6.2) at the start of s. word is empty if s
// begins with another character.
func token(s string) (word, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// parameter splits off a parameter's value at the start of s, a token or a quoted string.
// An unquoted value may have any characters up to a comma or space, since some registries
// send URLs without quotes. ok is false for an empty value or an open quote.
func parameter(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// A scope is a right that a token gives, as type:name:action,action (Docker Distribution,
// "Token Scope Documentation").
type scope string

// split returns the resource of s, which may contain colons, and its actions.
func (s scope) split() (about string, actions []string) {
	i := strings.LastIndexByte(string(s), ':')
	if i < 0 {
		return string(s), nil
	}
	return string(s[:i]), strings.Split(string(s[i+1:]), ",")
}

// join merges the scopes of each resource and sorts them, so that equal rights have equal
// text and can be compared.
func join(scopes []string) []string {
	allowed := map[string][]string{}
	for _, one := range scopes {
		about, actions := scope(one).split()
		allowed[about] = append(allowed[about], actions...)
	}
	joined := make([]string, 0, len(allowed))
	for about, actions := range allowed {
		slices.Sort(actions)
		joined = append(joined, about+":"+strings.Join(slices.Compact(actions), ","))
	}
	slices.Sort(joined)
	return joined
}

// covers reports whether a token with the scopes have allows all of want.
func covers(have, want []string) bool {
	return slices.Equal(join(slices.Concat(have, want)), join(have))
}
