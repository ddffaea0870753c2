package progress

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	safe "github.com/mabuild/mabuild/internal/text"
)

// clean returns s as one line without control characters, whatever its length. All text
// that is shown passes through here or cleanLines: names, errors and output come from
// registries, base images and compilers, and must not move the cursor or forge a line.
func clean(s string) string { return safe.Line(s, 0) }

// cleanLines is clean for text of several lines; it keeps the line breaks.
func cleanLines(s string) string { return safe.Lines(s) }

// tame returns v with clean texts and in a kind that all sinks can show: numbers, times
// and durations stay as they are, a list of strings stays a list, and any other value
// becomes its text.
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

// text formats v for terminals and logs. JSON has other formats (see jsonAttr).
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

// seconds formats a duration to a tenth of a second, and to whole seconds from a minute
// on.
func seconds(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
}
