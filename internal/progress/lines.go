package progress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// awaitedEvery is how often a plain sink says what a run waits for, if no line came since.
const awaitedEvery = 30 * time.Second

// A plain shows every event as a line, for logs and for terminals that cannot draw rows.
// If nothing was shown for a while, a line says what the run waits for: a log without lines
// looks like a run that hangs, and some CI systems end it.
type plain struct {
	w       io.Writer
	stamped bool // begin each line with the time in UTC

	mu    sync.Mutex // keeps lines whole: it is held for each write to w
	steps map[Task]event
	idle  *time.Timer // nil before the first step and after stop
	over  bool
}

// show is a sink.
func (p *plain) show(_ context.Context, e *event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.level != slog.LevelInfo || !e.task.rowed():
	case e.msg == msgDone || e.msg == msgFailed:
		delete(p.steps, e.task)
	case e.state():
		p.steps[e.task] = *e
	}
	p.wait()
	return p.write(e.time, label(e.level)+sentence(e))
}

// wait starts the time after which a line says what the run waits for.
func (p *plain) wait() {
	switch {
	case p.over || !p.stamped:
	case p.idle == nil:
		p.idle = time.AfterFunc(awaitedEvery, p.awaited)
	default:
		p.idle.Reset(awaitedEvery)
	}
}

// awaited writes a line about all tasks that run.
func (p *plain) awaited() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || len(p.steps) == 0 {
		return
	}
	now := time.Now()
	var all []string
	for task, e := range p.steps {
		all = append(all, fmt.Sprintf("%s is %s for %s", task, e.msg, seconds(now.Sub(e.time))))
	}
	slices.Sort(all)
	const most = 8 // tasks that a line names
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more", more))
	}
	_ = p.write(now, "waiting: "+strings.Join(all, ", ")+"\n") // the next event has the error
	p.wait()
}

// write writes a line that was made at a time, which may be zero.
func (p *plain) write(at time.Time, line string) error {
	if p.stamped && !at.IsZero() {
		line = at.UTC().Format(time.RFC3339) + " " + line
	}
	_, err := io.WriteString(p.w, line)
	return err
}

// stop ends the lines about what is awaited.
func (p *plain) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.idle != nil {
		p.idle.Stop()
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
