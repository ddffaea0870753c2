package transport

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A link is one link of a Link header (RFC 8288, 3). Registries use the header for the
// next page of a listing.
type link struct {
	target string
	rels   []string // relation types, in lower case
	anchor bool     // its context is another document, so it is not about this answer
}

// parseLinks reads all Link headers of h: lists of targets in angle brackets, each with
// parameters in any order, quoted or not. ok is false if a link did not parse; that link
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

// parseLink reads the link at the start of s. If it does not parse, rest begins with the
// comma after it, so that the next link can be read.
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
		if rest == "" || rest[0] == ',' { // an empty parameter, which some servers send
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
			if !named { // only the first counts (RFC 8288, 3.3)
				one.rels = strings.Fields(strings.ToLower(value))
			}
			named = true
		case "anchor":
			one.anchor = true
		}
		rest = after
	}
}

// linkValue splits off the value of a parameter: a quoted string, or the text before the
// next separator. Some servers use apostrophes as quotes.
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

// skipLink returns the rest of s from the next comma that is neither within quotes nor
// within angle brackets.
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

// NextPage returns the query of the next page that a Link header names, or nil. Only the
// query of the link is used. Host and path stay those of the first page, so a registry
// cannot direct the client elsewhere, and a proxy that changes the path does no harm.
// broken is true if the header may name a next page in a form that does not parse.
func NextPage(h http.Header) (query url.Values, broken bool) {
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
