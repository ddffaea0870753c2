package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"

	safe "github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Problem is one error in the configuration, with its origin. It implements error.
type Problem struct {
	Origin Origin
	Key    string // dotted path of the key, may be empty
	Err    error
}

// Error returns "ORIGIN: KEY: error". The key is omitted for flags and variables, whose
// origin already names it. Keys and values of the file are shortened and printable.
func (p *Problem) Error() string {
	where := p.Origin.String()
	if key := shorten(p.Key); key != "" && (p.Origin.Kind == FromFile || p.Origin.Kind == FromUser) {
		where += ": " + key
	}
	return where + ": " + p.Err.Error()
}

// Unwrap returns the error without its origin.
func (p *Problem) Unwrap() error { return p.Err }

// assign parses items and sets out, a value of f's type. items has exactly one element
// unless f is a list or per platform. It returns the errors by the index of the item, so
// that the caller can add the line of each; out may be set even then.
func (f *field) assign(out reflect.Value, items []string) map[int]error {
	wrong := f.examine(items)
	set := func(err error) {
		if err != nil && wrong[0] == nil {
			wrong[0] = err
		}
	}
	switch f.kind {
	case texts:
		out.Set(reflect.ValueOf(items))
	case perPlatform:
		m, err := byPlatform(items)
		set(err)
		out.Set(reflect.ValueOf(m))
	case boolean:
		v, err := strconv.ParseBool(items[0])
		if err != nil {
			set(errors.New("must be true or false"))
		}
		out.SetBool(v)
	case number:
		v, err := strconv.Atoi(items[0])
		if err != nil || v < 0 {
			set(errors.New("must be a number, 0 or more"))
		}
		out.SetInt(int64(v))
	case parsed:
		set(out.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(items[0])))
	default:
		out.SetString(items[0])
	}
	return wrong
}

// byPlatform parses texts for all platforms, and texts for single ones as PLATFORM=TEXT.
// A local place such as oci:DIR may contain a =, so it is never split.
func byPlatform(items []string) (PerPlatform, error) {
	m := PerPlatform{}
	for _, item := range items {
		key, value, single := strings.Cut(item, "=")
		if !single || local.Is(item) {
			key, value = everyPlatform, item
		}
		key, err := canonicalKey("platform or default", key)
		if _, again := m[key]; again && err == nil {
			err = fmt.Errorf("%q is a second value for %s", shorten(item), key)
		}
		if err != nil {
			return m, err
		}
		m[key] = value
	}
	return m, nil
}

// examine checks items against the tags enum and check, and returns the errors by index.
func (f *field) examine(items []string) map[int]error {
	wrong := map[int]error{}
	seen := map[string]string{}
	for i, s := range items {
		err := tame(s)
		if err == nil && len(f.enum) > 0 && !slices.Contains(f.enum, s) {
			err = fmt.Errorf("%q is not one of %s%s", shorten(s), strings.Join(f.enum, ", "), didYouMean(s, f.enum))
		}
		if err == nil && f.check == "platforms" {
			err = examinePlatforms(s, seen)
		} else if err == nil && checks[f.check] != nil {
			err = checks[f.check](s)
		}
		if err != nil {
			wrong[i] = err
		}
	}
	return wrong
}

