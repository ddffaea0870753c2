package progress

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// newPlain returns a sink that shows every event as a line, for logs and for terminals
// that cannot draw rows. stamped begins each line with the time in UTC.
func newPlain(w io.Writer, stamped bool) sink {
	var mu sync.Mutex // keeps lines whole: it is held for each write to w
	return func(_ context.Context, e *event) error {
		stamp := ""
		if stamped && !e.time.IsZero() {
			stamp = e.time.UTC().Format(time.RFC3339) + " "
		}
		mu.Lock()
		defer mu.Unlock()
		_, err := io.WriteString(w, stamp+label(e.level)+sentence(e))
		return err
	}
}

// label returns the prefix of a line at level l; lines below Warn have none.
func label(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error: "
	case l >= slog.LevelWarn:
		return "warning: "
	}
	return ""
}

// sentence returns the event as text that ends with a line break:
//
//	api linux/arm64: done in 3.2s digest=sha256:…
//	api linux/arm64: vet complains
//	./main.go:3:8: …
func sentence(e *event) string {
	var b strings.Builder
	if task := e.task.String(); task != "" {
		b.WriteString(task + ": ")
	}
	b.WriteString(e.msg)
	for _, a := range e.attrs {
		value := text(a.Value)
		switch {
		case e.msg == msgDone && a.Key == "duration":
			b.WriteString(" in " + value)
		case a.Key == "err":
			b.WriteString(": " + value)
		default:
			b.WriteString(" " + a.Key + "=" + quote(value))
		}
	}
	b.WriteByte('\n')
	if e.output != "" {
		b.WriteString(e.output + "\n")
	}
	return b.String()
}

// quote puts a value into quotes if it is empty or has spaces or quotes, so that the
// reader sees where it ends. It is for people: a backslash in the value is not escaped.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \"") {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}

// newJSON returns a sink that shows every event as a JSON object on a separate line, for
// programs that follow a run. The keys are time, level (TRANSFER, DEBUG, INFO, WARN,
// ERROR) and msg, then program, platform and image if the event has them, then its
// attributes, and output last. Durations are numbers of seconds.
//
// The sink passes each event on as a record, so that slog does the encoding. The handler
// of slog locks the writer. It accepts all levels: ours has filtered them.
func newJSON(w io.Writer) sink {
	out := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: LevelTransfer, ReplaceAttr: jsonAttr})
	return func(ctx context.Context, e *event) error {
		r := slog.NewRecord(e.time, e.level, e.msg, 0)
		for _, a := range []slog.Attr{slog.String("program", e.task.Program), slog.String("platform", e.task.Platform), slog.String("image", e.task.Image)} {
			if a.Value.String() != "" {
				r.AddAttrs(a)
			}
		}
		r.AddAttrs(e.attrs...)
		if e.output != "" {
			r.AddAttrs(slog.String("output", e.output))
		}
		return out.Handle(ctx, r)
	}
}

// jsonAttr sets the formats that differ from slog's: LevelTransfer would be "DEBUG-4",
// and a duration a number of nanoseconds.
func jsonAttr(_ []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && a.Key == slog.LevelKey && level == LevelTransfer {
		return slog.String(a.Key, "TRANSFER")
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key, a.Value.Duration().Seconds())
	}
	return a
}
