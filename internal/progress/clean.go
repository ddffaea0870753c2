package progress

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"

	safe "github.com/mabuild/mabuild/internal/text"
)

// steers reports whether r does something other than to be seen: control
// characters of both sets, and the marks that reverse or break the text around
// them.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar
}

// clean returns s as one line of text that only shows: every run of white space
// is one space, what steers a terminal is gone, and so is what is no UTF-8.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case steers(r):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(safe.Redact(s)), " ") // what is left out could hide a password
}

// cleanLines is clean for text of several lines: those, and tabs, stay.
func cleanLines(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !steers(r) {
			return r
		}
		return -1
	}, s)
	return strings.TrimRight(safe.Redact(s), "\n\t ")
}

// tame returns v in a form that JSON and lines can show, every text clean.
func tame(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(clean(v.String()))
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			tamed := make([]string, len(list))
			for i, s := range list {
				tamed[i] = clean(s)
			}
			return slog.AnyValue(tamed)
		}
		return slog.StringValue(clean(text(v)))
	}
	return v
}

// text returns v as a person reads it.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindDuration:
		return seconds(v.Duration())
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			return strings.Join(list, ",")
		}
		return fmt.Sprint(v.Any())
	}
	return v.String()
}

// seconds shows a duration to a tenth of a second, from a minute on to the
// second.
func seconds(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
}