// checks has the functions behind the tag check, which are applied to each text. The
// values "platforms", "platform", "path" and "secret" need more context and are handled
// elsewhere.
var checks = map[string]func(string) error{
	"absolute": func(s string) error {
		if !strings.HasPrefix(s, "/") && (len(s) < 3 || s[1:3] != `:\`) {
			return fmt.Errorf("%q is not an absolute path", shorten(s))
		}
		return nil
	},
	"keyvalue": func(s string) error {
		if key, _, ok := strings.Cut(s, "="); !ok || strings.TrimSpace(key) == "" {
			return fmt.Errorf("%q must be KEY=VALUE", shorten(s))
		}
		return nil
	},
	"owner": func(s string) error {
		if !owner.MatchString(s) {
			return fmt.Errorf("%q must be numbers, for example 65532 or 65532:65532", shorten(s))
		}
		return nil
	},
	"host":   func(s string) error { _, err := host(s); return err },
	"mirror": examineMirror,
	"glob":   examineGlob,
	"regex":  examineRegex,
	"range":  examineRange,
	"cron":   examineCron,
	"tag":    examineTag,
	"signal": func(s string) error {
		if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 || signal.MatchString(s) {
			return nil
		}
		return fmt.Errorf("%q is not a signal such as SIGTERM, SIGRTMIN+3 or 1 to 64%s", shorten(s), didYouMean(s, []string{"SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"}))
	},
	"variable": func(s string) error {
		if !variableName.MatchString(s) { // may be a misplaced secret: do not print it
			return errors.New("must be the name of a variable, for example REGISTRY_TOKEN")
		}
		return nil
	},
}

// signal matches the names of signals on Linux (signal(7)), with or without SIG,
// including real-time signals.
var signal = regexp.MustCompile(`^(?i:SIG)?(?i:ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|[12][0-9]|30))?|RTMAX(-([1-9]|[12][0-9]|30))?)$`)

// owner matches numbers only: names would have to be looked up in the base image.
var owner = regexp.MustCompile(`^[0-9]{1,9}(:[0-9]{1,9})?$`)

// examinePlatforms checks one item of a list of platforms, which may itself be a list
// separated by commas. seen has the platforms of the items before, by their key, and is
// extended; two spellings of one platform are duplicates.
func examinePlatforms(s string, seen map[string]string) error {
	for one := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(one) == "all" {
			continue
		}
		p, err := platform.Parse(one)
		if err != nil {
			return err
		}
		key := platform.Key(p)
		if first, dup := seen[key]; dup {
			return fmt.Errorf("%q is the same platform as %q", strings.TrimSpace(one), first)
		}
		seen[key] = strings.TrimSpace(one)
	}
	return nil
}

// canonicalKey returns the key of a map in the spelling by which the map is looked up:
// hosts in lower case, platforms as [platform.Key] spells them.
func canonicalKey(check, s string) (string, error) {
	switch {
	case check == "host":
		return host(s)
	case check == "platform or default" && s == everyPlatform:
		return s, nil
	}
	p, err := platform.Parse(s)
	if err != nil {
		return "", err
	}
	return platform.Key(p), nil
}

// host returns the host[:port] of a registry in lower case. It accepts only ASCII, so an
// internationalised name must be written in its encoded form.
func host(s string) (string, error) {
	u, err := url.Parse("//" + s)
	if err != nil || s == "" || u.Host != s || u.Hostname() == "" || strings.HasSuffix(s, ":") || len(s) > 255 ||
		strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) }) {
		return "", fmt.Errorf("%q must be host[:port], without https:// and path", shorten(s))
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
		return fmt.Errorf("%q must be host[:port] or host[:port]/path, without https:// and query, with the path in lower case", shorten(s))
	}
	return nil
}

// tame rejects control characters, which no key needs and which could change the terminal
// or an HTTP header. Line breaks and tabs are allowed; a replacement character is a sign
// of invalid UTF-8.
func tame(s string) error {
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == unicode.ReplacementChar {
			return fmt.Errorf("%q contains a control character", shorten(s))
		}
	}
	return nil
}

// unknownKey returns the error for a key that no field of fields has. It suggests the key
// that was probably meant: one with similar spelling, or the same key elsewhere in the
// struct type t.
func unknownKey(key string, fields []*field, t reflect.Type) error {
	var near []string
	for _, f := range fields {
		near = append(near, f.key)
	}
	hint := didYouMean(key, near)
	// The whole file is searched, since the key may belong to an object.
	for _, f := range leaves(describe(t)) {
		if hint == "" && f.key == key && f.path != key {
			hint = fmt.Sprintf("; it belongs below %s", strings.TrimSuffix(f.path, "."+key))
		}
	}
	return fmt.Errorf("unknown key%s", hint)
}

// didYouMean returns "; did you mean X?" for the word nearest to s, or nothing.
func didYouMean(s string, words []string) string {
	best := Nearest(s, words)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// Nearest returns the word that s is most likely a misspelling of, or "" if none is
// close. At most a third of the letters of s may differ, or two. Texts of more than 64
// bytes are not compared, which bounds the work for a hostile file.
func Nearest(s string, words []string) string {
	best, least := "", max(2, len(s)/3)+1
	if len(s) > 64 {
		return ""
	}
	for _, w := range words {
		if d := distance(s, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// distance returns the number of letters that differ. It ignores case and treats dashes
// as underscores.
func distance(a, b string) int {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	return levenshtein.Distance(fold(a), fold(b), nil)
}

// shorten returns a text of the file in at most 64 columns, without control characters,
// for error messages.
func shorten(s string) string {
	return safe.Line(s, 64)
}

// anchor makes relative paths in a file relative to the working directory instead of the
// file's directory dir. It changes the fields whose check is "path", in objects, lists
// and maps as well.
func anchor(fields []*field, v reflect.Value, dir string) {
	for _, f := range fields {
		at := v.FieldByIndex(f.index)
		switch {
		case f.kind == object:
			anchor(f.elem, v, dir)
		case f.kind == objects:
			for i := range at.Len() {
				anchor(f.elem, at.Index(i), dir)
			}
		case f.kind == dict:
			for _, key := range at.MapKeys() {
				elem := reflect.New(at.Type().Elem()).Elem()
				elem.Set(at.MapIndex(key))
				anchor(f.elem, elem, dir)
				at.SetMapIndex(key, elem)
			}
		case f.check == "path" && filepath.IsAbs(at.String()):
			// Clean removes .. by its text, so that a link before it does not change
			// where it leads.
			at.SetString(filepath.Clean(at.String()))
		case f.check == "path" && at.String() != "":
			at.SetString(filepath.Join(dir, at.String()))
		}
	}
}

// anchorPlaces does the same for the local places among settings: base images and
// outputs.
func anchorPlaces(c *Config) {
	of := func(s *Settings) {
		for key, text := range s.Base {
			s.Base[key] = anchorPlace(c.Dir, text)
		}
	}
	of(&c.Settings)
	for i := range c.Builds {
		of(&c.Builds[i].Settings)
	}
	for i, text := range c.Output {
		c.Output[i] = anchorPlace(c.Dir, text)
	}
}

// anchorPlace makes the path of a local place relative to dir. Other texts are returned
// unchanged, including references to registries, daemons and standard output.
func anchorPlace(dir, text string) string {
	p, err := local.Parse(text)
	if err != nil || p.Path == local.Stdout {
		return text
	}
	switch p.Form {
	case local.FormLayout, local.FormArchive, local.FormDockerArchive:
	default:
		return text
	}
	switch {
	case filepath.IsAbs(p.Path):
		// As in anchor, .. is removed by its text.
		p.Path = filepath.Clean(p.Path)
	case dir == "." && !strings.Contains(p.Path, ".."):
		return text
	default:
		p.Path = filepath.Join(dir, p.Path)
	}
	return p.String()
}
