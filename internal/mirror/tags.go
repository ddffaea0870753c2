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

// This file chooses tags by their names alone. No request is made here.

// patterned reports whether a rule needs the list of tags. Exact tags do not.
func (t Tags) patterned() bool {
	return len(t.Glob) > 0 || len(t.Regex) > 0 || t.Semver != nil || t.Newest > 0
}

// none reports whether there is no rule.
func (t Tags) none() bool { return len(t.Exact) == 0 && !t.patterned() }

// matching returns the tags to copy: first the exact ones in their order, whether they
// exist or not, then the matching ones of there, the highest version first.
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
	// Newest cuts the list after it is sorted by version, not by the order of the
	// registry.
	slices.SortStableFunc(fit, func(a, b version) int { return b.compare(a) })
	if t.Newest > 0 && len(fit) > t.Newest {
		fit = fit[:t.Newest]
	}
	for _, v := range fit {
		out = append(out, v.tag)
	}
	return out
}

// fits reports whether a tag passes every kind of rule. A referrers tag passes none: it
// is copied with its image.
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

// matchGlob reports whether text matches a glob; * does not match a slash.
func matchGlob(glob, text string) bool {
	ok, err := doublestar.Match(glob, text)
	return ok && err == nil // globs are checked when the plan is read
}

// A version is a tag with its version for comparison.
type version struct {
	tag    string
	semver *semver.Version // nil if the tag is not a version
}

// aDate matches a number that is too long for a version: a date (20260401) or the number
// of a build. As a version it would be higher than all others.
var aDate = regexp.MustCompile(`^v?[0-9]{5,}$`)

// parseVersion reads a tag as a version, with or without v and with one to three numbers.
func parseVersion(tag string) version {
	v, err := semver.NewVersion(tag)
	if err != nil || aDate.MatchString(tag) {
		v = nil
	}
	return version{tag, v}
}

// compare orders by version. Tags without a version come first, in natural order. Equal
// versions (1.2 and v1.2.0) are ordered by their text, so that the order is total.
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

// naturally compares texts with numbers in them by value: v9 comes before v10.
func naturally(a, b string) int {
	switch {
	case natural.Less(a, b):
		return -1
	case natural.Less(b, a):
		return 1
	}
	return strings.Compare(a, b)
}

// SortTags sorts tags in place for display: tags without a version in natural order, then
// versions, the highest last.
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

// rename returns the tag at the target for a tag of the source.
func (e *Entry) rename(tag string) string {
	for _, r := range e.Rename {
		if at := r.Match.FindStringSubmatchIndex(tag); at != nil {
			return string(r.Match.ExpandString(nil, r.To, tag, at))
		}
	}
	return tag
}
