package progress

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	safe "github.com/mabuild/mabuild/internal/text"
)

// clean returns s as one line.
func clean(s string) string { return safe.Line(s, 0) }

// cleanLines is clean for text of several lines.
func cleanLines(s string) string { return safe.Lines(s) }

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
