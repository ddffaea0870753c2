package yamlconf

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"

	safe "github.com/mabuild/mabuild/internal/text"
)

// A Check is what the tag check of a field names: what its texts must be, or the keys of
// its map. Every part may be missing. The checks absolute, keyvalue, path, secret and
// variable exist already; path also makes [Table.Anchor] change the text.
type Check struct {
	// Text returns an error for a text that is not allowed.
	Text func(string) error
	// Texts does so for the items of a list that depend on each other, by their index.
	// It must accept an invalid item.
	Texts func([]string) map[int]error
	// Key returns the spelling by which a key of a map is looked up. Two keys with one
	// spelling are duplicates.
	Key func(string) (string, error)
	// Value returns an error for a text of a map that is not allowed.
	Value func(string) error
	// Rest is the key for all keys that a map from keys to texts lacks. If it is set, a
	// text without a map is the value of Rest, and sources are merged key by key.
	Rest string
	// Split splits the text of a flag or variable into items, and Pair an item into key
	// and text. Both are required with Rest.
	Split func(string) []string
	Pair  func(string) (key, text string)
	// Usage follows the description of the flag.
	Usage string
	// Pattern approximates the check in the schema, for the feedback of an editor.
	Pattern string
}

// ownChecks are the checks that need no knowledge of a program.
var ownChecks = map[string]Check{
	"": {}, "path": {}, "secret": {},
	"absolute": {Pattern: `^(/|.:\\)`, Text: func(s string) error {
		if !strings.HasPrefix(s, "/") && (len(s) < 3 || s[1:3] != `:\`) {
			return fmt.Errorf("%q is not an absolute path", Shorten(s))
		}
		return nil
	}},
	"keyvalue": {Pattern: "^[^=]+=", Text: func(s string) error {
		if key, _, ok := strings.Cut(s, "="); !ok || strings.TrimSpace(key) == "" {
			return fmt.Errorf("%q must be KEY=VALUE", Shorten(s))
		}
		return nil
	}},
	"variable": {Pattern: `^[A-Za-z_][A-Za-z0-9_]*$`, Text: func(s string) error {
		if !variableName.MatchString(s) { // may be a misplaced secret: do not print it
			return errors.New("must be the name of a variable, for example REGISTRY_TOKEN")
		}
		return nil
	}},
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// assign parses items and sets out, a value of f's type. items has exactly one element
// unless f is a list or partial. It returns the errors by the index of the item, so that
// the caller can add the line of each; out may be set even then.
func (f *Field) assign(out reflect.Value, items []string) map[int]error {
	wrong := f.examine(items)
	set := func(err error) {
		if err != nil && wrong[0] == nil {
			wrong[0] = err
		}
	}
	switch f.kind {
	case texts:
		out.Set(reflect.ValueOf(items))
	case partial:
		m, err := f.byKey(items)
		set(err)
		out.Set(reflect.ValueOf(m).Convert(f.typ))
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

// byKey parses texts for all keys, and texts for single ones as KEY=TEXT.
func (f *Field) byKey(items []string) (map[string]string, error) {
	m := map[string]string{}
	for _, item := range items {
		left, value := f.check.Pair(item)
		key, err := f.check.key(left)
		if _, swapped := f.check.key(value); err != nil && swapped == nil {
			err = fmt.Errorf("%q has its sides swapped; write %s=%s", Shorten(item), Shorten(value), Shorten(left))
		}
		if _, again := m[key]; again && err == nil {
			err = fmt.Errorf("%q is a second value for %s", Shorten(item), key)
		}
		if err != nil {
			return m, err
		}
		m[key] = value
	}
	return m, nil
}

// key returns the spelling by which a key of a map is looked up.
func (c *Check) key(s string) (string, error) {
	if c.Key == nil || c.Rest != "" && s == c.Rest {
		return s, nil
	}
	return c.Key(s)
}

// examine checks items against the tags enum and check, and returns the errors by index.
func (f *Field) examine(items []string) map[int]error {
	wrong := map[int]error{}
	if f.check.Texts != nil {
		wrong = f.check.Texts(items)
	}
	for i, s := range items {
		err := tame(s)
		if err == nil && len(f.Enum) > 0 && !slices.Contains(f.Enum, s) {
			err = fmt.Errorf("%q is not one of %s%s", Shorten(s), strings.Join(f.Enum, ", "), f.meant(s))
		}
		if err == nil && f.check.Text != nil {
			err = f.check.Text(s)
		}
		if err != nil {
			wrong[i] = err
		}
	}
	return wrong
}

// tame rejects control characters, which no key needs and which could change the terminal
// or an HTTP header. Line breaks and tabs are allowed; a replacement character is a sign
// of invalid UTF-8.
func tame(s string) error {
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == unicode.ReplacementChar {
			return fmt.Errorf("%q contains a control character", Shorten(s))
		}
	}
	return nil
}

// unknownKey returns the error for a key that no field of fields has. It suggests the key
// that was probably meant: one with similar spelling, or the same key elsewhere in all,
// the fields of the struct around it.
func unknownKey(key string, fields, all []*Field) error {
	var near []string
	for _, f := range fields {
		near = append(near, f.Key)
	}
	hint := ""
	for _, f := range fields {
		if slices.Contains(f.said, strings.ToLower(key)) {
			return fmt.Errorf("unknown key; did you mean %s?", f.Key)
		}
	}
	for _, word := range near {
		if stem(key) == stem(word) || strings.HasPrefix(strings.ReplaceAll(key, "-", "_"), word+"_") {
			hint = "; did you mean " + word + "?"
		}
	}
	if hint == "" {
		hint = DidYouMean(key, near)
	}
	// The whole file is searched, since the key may belong to an object.
	for _, f := range leaves(all) {
		if f.Path != f.Key && strings.ReplaceAll(f.Path, ".", "_") == key {
			hint = "; did you mean " + f.Path + "?"
		}
		if hint == "" && f.Key == key && f.Path != key {
			hint = fmt.Sprintf("; it belongs below %s", strings.TrimSuffix(f.Path, "."+key))
		}
	}
	return fmt.Errorf("unknown key%s", hint)
}

// stem returns a word without what makes it a plural: entry and entries have the same stem.
func stem(word string) string {
	word = strings.ToLower(word)
	for _, ending := range []string{"ies", "es", "s", "y"} {
		if rest, ok := strings.CutSuffix(word, ending); ok {
			return rest
		}
	}
	return word
}

// meant returns "; did you mean X?" for a value of the enum that s is likely to mean: a
// misspelling, a short form such as cdx or cyclonedx-json, mode=max as docker buildx writes it, or yes and no where one value is none.
func (f *Field) meant(s string) string {
	if _, value, ok := strings.Cut(s, "="); ok {
		s = value
	}
	if slices.Contains(f.Enum, s) {
		return fmt.Sprintf("; did you mean %s?", s)
	}
	if yes, err := strconv.ParseBool(s); err == nil && len(f.Enum) > 1 && f.Enum[0] == "none" {
		if yes {
			return fmt.Sprintf("; did you mean %s?", f.Enum[1])
		}
		return "; did you mean none?"
	}
	for _, word := range f.Enum {
		if len(s) > 2 && s[0] == word[0] && subsequence(s, word) || strings.HasPrefix(s, word+"-") {
			return fmt.Sprintf("; did you mean %s?", word)
		}
	}
	return DidYouMean(s, f.Enum)
}

// subsequence reports whether all letters of s are in word in this order.
func subsequence(s, word string) bool {
	for _, r := range s {
		at := strings.IndexRune(word, r)
		if at < 0 {
			return false
		}
		word = word[at+1:]
	}
	return true
}

// DidYouMean returns "; did you mean X?" for the word nearest to s, or "".
func DidYouMean(s string, words []string) string {
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
		if d := Distance(s, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// Distance returns the number of letters that differ. It ignores case and treats dashes
// as underscores.
func Distance(a, b string) int {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	return levenshtein.Distance(fold(a), fold(b), nil)
}

// Shorten returns a text of the file in at most 64 columns, without control characters,
// for error messages.
func Shorten(s string) string {
	return safe.Line(s, 64)
}
