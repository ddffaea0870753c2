package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mabuild/mabuild/internal/text"
)

// Bounds of what a page shows.
const (
	maxText  = 4096 // bytes of one text; the rest is cut
	maxName  = 80   // runes of a name in a table; the title has all of it, within maxText
	maxItems = 200  // rows of a table, and items of a list; the others are counted
)

// functions are the functions of the templates.
var functions = template.FuncMap{
	"show": show, "style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // it is our own
	"size": text.Size, "number": number, "count": count, "inc": func(n int) int { return n + 1 },
	"short": short, "long": func(s string) bool { return utf8.RuneCountInString(s) > maxName }, "shortDigest": shortDigest,
	"first": first, "rest": rest, "firstPairs": firstPairs,
	"time": moment, "age": age, "ago": ago, "json": func(v any) (string, error) { raw, err := json.Marshal(v); return string(raw), err },
	"class": class, "query": func(s string) template.URL { return template.URL(url.QueryEscape(text.Redact(s))) }, //nolint:gosec // it is escaped
	"until": func(from *time.Time, to time.Time) span { return span{*from, to} },
	"list":  list, "signature": func(kind string) bool { return strings.HasPrefix(kind, "signature") },
}

// show makes a value safe for a page, see the package. It returns markup of this package
// and numbers as they are.
func show(v any) any {
	switch v := v.(type) {
	case template.CSS, template.URL:
		return v
	case string:
		return bounded(v)
	case error:
		return bounded(v.Error())
	case fmt.Stringer:
		return bounded(v.String())
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.String:
		return bounded(r.String())
	case reflect.Int, reflect.Int64, reflect.Bool, reflect.Float64:
		return v
	}
	return bounded(fmt.Sprint(v))
}

// bounded returns at most maxText bytes of a text, made visible. The end is cut before
// and after: each rune that is made visible is longer than before.
func bounded(s string) string {
	return cut(text.Escape(cut(s, maxText), "\n\t"), maxText)
}

// cut returns at most most bytes of s, and never a part of a rune.
func cut(s string, most int) string {
	const more = "…"
	if len(s) <= most {
		return s
	}
	end := most - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// short returns at most maxName runes of a name: its begin and its end, which often tells
// names apart.
func short(s string) string {
	if utf8.RuneCountInString(s) <= maxName {
		return s
	}
	runes := []rune(s)
	return string(runes[:maxName*3/4]) + "…" + string(runes[len(runes)-maxName/4+1:])
}

// shortDigest returns the algorithm and the first digits of a digest.
func shortDigest(v any) string {
	algorithm, hex, ok := strings.Cut(fmt.Sprint(v), ":")
	if !ok {
		return algorithm
	}
	return algorithm + ":" + hex[:min(len(hex), 12)]
}

// first returns at most maxItems items of a list; rest counts the others of a list or map.
func first(items any) any {
	v := reflect.ValueOf(items)
	if !v.IsValid() || v.Len() <= maxItems {
		return items
	}
	return v.Slice(0, maxItems).Interface()
}

func rest(items any) int {
	v := reflect.ValueOf(items)
	if !v.IsValid() {
		return 0
	}
	return max(0, v.Len()-maxItems)
}

// firstPairs is first for a map, in the order of its keys. Templates range over a map in
// that order, too.
func firstPairs(all map[string]string) map[string]string {
	if len(all) <= maxItems {
		return all
	}
	some := map[string]string{}
	for _, key := range sortedKeys(all)[:maxItems] {
		some[key] = all[key]
	}
	return some
}

// number formats a number with spaces between thousands.
func number(v any) string {
	digits := fmt.Sprint(v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "\u2009" + digits[at:]
	}
	return digits
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return strconv.Itoa(n) + " " + one
	}
	return number(n) + " " + many
}

// moment formats a time.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// A span is the time from now until something happens.
type span struct{ From, To time.Time }

// Passed reports whether it should have happened.
func (s span) Passed() bool { return !s.From.After(s.To) }

// age formats the time between two moments with its two largest units.
func age(from, to time.Time) string {
	d := to.Sub(from).Abs().Round(time.Second)
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	var words []string
	for i, u := range units {
		if n := d / u.size; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, u.name))
			if i+1 < len(units) && d%u.size >= units[i+1].size {
				words = append(words, fmt.Sprintf("%d %s", d%u.size/units[i+1].size, units[i+1].name))
			}
			break
		}
	}
	if len(words) == 0 {
		return "0 s"
	}
	return strings.Join(words, " ")
}

// ago says how long ago something was.
func ago(from, now time.Time) string {
	if now.Sub(from) < time.Second {
		return "just now"
	}
	return age(from, now) + " ago"
}

// class returns the class of a state. The text says the state, and the colour repeats it.
func class(state any) string {
	switch fmt.Sprint(state) {
	case "copied", "ok":
		return "good"
	case "failed", "error", "not readable", "removed":
		return "fail"
	case "skipped", "warning", "running":
		return "warn"
	}
	return "idle"
}

// A named list is the data of the templates of a table.
type named struct {
	At, Name string
	List     any
}

func list(name string, items any) named { return named{name, name, items} }
