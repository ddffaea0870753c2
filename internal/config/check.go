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

// A Problem is one thing that is wrong with what was configured.
type Problem struct {
	Origin Origin
	Key    string // dotted path of the key, may be empty
	Err    error
}

func (p *Problem) Error() string {
	where := p.Origin.String()
	if key := shorten(p.Key); key != "" && (p.Origin.Kind == FromFile || p.Origin.Kind == FromUser) {
		where += ": " + key
	}
	return where + ": " + p.Err.Error()
}

func (p *Problem) Unwrap() error { return p.Err }

// assign sets out, a value of f's type, to the items, of which there is exactly
// one where f is no list. What is wrong comes by the position of the item.
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

// byPlatform reads texts for all platforms and, as PLATFORM=TEXT, for single ones. A
// local place, oci:DIR, may have a = of its own.
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

// examine returns what is wrong with items by their position.
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

// checks are what the tag check may ask of each text; "platforms", "platform",
// "path" and "secret" are looked after elsewhere.
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
		if !variableName.MatchString(s) { // which may be a secret in the wrong place
			return errors.New("must be the name of a variable, for example REGISTRY_TOKEN")
		}
		return nil
	},
}

// signal are the names that Linux has (signal(7)), with those of its real-time ones.
var signal = regexp.MustCompile(`^(?i:SIG)?(?i:ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|[12][0-9]|30))?|RTMAX(-([1-9]|[12][0-9]|30))?)$`)

var owner = regexp.MustCompile(`^[0-9]{1,9}(:[0-9]{1,9})?$`)

// examinePlatforms checks one item of a list of platforms, which may be a comma
// list itself. seen holds what was there before, by key.
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

// canonicalKey returns a map's key in the spelling by which it is looked up.
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

// host returns the host[:port] of a registry in lower case.
func host(s string) (string, error) {
	u, err := url.Parse("//" + s)
	if err != nil || s == "" || u.Host != s || u.Hostname() == "" || strings.HasSuffix(s, ":") || len(s) > 255 ||
		strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) }) {
		return "", fmt.Errorf("%q must be host[:port], without https:// and path", shorten(s))
	}
	return strings.ToLower(s), nil
}

var mirrorElement = regexp.MustCompile(`^[a-z0-9_]+([._-]+[a-z0-9_]+)*$`)

// examineMirror wants host[:port], or host[:port]/path with a path that a repository can
// begin with.
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

// tame refuses texts that no key has a use for.
func tame(s string) error {
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == unicode.ReplacementChar {
			return fmt.Errorf("%q contains a control character", shorten(s))
		}
	}
	return nil
}

// unknownKey says that no field has the key, and which was probably meant: one
// that is spelled alike, or the same one in another place of the struct t.
func unknownKey(key string, fields []*field, t reflect.Type) error {
	var near []string
	for _, f := range fields {
		near = append(near, f.key)
	}
	hint := didYouMean(key, near)
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

// Nearest returns which of the words s was probably meant to be, empty for none.
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

// distance is how many letters differ, whatever their case, dashes and underscores
// being the same.
func distance(a, b string) int {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	return levenshtein.Distance(fold(a), fold(b), nil)
}

// shorten keeps a text of the file short enough, and clean enough, to be told.
func shorten(s string) string {
	return safe.Line(s, 64)
}

// anchor makes the relative paths among fields, which the file in dir holds, relative to
// the working directory.
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
			at.SetString(filepath.Clean(at.String())) // .. is not looked up beyond a link
		case f.check == "path" && at.String() != "":
			at.SetString(filepath.Join(dir, at.String()))
		}
	}
}

// anchorPlaces does the same with the local places among settings.
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

// anchorPlace makes a local place's path relative to dir. Other texts, and those that name
// no place, stay what they are.
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
		p.Path = filepath.Clean(p.Path) // .. is not looked up beyond a link
	case dir == "." && !strings.Contains(p.Path, ".."):
		return text
	default:
		p.Path = filepath.Join(dir, p.Path)
	}
	return p.String()
}
