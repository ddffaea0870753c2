package registry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A link is one link of a Link header (RFC 8288, 3).
type link struct {
	target string
	rels   []string // relation types, in lower case
	anchor bool     // it is about another document than the one that it came with
}

// parseLinks reads every Link of h: a comma list of targets in angle brackets, each with
// parameters in any order, quoted or not. ok is false where something did not parse; it
// is left out.
func parseLinks(h http.Header) (all []link, ok bool) {
	ok = true
	for _, line := range h.Values("Link") {
		for line = trimList(line); line != ""; line = trimList(line) {
			one, rest, fine := parseLink(line)
			if fine {
				all = append(all, one)
			}
			ok = ok && fine
			line = rest
		}
	}
	return all, ok
}

// parseLink reads the link that s begins with. Of a link that does not parse, rest
// begins with the comma after it.
func parseLink(s string) (one link, rest string, ok bool) {
	const space = " \t"
	target, rest, closed := strings.Cut(strings.TrimPrefix(s, "<"), ">")
	if !strings.HasPrefix(s, "<") || !closed {
		return link{}, skipLink(s), false
	}
	one.target = strings.Trim(target, space)
	named := false
	for {
		rest = strings.TrimLeft(rest, space)
		if rest == "" || rest[0] == ',' {
			return one, rest, true
		}
		if rest[0] != ';' {
			return link{}, skipLink(rest), false
		}
		rest = strings.TrimLeft(rest, space+";")
		if rest == "" || rest[0] == ',' { // a semicolon too many
			return one, rest, true
		}
		key, after := token(rest)
		if key == "" {
			return link{}, skipLink(rest), false
		}
		value := ""
		if after = strings.TrimLeft(after, space); strings.HasPrefix(after, "=") {
			if value, after, ok = linkValue(strings.TrimLeft(after[1:], space)); !ok {
				return link{}, skipLink(after), false
			}
		}
		switch strings.ToLower(key) {
		case "rel":
			if !named { // the first counts, and no other (RFC 8288, 3.3)
				one.rels = strings.Fields(strings.ToLower(value))
			}
			named = true
		case "anchor":
			one.anchor = true
		}
		rest = after
	}
}

// linkValue splits the value of a parameter off: a quoted string, or what comes before
// the next separator. Some servers put that between apostrophes.
func linkValue(s string) (value, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		return parameter(s)
	}
	end := strings.IndexAny(s, ";, \t")
	if end < 0 {
		end = len(s)
	}
	value, rest = s[:end], s[end:]
	if len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'' {
		value = value[1 : len(value)-1]
	}
	return value, rest, true
}

// skipLink returns what comes after the link that s is in: from the next comma that is
// neither quoted nor between angle brackets.
func skipLink(s string) string {
	quoted, inside := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"' && !inside:
			quoted = !quoted
		case quoted:
		case c == '<':
			inside = true
		case c == '>':
			inside = false
		case c == ',' && !inside:
			return s[i:]
		}
	}
	return ""
}

// nextPage returns the query of the next page that a Link header names, nil for none.
// Only the query is taken: the host and the path stay the same, whatever the link has.
// broken is true where a next page may have been named in a way that is not understood.
func nextPage(h http.Header) (query url.Values, broken bool) {
	links, ok := parseLinks(h)
	for _, one := range links {
		if one.anchor || !slices.Contains(one.rels, "next") {
			continue
		}
		u, err := url.Parse(one.target)
		if err != nil {
			return nil, true
		}
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil || len(query) == 0 {
			return nil, true
		}
		return query, false
	}
	return nil, !ok && strings.Contains(strings.ToLower(strings.Join(h.Values("Link"), " ")), "next")
}
