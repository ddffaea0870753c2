// Package versions orders the tags of images by the versions that they name. It knows the
// names alone; tags of any form can be sorted.
package versions

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/maruel/natural"
)

// aDate matches a number that is too long for a version: a date (20260401) or the number
// of a build. As a version it would be higher than all others.
var aDate = regexp.MustCompile(`^v?[0-9]{5,}$`)

// Of reads a tag as a version, with or without v and with one to three numbers. It
// returns nil if the tag is not a version.
func Of(tag string) *semver.Version {
	v, err := semver.NewVersion(tag)
	if err != nil || aDate.MatchString(tag) {
		return nil
	}
	return v
}

// Sort sorts tags in place: tags without a version in natural order (v9 before v10), then
// versions, the highest last. Equal versions (1.2 and v1.2.0) are ordered by their text,
// so that the order is total.
func Sort(tags []string) {
	all := make([]version, len(tags))
	for i, tag := range tags {
		all[i] = version{tag, Of(tag)}
	}
	slices.SortStableFunc(all, version.compare)
	for i, v := range all {
		tags[i] = v.tag
	}
}

// A version is a tag with its version; nil if it is not a version.
type version struct {
	tag    string
	semver *semver.Version
}

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

// naturally compares texts with numbers in them by value.
func naturally(a, b string) int {
	switch {
	case natural.Less(a, b):
		return -1
	case natural.Less(b, a):
		return 1
	}
	return strings.Compare(a, b)
}
