package mirror

import (
	"regexp"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/mabuild/mabuild/internal/versions"
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
	var fit []string
	for _, tag := range there {
		if !slices.Contains(out, tag) && t.fits(tag) {
			fit = append(fit, tag)
		}
	}
	// Newest cuts the list after it is sorted by version, not by the order of the
	// registry.
	versions.Sort(fit)
	slices.Reverse(fit)
	if t.Newest > 0 && len(fit) > t.Newest {
		fit = fit[:t.Newest]
	}
	return append(out, fit...)
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
		v := versions.Of(tag)
		return v != nil && t.Semver.Check(v)
	}
	return true
}

// matchGlob reports whether text matches a glob; * does not match a slash.
func matchGlob(glob, text string) bool {
	ok, err := doublestar.Match(glob, text)
	return ok && err == nil // globs are checked when the plan is read
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
