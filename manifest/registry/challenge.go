package registry

import (
	"net/http"
	"slices"
	"strings"
)

// A challenge is what a registry wants to see (RFC 9110, 11.6.1).
type challenge struct {
	scheme string // lower case: basic, bearer
	params map[string]string
}

// parseChallenges reads every WWW-Authenticate of h. What does not parse is
// left out.
func parseChallenges(h http.Header) []challenge {
	var all []challenge
	for _, line := range h.Values("WWW-Authenticate") {
		all = append(all, parseChallengeLine(line)...)
	}
	return all
}

// parseChallengeLine reads a comma list of challenges, each a scheme and a comma
// list of parameters.
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

func trimList(s string) string { return strings.TrimLeft(s, " \t,") }

// token splits the token (RFC 9110, 5.6.2) that s begins with off.
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

// parameter splits the value that s begins with off: a token, or a quoted
// string. A value without quotes may have the characters of a URL.
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

// A scope is what a token allows, as the token specification writes it:
// type:name:action,action.
type scope string

// split returns what s is about and the actions on it.
func (s scope) split() (about string, actions []string) {
	i := strings.LastIndexByte(string(s), ':')
	if i < 0 {
		return string(s), nil
	}
	return string(s[:i]), strings.Split(string(s[i+1:]), ",")
}

// join returns the scopes as few as possible, in a fixed order.
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

// covers reports whether a token for have allows want.
func covers(have, want []string) bool {
	return slices.Equal(join(slices.Concat(have, want)), join(have))
}
