package progress

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// plain shows every event as a line, for logs and for terminals that cannot draw rows.
type plain struct {
	stamped bool // begin each line with the time in UTC

	// mu keeps lines whole: it is held for each write to w.
	mu sync.Mutex
	w  io.Writer
}

// show implements sink.
func (p *plain) show(_ context.Context, e *event) error {
	stamp := ""
	if p.stamped && !e.time.IsZero() {
		stamp = e.time.UTC().Format(time.RFC3339) + " "
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.w, stamp+label(e.level)+sentence(e))
	return err
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
