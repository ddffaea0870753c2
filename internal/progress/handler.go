package progress

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// The messages of the vocabulary in the package comment. Other packages write them
// literally, so a change here is a change of an interface.
const (
	msgCompiling = "compiling"
	msgReading   = "reading"
	msgLayering  = "layering"
	msgPushing   = "pushing"
	msgCopying   = "copying"
	msgTotal     = "total"
	msgDone      = "done"
	msgFailed    = "failed"
	msgTransfer  = "transfer"
	msgRequest   = "request"
)

// An event is a record that is ready to be shown: groups are flattened, texts are clean,
// and the attributes that identify the task are taken out. Sinks do not change it.
type event struct {
	time   time.Time
	level  slog.Level
	msg    string
	task   Task
	output string      // several lines, without the last line's end
	attrs  []slog.Attr // all but program, platform, image and output
}

// state reports whether the message of e is the state of a task that is not done.
func (e *event) state() bool {
	return slices.Contains([]string{msgCompiling, msgReading, msgLayering, msgPushing, msgCopying}, e.msg)
}

// get returns the value of an attribute, or the zero Value if the event lacks it. If a
// key occurs more than once, the first one counts.
func (e *event) get(key string) slog.Value {
	for _, a := range e.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// number returns the value of an attribute that is an integer, otherwise 0. Unsigned
// values above 1<<62 are reduced to it, so that they fit.
func (e *event) number(key string) int64 {
	switch v := e.get(key); v.Kind() {
	case slog.KindInt64:
		return v.Int64()
	case slog.KindUint64:
		return int64(min(v.Uint64(), 1<<62))
	}
	return 0
}

// A sink shows an event. Several goroutines may call it at once; a sink locks its writer
// itself and writes each event in one piece.
type sink func(ctx context.Context, e *event) error

// A handler is the [slog.Handler] in front of every sink. It filters by level and turns
// records into events. It is immutable: WithAttrs and WithGroup return copies.
type handler struct {
	show   sink
	least  slog.Level
	quiet  bool        // drop records of single requests even at level Debug
	prefix string      // "group." for each open group, "" outside of groups
	attrs  []slog.Attr // already flat and clean
}

// Enabled implements [slog.Handler]. On a terminal, least is LevelTransfer at any
// verbosity, since the rows need the transfers; the sink filters the lines then.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least }

// WithAttrs implements [slog.Handler]. It clones the list, because two loggers derived
// from one must not append to the same array.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		n.attrs = flatten(n.attrs, h.prefix, a)
	}
	return &n
}

// WithGroup implements [slog.Handler]. A group without a name changes nothing, as slog
// requires.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix += clean(name) + "."
	return &n
}

// Handle implements [slog.Handler]. The task comes from the context; the attributes
// program, platform and image override it, each by itself.
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
	return h.show(ctx, e)
}

// flatten appends a to list. It replaces a group by its members, with the name of the
// group and a dot before their keys. Only output outside of groups keeps several lines.
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
		return list // slog requires it for a zero Attr
	}
	key := prefix + clean(a.Key)
	if key == "output" {
		return append(list, slog.String(key, cleanLines(text(v))))
	}
	return append(list, slog.Attr{Key: key, Value: tame(v)})
}
