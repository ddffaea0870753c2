package progress

import (
	"context"
	"io"
	"log/slog"
)

// lines shows every event as a JSON object on a separate line, for programs that follow a
// run. The keys are time, level (TRANSFER, DEBUG, INFO, WARN, ERROR) and msg, then
// program, platform and image if the event has them, then its attributes, and output
// last. Durations are numbers of seconds. The handler of slog locks the writer.
type lines struct{ json slog.Handler }

// newJSON returns a sink that writes to w. It accepts all levels: the handler has
// filtered them.
func newJSON(w io.Writer) *lines {
	return &lines{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: LevelTransfer, ReplaceAttr: jsonAttr})}
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

// show implements sink. It passes the event on as a record, so that slog does the
// encoding.
func (l *lines) show(ctx context.Context, e *event) error {
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
	return l.json.Handle(ctx, r)
}
