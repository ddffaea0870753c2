// Package platform parses, prints and chooses platforms.
//
// It works on [ocispec.Platform] and has no type of its own. Text becomes a
// platform once, in [Parse]; from there on platforms are compared by [Key] or
// chosen by [Choose], never by their text.
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

// maxSpecifier bounds what Parse looks at; the longest platform in use has
// fewer than 40 bytes.
const maxSpecifier = 256

// optionCharacters are what versions and features of operating systems consist of.
const optionCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// A ParseError says which platform could not be parsed, why, and what was
// probably meant.
type ParseError struct {
	Text   string // what was given, shortened
	Reason string
	Way    string // the way out, may be empty
}

func (e *ParseError) Error() string { return fmt.Sprintf("platform %q: %s", e.Text, e.Reason) }

// Is reports whether target is the kind of the error.
func (*ParseError) Is(target error) bool { return target == hint.Usage }

// Hint returns the way out.
func (e *ParseError) Hint() string { return e.Way }

// joined is an architecture of the arm family as uname and others spell it.
var joined = regexp.MustCompile(`^([a-z]+)/arm(v[5-8])[lb]?$`)

// Parse reads os/architecture[/variant] and returns it in normal form.
//
// Case and the field's aliases fold into one spelling (x86_64 is amd64, aarch64
// is arm64, arm is arm/v7, arm64/v8 is arm64, amd64/v1 is amd64). A version of
// the operating system may stand in either spelling in use,
// windows(10.0.17763)/amd64 or windows/amd64:10.0.17763, with OS features
// after a plus sign. Half a platform ("arm64", "linux") never borrows the other
// half from the host: it is a [*ParseError], as is anything else.
//
// Parse does not ask whether Go or anybody knows the platform.
func Parse(s string) (ocispec.Platform, error) {
	text := strings.TrimSpace(s)
	fail := func(reason, way string) (ocispec.Platform, error) {
		return ocispec.Platform{}, &ParseError{Text: shorten(text), Reason: reason, Way: way}
	}
	switch {
	case text == "":
		return fail("is empty", "write os/architecture, for example linux/amd64")
	case len(text) > maxSpecifier:
		return fail("is too long", "write os/architecture, for example linux/amd64")
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
	// What was written in percent signs may be anything.
	for _, option := range append([]string{p.OSVersion}, p.OSFeatures...) {
		if strings.Trim(option, optionCharacters) != "" {
			return fail("has an invalid operating system version or feature", "write windows/amd64:10.0.17763.1")
		}
	}
	if p.OS == "" || p.Architecture == "" || strings.HasSuffix(text, "/") {
		return fail("is incomplete", "write os/architecture, for example linux/amd64")
	}
	return Normalize(p), nil
}

// ParseList parses every item, each of which may itself be a comma list, and
// returns the platforms sorted. Every complaint is reported at once: items that
// do not parse, empty ones, and those that mean the same platform twice.
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

// Normalize folds a platform that came from elsewhere, a registry say, into the
// spelling that [Parse] returns. It never fills in an empty os or architecture.
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
// Two platforms are the same exactly when their keys are, and
// Key(Parse(Key(p))) == Key(p) for every p that Parse returned.
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

// Keys returns the canonical texts of list, joined for a person to read.
func Keys(list []ocispec.Platform) string {
	keys := make([]string, len(list))
	for i, p := range list {
		keys[i] = Key(p)
	}
	return strings.Join(keys, ", ")
}

// Compare orders platforms by os, architecture, rank of the variant, version and
// features.
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

// FromV1 converts go-containerregistry's form; nil gives the zero platform.
func FromV1(p *v1.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return Normalize(ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	})
}

// ToV1 converts to go-containerregistry's form.
func ToV1(p ocispec.Platform) *v1.Platform {
	return &v1.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: slices.Clone(p.OSFeatures),
	}
}

// OfConfig returns the platform that an image's config claims.
func OfConfig(c *v1.ConfigFile) ocispec.Platform { return FromV1(c.Platform()) }

// meant guesses the platform that half a platform stands for.
func meant(text string) string {
	p, err := platforms.Parse("linux/" + strings.ToLower(text))
	known := []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x"}
	if err == nil && slices.Contains(known, p.Architecture) {
		return "write " + Key(p)
	}
	if err == nil && slices.Contains([]string{"linux", "windows", "darwin", "freebsd"}, strings.ToLower(text)) {
		return "write " + strings.ToLower(text) + "/amd64 or another architecture"
	}
	return "write os/architecture, for example linux/amd64"
}

func shorten(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
