package mirrorfile

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/robfig/cron/v3"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// checks returns the checks of the keys: those of [config.Checks] and those that only this
// file has.
func checks() map[string]yamlconf.Check {
	all := maps.Clone(config.Checks)
	all["glob"] = yamlconf.Check{Text: examineGlob}
	all["regex"] = yamlconf.Check{Text: examineRegex}
	all["range"] = yamlconf.Check{Text: examineRange}
	all["cron"] = yamlconf.Check{Text: examineCron}
	all["tag"] = yamlconf.Check{Text: examineTag, Pattern: tagName.String()}
	return all
}

// tagName is the pattern of tags in distribution-spec ("Pulling manifests").
var tagName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// examineTag rejects what is not a tag. A glob is a frequent mistake and gets a
// suggestion.
func examineTag(s string) error {
	if tagName.MatchString(s) {
		return nil
	}
	if strings.ContainsAny(s, "*?[{") {
		return fmt.Errorf("%q is not a tag; write {glob: %q}", yamlconf.Shorten(s), yamlconf.Shorten(s))
	}
	return fmt.Errorf("%q is not a tag: at most 128 letters, digits and _ . -", yamlconf.Shorten(s))
}

// examineGlob rejects invalid globs, and the empty one, which matches nothing.
func examineGlob(s string) error {
	if s == "" || !doublestar.ValidatePattern(s) {
		return fmt.Errorf("%q is not a glob", yamlconf.Shorten(s))
	}
	return nil
}

// examineRegex rejects invalid regular expressions.
func examineRegex(s string) error {
	_, err := whole(s)
	return err
}

// whole compiles a regular expression that matches a complete text, even if it is a|b.
func whole(s string) (*regexp.Regexp, error) {
	// The expression must be valid alone: "a)(b" would be valid in the group below.
	if _, err := regexp.Compile(s); err != nil {
		return nil, fmt.Errorf("%q is not a regular expression: %s", yamlconf.Shorten(s), yamlconf.Shorten(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
	return regexp.Compile(`^(?:` + s + `)$`)
}

// examineRange rejects what is not a range of semantic versions.
func examineRange(s string) error {
	if _, err := semver.NewConstraint(s); err != nil {
		return fmt.Errorf("%q is not a range of versions such as >=1.2 <2 or ~1.4", yamlconf.Shorten(s))
	}
	return nil
}

// examineCron rejects invalid schedules.
func examineCron(s string) error {
	_, err := schedule(s)
	return err
}

// schedule parses a schedule in cron's format. It rejects a schedule that has no date,
// such as 30 February, and would never run.
func schedule(s string) (cron.Schedule, error) {
	wrong := fmt.Errorf("%q is not a cron schedule: minute hour day month weekday, or a name such as @daily", yamlconf.Shorten(s))
	// The parser panics if a time zone has no schedule after it.
	if zone, _, ok := strings.Cut(s, " "); !ok && strings.Contains(zone, "TZ=") {
		return nil, wrong
	}
	line, err := cron.ParseStandard(s)
	if err != nil {
		return nil, wrong
	}
	if line.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never occurs", yamlconf.Shorten(s))
	}
	return line, nil
}

// reference matches a reference to a group as [regexp.Regexp.Expand] reads it.
var reference = regexp.MustCompile(`\$(?:\$|\{(\w*)\}|(\w+))`)

// examineReplacement rejects references to groups that match does not have, which would
// be replaced by nothing. $1x is a frequent mistake: it means a group named 1x.
func examineReplacement(to string, match *regexp.Regexp) error {
	for _, m := range reference.FindAllStringSubmatch(to, -1) {
		group := m[1] + m[2]
		if group == "" && m[0] == "$$" {
			continue
		}
		n, err := strconv.Atoi(group)
		if err != nil {
			n = match.SubexpIndex(group)
		}
		if n >= 0 && n <= match.NumSubexp() {
			continue
		}
		if digits := strings.TrimRight(group, "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"); digits != "" && digits != group && m[2] != "" {
			return fmt.Errorf("%q refers to a group named %s; write ${%s}%s", m[0], group, digits, group[len(digits):])
		}
		return fmt.Errorf("%q refers to a group that match does not have", m[0])
	}
	return nil
}

// examineReference checks the name of an image or repository.
func examineReference(s string) error {
	_, err := name.ParseReference(s)
	var bad *name.ErrBadName
	if errors.As(err, &bad) {
		return fmt.Errorf("%q is not an image reference", yamlconf.Shorten(s))
	}
	return err
}

// example has values with which templates are tried, so that an error appears when the
// file is loaded and not in the first run.
var example = mirror.Names{
	Registry: "registry.example", Repository: "one/one", Name: "one", Tag: "1", SourceTag: "1", Date: "2006-01-02", Time: "20060102T150405Z",
}

// depends reports whether the result of a valid template changes with what change
// modifies. It tries the template with both sets of names, so it needs no knowledge of
// templates.
func depends(text string, change func(*mirror.Names)) bool {
	other := example
	change(&other)
	one, err1 := example.Expand(text)
	two, err2 := other.Expand(text)
	return err1 == nil && err2 == nil && one != two
}

// byTag changes the tag.
func byTag(n *mirror.Names) { n.Tag, n.SourceTag = "2", "2" }

// byRepository changes the repository.
func byRepository(n *mirror.Names) { n.Repository, n.Name = "two/two", "two" }

// byPlace changes everything that templates of sources and backups do not support.
func byPlace(n *mirror.Names) {
	byRepository(n)
	n.Registry = "two.example"
}
