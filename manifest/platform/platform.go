// Package platform parses, prints and chooses platforms (image-spec, image-index.md,
// property "platform").
//
// It works on [ocispec.Platform] and has no type of its own for a platform. Text becomes
// a platform once, in [Parse]. After that, code compares platforms by [Key] and chooses
// them by [Choose], never by their text. Most functions bring their arguments into normal
// form themselves; a comment says so if one does not.
//
// The package does not read the host's platform and does not say which platforms Go
// supports. All functions are pure and safe for concurrent use.
package platform

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

// maxSpecifier is the longest text that Parse reads, in bytes. The longest platform in
// use has fewer than 40.
const maxSpecifier = 256

// optionCharacters are the characters of versions and features of operating systems. The
// parser decodes percent signs, so that other characters could get into the text of a
// [Key].
const optionCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// A ParseError says which platform could not be parsed, why, and what to write instead.
type ParseError struct {
	Text   string // what was given, at most 64 bytes of it
	Reason string
	Way    string // what Hint returns; may be empty
}

func (e *ParseError) Error() string { return fmt.Sprintf("platform %q: %s", e.Text, e.Reason) }

// Is reports whether target is the kind of the error.
func (*ParseError) Is(target error) bool { return target == hint.Usage }

// Hint returns what to write instead, or "".
func (e *ParseError) Hint() string { return e.Way }

// joined matches an architecture and variant of arm in one word, as uname prints it:
// armv7l.
var joined = regexp.MustCompile(`^([a-z]+)/arm(v[5-8])[lb]?$`)

// Parse reads os/architecture[/variant] and returns it in normal form.
//
// Case and common aliases fold into one spelling: x86_64 is amd64, aarch64 is arm64, arm
// is arm/v7, arm64/v8 is arm64, amd64/v1 is amd64. The version of an operating system may
// have either spelling in use, windows(10.0.17763)/amd64 or windows/amd64:10.0.17763,
// with OS features after a plus sign. Half a platform ("arm64", "linux") is a
// [*ParseError] and is never completed from the host, since the same command would then
// mean something else on another machine. Every other error is a [*ParseError], too.
//
// Parse does not check that Go or a runtime supports the platform.
func Parse(s string) (ocispec.Platform, error) {
	text := strings.TrimSpace(s)
	fail := func(reason, way string) (ocispec.Platform, error) {
		return ocispec.Platform{}, &ParseError{Text: shorten(text), Reason: reason, Way: way}
	}
	switch {
	case text == "":
		return fail("is empty", "write os/architecture, for example linux/amd64; a list has no blanks: linux/amd64,linux/arm64")
	case len(text) > maxSpecifier:
		return fail("is too long", "write os/architecture, for example linux/amd64")
	case strings.Contains(text, ","):
		first, _, _ := strings.Cut(text, ",")
		return fail("is a list, but one platform is required", "write one, for example "+strings.TrimSpace(first))
	case len(strings.Fields(text)) > 1 && strings.Contains(text, "/"):
		list := slices.DeleteFunc(strings.Fields(text), func(s string) bool { return !strings.Contains(s, "/") })
		return fail("must be os/architecture[/variant]", "separate platforms by commas: "+strings.Join(list, ","))
	case !strings.Contains(text, "/"):
		return fail("must be os/architecture[/variant]", meant(text))
	}
	if body, version, ok := strings.Cut(text, ":"); ok { // windows/amd64:10.0.17763+feature
		operatingSystem, rest, ok := strings.Cut(body, "/")
		if !ok || version == "" || strings.Contains(operatingSystem, "(") {
			return fail("has a misplaced operating system version", "write windows/amd64:10.0.17763.1")
		}
		text = operatingSystem + "(" + version + ")/" + rest
	}
	if found := joined.FindStringSubmatch(strings.ToLower(text)); found != nil {
		return fail("must have the variant as a separate element", "write "+strings.Replace(found[1]+"/arm/"+found[2], "arm/v8", "arm64", 1))
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return fail("must be os/architecture[/variant]", "for example linux/amd64 or linux/arm/v7")
	}
	// The parser has decoded percent signs, so these can have any bytes.
	for _, option := range append([]string{p.OSVersion}, p.OSFeatures...) {
		if strings.Trim(option, optionCharacters) != "" {
			return fail("has an invalid operating system version or feature", "write windows/amd64:10.0.17763.1")
		}
	}
	if p.OS == "" || p.Architecture == "" || strings.HasSuffix(text, "/") {
		return fail("is incomplete", "write os/architecture, for example linux/amd64")
	}
	// No operating system has the name of an architecture: arm/v7.
	if slices.Contains(architectures, p.OS) {
		if full, err := platforms.Parse("linux/" + text); err == nil && p.Variant == "" {
			return fail("begins with an architecture, not with an operating system", "did you mean "+Key(full)+"?")
		}
		return fail("begins with an architecture, not with an operating system", "write os/architecture, for example linux/amd64")
	}
	return Normalize(p), nil
}

