package mirror

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"
	"github.com/maruel/natural"

	"github.com/mabuild/mabuild/manifest"
)

// patterned reports whether any of the rules needs to know which tags there are.
func (t Tags) patterned() bool {
	return len(t.Glob) > 0 || len(t.Regex) > 0 || t.Semver != nil || t.Newest > 0
}

// none reports whether nothing was said of tags.
func (t Tags) none() bool { return len(t.Exact) == 0 && !t.patterned() }

// matching returns the tags to take of those there are: the exact ones in the order
// given, whether they are there or not, then the others, the newest first.
func (t Tags) matching(there []string) []string {
	var out []string
	for _, tag := range t.Exact {
		if !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	if !t.patterned() {
		return out
	}
	var fit []version
	for _, tag := range there {
		if !slices.Contains(out, tag) && t.fits(tag) {
			fit = append(fit, parseVersion(tag))
		}
	}
	slices.SortStableFunc(fit, func(a, b version) int { return b.compare(a) })
	if t.Newest > 0 && len(fit) > t.Newest {
		fit = fit[:t.Newest]
	}
	for _, v := range fit {
		out = append(out, v.tag)
	}
	return out
}

// fits reports whether a tag passes each rule.
func (t Tags) fits(tag string) bool {
	matches := func(glob string) bool { return matchGlob(glob, tag) }
	switch {
	case manifest.IsReferrersTag(tag), slices.ContainsFunc(t.Exclude, matches):
		return false
	case len(t.Glob) > 0 && !slices.ContainsFunc(t.Glob, matches):
		return false
	case len(t.Regex) > 0 && !slices.ContainsFunc(t.Regex, func(r *regexp.Regexp) bool { return r.MatchString(tag) }):
		return false
	case t.Semver != nil:
		v := parseVersion(tag).semver
		return v != nil && t.Semver.Check(v)
	}
	return true
}

func matchGlob(glob, text string) bool {
	ok, err := doublestar.Match(glob, text)
	return ok && err == nil // it was checked when it was read
}

// A version is a tag that can be compared.
type version struct {
	tag    string
	semver *semver.Version // nil for what is none
}

// aDate is a tag that is a number too long for a version: 20260401, a build's number.
var aDate = regexp.MustCompile(`^v?[0-9]{5,}$`)

func parseVersion(tag string) version {
	v, err := semver.NewVersion(tag)
	if err != nil || aDate.MatchString(tag) {
		v = nil
	}
	return version{tag, v}
}

// compare orders by version; what has none comes before, in natural order.
func (v version) compare(other version) int {
	if v.semver != nil && other.semver != nil {
		if c := v.semver.Compare(other.semver); c != 0 {
			return c
		}
	} else if v.semver != nil || other.semver != nil {
		return cmp.Compare(boolToInt(v.semver != nil), boolToInt(other.semver != nil))
	}
	return naturally(v.tag, other.tag)
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// naturally compares as people do: v9 before v10.
func naturally(a, b string) int {
	switch {
	case natural.Less(a, b):
		return -1
	case natural.Less(b, a):
		return 1
	}
	return strings.Compare(a, b)
}

// SortTags orders tags as a reader expects them: what is no version first, in
// natural order, then versions, the newest last.
func SortTags(tags []string) {
	versions := make([]version, len(tags))
	for i, tag := range tags {
		versions[i] = parseVersion(tag)
	}
	slices.SortStableFunc(versions, version.compare)
	for i, v := range versions {
		tags[i] = v.tag
	}
}

// rename returns what a tag is called at the target.
func (e *Entry) rename(tag string) string {
	for _, r := range e.Rename {
		if at := r.Match.FindStringSubmatchIndex(tag); at != nil {
			return string(r.Match.ExpandString(nil, r.To, tag, at))
		}
	}
	return tag
}
