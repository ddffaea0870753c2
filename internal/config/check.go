package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/platform"
)

// Checks are the checks of the keys of [Config], in addition to those of yamlconf. The
// file of a mirror has some of them too.
var Checks = map[string]yamlconf.Check{
	"platforms": {Texts: examinePlatforms, Pattern: `^\s*(all|[^/\s]+/[^/\s]+.*)$`},
	"platform":  {Key: platformKey, Pattern: platformPattern},
	// A text for all platforms, or a map from "default" and platforms to texts.
	"by-platform": {
		Key: platformKey, Rest: everyPlatform, Split: splitImages, Pair: imageAndPlatform, Pattern: platformPattern,
		Usage: "; `IMAGE` or PLATFORM=IMAGE, repeatable",
	},
	"host": {
		Text: func(s string) error { _, err := host(s); return err }, Key: host, Pattern: `^[^/\s]+$`,
	},
	"mirror":      {Text: examineMirror, Pattern: `^[^/\s?#@]+(/[a-z0-9_]+([._-]+[a-z0-9_]+)*)*$`},
	"compression": {Pattern: "^(gzip(:[1-9])?|zstd(:([1-9]|1[0-9]|2[0-2]))?)$"},
	"owner": {Pattern: `^[0-9]{1,9}(:[0-9]{1,9})?$`, Text: func(s string) error {
		if !owner.MatchString(s) {
			return fmt.Errorf("%q must be numbers, for example 65532 or 65532:65532", yamlconf.Shorten(s))
		}
		return nil
	}},
	// A name without a tag, which the key tags has.
	"repository": {Text: func(s string) error {
		if at := imageref.Cut(s); at.Tag != "" && strings.Contains(at.Repository, "/") {
			return fmt.Errorf("%q has a tag; write %s, and %s in tags or -t", yamlconf.Shorten(s), yamlconf.Shorten(at.Repository), yamlconf.Shorten(at.Tag))
		}
		return nil
	}},
	"program": {Pattern: `^(/|.:\\)`, Text: func(s string) error {
		if !strings.HasPrefix(s, "/") && (len(s) < 3 || s[1:3] != `:\`) {
			return fmt.Errorf("%q is not an absolute path in the image; the key main names the package", yamlconf.Shorten(s))
		}
		return nil
	}},
	"entrypoint": {Texts: func(words []string) map[int]error {
		if strings.ContainsAny(words[0], " \t") {
			return map[int]error{0: fmt.Errorf("%q is one word with blanks; write each word by itself: [%s]", yamlconf.Shorten(words[0]), yamlconf.Shorten(strings.Join(strings.Fields(words[0]), ", ")))}
		}
		return nil
	}},
	"id":       {Pattern: idPattern, Text: mustMatch(idPattern, "an id: letters, digits and . _ - /")},
	"package":  {Pattern: packagePattern, Text: mustMatch(packagePattern, "the name of a package")},
	"suite":    {Pattern: suitePattern, Text: mustMatch(suitePattern, "a suite or component such as trixie or main")},
	"snapshot": {Pattern: snapshotPattern, Text: mustMatch(snapshotPattern, "a time such as 20260801T000000Z")},
	// The key is a package, and so is the pattern.
	"script": {
		Pattern: packagePattern, Value: mustMatch(scriptPattern, "alternatives, alternatives:WORD, ca-certificates or ignore"),
		Key: func(s string) (string, error) { return s, mustMatch(packagePattern, "the name of a package")(s) },
	},
	"signal": {Text: func(s string) error {
		if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 || signal.MatchString(s) {
			return nil
		}
		return fmt.Errorf("%q is not a signal such as SIGTERM, SIGRTMIN+3 or 1 to 64%s", yamlconf.Shorten(s), yamlconf.DidYouMean(s, []string{"SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"}))
	}},
}

// The forms of ids, of the names of Debian (Debian Policy, section 5.6), and of rules for scripts.
const (
	idPattern       = `^[A-Za-z0-9][A-Za-z0-9._/-]*$`
	packagePattern  = `^[a-z0-9][a-z0-9+.-]+$`
	suitePattern    = `^[A-Za-z0-9][A-Za-z0-9+._~-]*(/[A-Za-z0-9][A-Za-z0-9+._~-]*)*$`
	snapshotPattern = `^[0-9]{8}T[0-9]{6}Z$`
	scriptPattern   = `^(alternatives(:[A-Za-z0-9._+-]+)?|ca-certificates|ignore)$`
)

// mustMatch returns a check that a text is what a pattern matches.
func mustMatch(pattern, what string) func(string) error {
	form := regexp.MustCompile(pattern)
	return func(s string) error {
		if !form.MatchString(s) {
			return fmt.Errorf("%q is not %s", yamlconf.Shorten(s), what)
		}
		return nil
	}
}

// signal matches the names of signals on Linux (signal(7)), with or without SIG,
// including real-time signals.
var signal = regexp.MustCompile(`^(?i:SIG)?(?i:ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|[12][0-9]|30))?|RTMAX(-([1-9]|[12][0-9]|30))?)$`)

// owner matches numbers only: names would have to be looked up in the base image.
var owner = regexp.MustCompile(`^[0-9]{1,9}(:[0-9]{1,9})?$`)

// examinePlatforms checks the items of a list of platforms, each of which may itself be a
// list separated by commas. Two spellings of one platform are duplicates.
func examinePlatforms(items []string) map[int]error {
	seen, wrong := map[string]string{}, map[int]error{}
	for i, item := range items {
		for one := range strings.SplitSeq(item, ",") {
			if strings.TrimSpace(one) == "all" {
				continue
			}
			p, err := platform.Parse(one)
			if first, dup := seen[platform.Key(p)]; dup && err == nil {
				err = fmt.Errorf("%q is the same platform as %q", strings.TrimSpace(one), first)
			}
			if err != nil {
				wrong[i] = err
				break
			}
			seen[platform.Key(p)] = strings.TrimSpace(one)
		}
	}
	return wrong
}

// platformKey returns a platform as [platform.Key] spells it.
func platformKey(s string) (string, error) {
	p, err := platform.ParseList([]string{s}) // which finds slips such as linux/amr64
	if err != nil || len(p) != 1 {
		return "", cmp.Or(err, fmt.Errorf("%q is not one platform", yamlconf.Shorten(s)))
	}
	return platform.Key(p[0]), nil
}

// platformPattern approximates a platform.
const platformPattern = `^[^/\s]+/[^/\s]+(/[^/\s]+)?$`

// host returns the host[:port] of a registry in lower case. It accepts only ASCII, so an
// internationalised name must be written in its encoded form.
func host(s string) (string, error) {
	if strings.HasPrefix(s, "-") {
		return "", fmt.Errorf("%q is a flag: a HOST comes before it, such as registry.local:5000", yamlconf.Shorten(s))
	}
	u, err := url.Parse("//" + s)
	if err != nil || s == "" || u.Host != s || u.Hostname() == "" || strings.HasSuffix(s, ":") || len(s) > 255 ||
		strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) }) {
		return "", fmt.Errorf("%q must be host[:port], without https:// and path", yamlconf.Shorten(s))
	}
	return strings.ToLower(s), nil
}

// mirrorElement matches an element of a repository name, slightly more loosely than the
// pattern in distribution-spec ("Pulling manifests").
var mirrorElement = regexp.MustCompile(`^[a-z0-9_]+([._-]+[a-z0-9_]+)*$`)

// examineMirror accepts host[:port], or host[:port]/path with a path that is a valid
// prefix of a repository name.
func examineMirror(s string) error {
	at, path, found := strings.Cut(s, "/")
	_, err := host(at)
	for element := range strings.SplitSeq(path, "/") {
		if found && !mirrorElement.MatchString(element) {
			err = errors.New("no path")
		}
	}
	if err != nil {
		return fmt.Errorf("%q must be host[:port] or host[:port]/path, without https:// and query, with the path in lower case", yamlconf.Shorten(s))
	}
	return nil
}