// ParseList parses every item, each of which may be a comma-separated list, and returns
// the platforms sorted by [Compare]. It reports all errors at once: items that do not
// parse, empty ones, an architecture or operating system that is almost one of Go (amd46), and two spellings of
// the same platform.
func ParseList(items []string) ([]ocispec.Platform, error) {
	var (
		list []ocispec.Platform
		errs []error
		seen = map[string]string{}
	)
	for _, item := range items {
		for text := range strings.SplitSeq(item, ",") {
			p, err := Parse(text)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if err := slip(text, p); err != nil {
				errs = append(errs, err)
				continue
			}
			if first, dup := seen[Key(p)]; dup {
				errs = append(errs, &ParseError{Text: shorten(strings.TrimSpace(text)), Reason: fmt.Sprintf("is the same platform as %q", first)})
				continue
			}
			seen[Key(p)] = strings.TrimSpace(text)
			list = append(list, p)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortFunc(list, Compare)
	return list, nil
}

// Normalize returns a platform that was not parsed here, for example one of a registry,
// in the spelling of [Parse]. Features are sorted and unique. It never fills in an empty
// os or architecture.
func Normalize(p ocispec.Platform) ocispec.Platform {
	features := slices.Clone(p.OSFeatures)
	slices.Sort(features)
	features = slices.Compact(features)
	if len(features) == 0 {
		features = nil
	}
	n := ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: features}
	if p.OS == "" { // platforms.Normalize would put the host's here
		return n
	}
	folded := platforms.Normalize(n)
	n.OS, n.Architecture, n.Variant = folded.OS, folded.Architecture, folded.Variant
	return n
}

// Key returns the canonical text of p, os/architecture[/variant][:version][+features].
// Two platforms are the same if and only if their keys are equal, and Key(Parse(Key(p)))
// == Key(p) for every p that Parse returned. With features but no version the colon
// stays: os/architecture:+feature.
func Key(p ocispec.Platform) string {
	p = Normalize(p)
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	switch {
	case len(p.OSFeatures) > 0:
		return text + ":" + p.OSVersion + "+" + strings.Join(p.OSFeatures, "+")
	case p.OSVersion != "":
		return text + ":" + p.OSVersion
	}
	return text
}

// Keys returns the canonical texts of list, joined by commas for messages.
func Keys(list []ocispec.Platform) string {
	keys := make([]string, len(list))
	for i, p := range list {
		keys[i] = Key(p)
	}
	return strings.Join(keys, ", ")
}

// Compare orders platforms by os, architecture, rank of the variant, version and
// features. It returns 0 for platforms with equal keys.
func Compare(a, b ocispec.Platform) int {
	a, b = Normalize(a), Normalize(b)
	return cmp.Or(
		cmp.Compare(a.OS, b.OS),
		cmp.Compare(a.Architecture, b.Architecture),
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(a.Variant, b.Variant),
		compareVersions(a.OSVersion, b.OSVersion),
		slices.Compare(a.OSFeatures, b.OSFeatures),
	)
}

// FromV1 converts a platform of go-containerregistry and brings it into normal form; nil
// gives the zero platform.
func FromV1(p *v1.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return Normalize(ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	})
}

// ToV1 converts to the type of go-containerregistry, without normalising.
func ToV1(p ocispec.Platform) *v1.Platform {
	return &v1.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: slices.Clone(p.OSFeatures),
	}
}

// architectures are those that a text without an operating system may begin with, in the
// spelling of Go and in others that are in use.
var architectures = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x",
	"aarch64", "armel", "armhf", "i386", "x86_64", "x86-64",
}

// slip returns an error if the architecture or the operating system of p is almost one of Go.
func slip(text string, p ocispec.Platform) error {
	meant, what := p, ""
	if near := misspelled(p.Architecture, architectures); near != "" {
		meant.Architecture, what = near, "architecture"
	}
	if near := misspelled(p.OS, systems); near != "" {
		meant.OS, what = near, "operating system"
	}
	if what == "" {
		return nil
	}
	return &ParseError{Text: shorten(strings.TrimSpace(text)), Reason: "has no known " + what, Way: "did you mean " + Key(meant) + "?"}
}

// misspelled returns the word that an unknown one is a slip of: two letters are swapped, or
// else one is missing, added or wrong. Otherwise it returns "".
func misspelled(word string, words []string) string {
	if slices.Contains(words, word) {
		return ""
	}
	near := ""
	for _, known := range words {
		a, b := []byte(word), []byte(known)
		for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
			a, b = a[1:], b[1:]
		}
		for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
			a, b = a[:len(a)-1], b[:len(b)-1]
		}
		switch {
		case len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]:
			return known
		case near == "" && len(known) > 3 && max(len(a), len(b)) == 1:
			near = known
		}
	}
	return near
}

// systems are the operating systems of Go.
var systems = []string{
	"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9", "solaris", "wasip1", "windows",
}

// meant returns a hint for text that is half a platform.
func meant(text string) string {
	p, err := platforms.Parse("linux/" + strings.ToLower(text))
	if err == nil && slices.Contains(architectures, p.Architecture) {
		return "write " + Key(p)
	}
	if err == nil && slices.Contains([]string{"linux", "windows", "darwin", "freebsd"}, strings.ToLower(text)) {
		return "write " + strings.ToLower(text) + "/amd64 or another architecture"
	}
	return "write os/architecture, for example linux/amd64"
}

// shorten limits text for messages to 64 bytes.
func shorten(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
