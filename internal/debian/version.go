package debian

import (
	"cmp"
	"fmt"
	"strings"
)

// Compare compares two versions as dpkg does (deb-version(7)): by epoch, upstream version and
// revision. It returns -1, 0 or 1. Texts that are no versions have an order, too.
func Compare(a, b string) int {
	epochA, restA := cutEpoch(a)
	epochB, restB := cutEpoch(b)
	upstreamA, revisionA := cutRevision(restA)
	upstreamB, revisionB := cutRevision(restB)
	return cmp.Or(compareNumbers(epochA, epochB), compareParts(upstreamA, upstreamB), compareParts(revisionA, revisionB))
}

// cutEpoch returns the epoch of a version and what follows. Without one it is "".
func cutEpoch(version string) (epoch, rest string) {
	if epoch, rest, found := strings.Cut(version, ":"); found {
		return epoch, rest
	}
	return "", version
}

// cutRevision returns the parts before and after the last dash.
func cutRevision(version string) (upstream, revision string) {
	if at := strings.LastIndexByte(version, '-'); at >= 0 {
		return version[:at], version[at+1:]
	}
	return version, ""
}

// compareNumbers compares decimal numbers of any length. "" is 0.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// compareParts compares two upstream versions or revisions: in turn what comes before a
// number, character by character, and the number.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		textA, textB := leading(a, false), leading(b, false)
		if c := compareTexts(a[:textA], b[:textB]); c != 0 {
			return c
		}
		a, b = a[textA:], b[textB:]
		numberA, numberB := leading(a, true), leading(b, true)
		if c := compareNumbers(a[:numberA], b[:numberB]); c != 0 {
			return c
		}
		a, b = a[numberA:], b[numberB:]
	}
	return 0
}

// leading returns the length of the digits at the start of s, or of what are no digits.
func leading(s string, digits bool) int {
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareTexts compares two texts without digits. A tilde comes before the end of a text,
// which comes before letters, which come before all other characters.
func compareTexts(a, b string) int {
	weight := func(s string, i int) int {
		switch {
		case i >= len(s):
			return 0
		case s[i] == '~':
			return -1
		case 'a' <= s[i]|0x20 && s[i]|0x20 <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// checkVersion returns an error unless text is a version, as far as it must be to be used in
// names of files and in documents.
func checkVersion(text string) error {
	if text == "" || len(text) > maxVersion || strings.ContainsFunc(text, func(r rune) bool {
		return (r < '0' || r > '9') && ('a' > r|0x20 || r|0x20 > 'z') && !strings.ContainsRune(".+-~:", r)
	}) {
		return fmt.Errorf("%.100q is not a version", text)
	}
	return nil
}
