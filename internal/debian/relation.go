package debian

import (
	"fmt"
	"strings"
)

// A relation is a package, and perhaps versions of it, that another one names (Debian Policy,
// section 7.1).
type relation struct {
	name         string
	op, version  string // op is "": any version
	architecture string // after a colon in name
}

// String returns the relation as in a control file.
func (r relation) String() string {
	if r.op == "" {
		return r.name
	}
	return fmt.Sprintf("%s (%s %s)", r.name, r.op, r.version)
}

// allows reports whether a version is one of the relation.
func (r relation) allows(version string) bool {
	c := Compare(version, r.version)
	switch r.op {
	case "":
		return true
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return c == 0
}

// relations parses a field such as Depends: groups of alternatives.
func relations(field string) ([][]relation, error) {
	var groups [][]relation
	for text := range strings.SplitSeq(field, ",") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var group []relation
		for one := range strings.SplitSeq(text, "|") {
			r, err := parseRelation(one)
			if err != nil {
				return nil, err
			}
			group = append(group, r)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// parseRelation parses NAME[:ARCHITECTURE] [(OP VERSION)]. What follows in brackets concerns
// source packages alone, and binary packages do not have it.
func parseRelation(text string) (relation, error) {
	invalid := func() (relation, error) { return relation{}, fmt.Errorf("%.200q names no package", text) }
	var r relation
	name, rest, versioned := strings.Cut(text, "(")
	r.name, r.architecture, _ = strings.Cut(strings.TrimSpace(name), ":")
	if !IsName(r.name) {
		return invalid()
	}
	if !versioned {
		return r, nil
	}
	inner, after, closed := strings.Cut(rest, ")")
	inner = strings.TrimSpace(inner)
	at := leadingOf(inner, "<=>")
	r.op, r.version = inner[:at], strings.TrimSpace(inner[at:])
	switch r.op {
	case "<<", "<=", "=", ">=", ">>", "<", ">":
	default:
		return invalid()
	}
	if !closed || strings.TrimSpace(after) != "" || checkVersion(r.version) != nil {
		return invalid()
	}
	return r, nil
}

// leadingOf returns the length of the characters of set at the start of s.
func leadingOf(s, set string) int { return len(s) - len(strings.TrimLeft(s, set)) }

// join returns a group as in a control file.
func join(group []relation) string {
	texts := make([]string, len(group))
	for i, r := range group {
		texts[i] = r.String()
	}
	return strings.Join(texts, " | ")
}
