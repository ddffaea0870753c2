package progress

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// Messages that say the state of a platform.
const (
	msgCompiling = "compiling"
	msgLayering  = "layering"
	msgPushing   = "pushing"
	msgCopying   = "copying"
	msgTotal     = "total"
	msgDone      = "done"
	msgFailed    = "failed"
	msgTransfer  = "transfer"
	msgRequest   = "request"
)

// An event is a record made ready to be shown: attributes flat, texts clean.
type event struct {
	time   time.Time
	level  slog.Level
	msg    string
	task   Task
	output string      // several lines, without the last line's end
	attrs  []slog.Attr // all but program, platform, image and output
}

// get returns the value of an attribute, the zero Value where there is none.
func (e *event) get(key string) slog.Value {
	for _, a := range e.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// number returns the value of an attribute that counts something.
func (e *event) number(key string) int64 {
	switch v := e.get(key); v.Kind() {
	case slog.KindInt64:
		return v.Int64()
	case slog.KindUint64:
		return int64(min(v.Uint64(), 1<<62))
	}
	return 0
}

// A sink shows events. It is called by several goroutines at once.
type sink interface {
	show(ctx context.Context, e *event) error
}

// A handler is the [slog.Handler] in front of every sink.
type handler struct {
	out    sink
	least  slog.Level
	quiet  bool        // of single requests
	prefix string      // "group." for each open group
	attrs  []slog.Attr // flat and clean already
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		n.attrs = flatten(n.attrs, h.prefix, a)
	}
	return &n
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix += clean(name) + "."
	return &n
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.quiet && r.Message == msgRequest && r.Level == slog.LevelDebug {
		return nil
	}
	e := &event{time: r.Time, level: r.Level, msg: clean(r.Message), task: taskOf(ctx)}
	e.task = Task{clean(e.task.Program), clean(e.task.Platform), clean(e.task.Image)}
	all := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		all = flatten(all, h.prefix, a)
		return true
	})
	for _, a := range all {
		switch a.Key {
		case "program":
			e.task.Program = a.Value.String()
		case "platform":
			e.task.Platform = a.Value.String()
		case "image":
			e.task.Image = a.Value.String()
		case "output":
			e.output = a.Value.String()
		default:
			e.attrs = append(e.attrs, a)
		}
	}
	return h.out.show(ctx, e)
}

// flatten appends a to list, a group member by member under its name.
func flatten(list []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += clean(a.Key) + "."
		}
		for _, member := range v.Group() {
			list = flatten(list, prefix, member)
		}
		return list
	}
	if a.Key == "" && v.Kind() == slog.KindAny && v.Any() == nil {
		return list // slog: ignore a zero Attr
	}
	key := prefix + clean(a.Key)
	if key == "output" {
		return append(list, slog.String(key, cleanLines(text(v))))
	}
	return append(list, slog.Attr{Key: key, Value: tame(v)})
}
