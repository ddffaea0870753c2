// Package progress shows a person, or a program that reads over its shoulder,
// what a run is doing.
//
// Other packages know nothing of it: they write records to a [slog.Logger], and
// this package turns them into terminal bars, lines or JSON. What it knows of
// the records is this vocabulary:
//
//   - level Info, message "compiling", "layering", "pushing", "done" or "failed":
//     the state of one platform. Attributes: platform, program (where there are
//     several), digest and duration of "done", err of "failed".
//   - level Info, message "copying", "done" or "failed" with the attribute image, or
//     in the context of a [Task] that has one: the state of an image that is copied.
//   - level Info, message "total": how far a run of many images is. Attributes: done
//     and all, which count them, and bytes, which were sent. A terminal alone shows it.
//   - level [LevelTransfer], message "transfer": bytes on their way. Attributes:
//     op (upload, download, mount, exists), host, repository, digest, bytes (so
//     far) and size. The platform is that of the context's [Task].
//   - level Debug, message "request": one request. It is told with the transfers,
//     where all is told.
//   - level Warn and above: always shown, in every mode. Where the attribute
//     output is there its lines are kept, as a compiler wrote them.
//   - all else is a line: the message, then the attributes as key=value.
//
// Nothing in a record can steer the terminal: control characters are taken out
// of every text, and only the attribute output may have more than one line.
package progress

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/hint"
)

// LevelTransfer is the level of the records that count bytes, below Debug.
const LevelTransfer = slog.LevelDebug - 4

// Options choose how progress is shown. The zero value shows what suits the
// writer, as far as that can be told without looking at the environment.
type Options struct {
	// Mode is auto (or empty), tty, plain, json or none. Auto is tty on a
	// terminal that is not dumb and not a CI's, and plain elsewhere. None still
	// shows warnings and errors.
	Mode string
	// Verbosity is 0 for Info, 1 for Debug but single requests, 2 or more for all.
	Verbosity int
	// Getenv looks up TERM, CI and NO_COLOR. Nil: none of them is set.
	Getenv func(string) string
}

// invalidMode says that progress cannot be shown as was asked.
func invalidMode(mode, reason string) error {
	return hint.New(hint.Usage, "use auto, tty, plain, json or none", "progress %q: %s", mode, reason)
}

// New returns a logger that shows progress on w, and stop, which must be called
// before anything else is written to w: it takes the bars away and leaves the
// cursor at the start of a line. stop may be called more than once; records that
// come after it are shown as lines. A mode that cannot be used is an error.
func New(w io.Writer, o Options) (log *slog.Logger, stop func(), err error) {
	getenv := o.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	mode := o.Mode
	if mode == "" || mode == "auto" {
		mode = suits(w, getenv)
	}
	h := &handler{least: threshold(o.Verbosity), quiet: o.Verbosity < 2}
	stop = func() {}
	switch mode {
	case "tty":
		if !isTerminal(w) {
			return nil, nil, invalidMode(mode, "stderr is not a terminal")
		}
		t := newTerminal(w, h.least)
		t.colour = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && runtime.GOOS != "windows"
		h.out, h.least, stop = t, min(h.least, LevelTransfer), t.stop
	case "plain":
		h.out = &plain{w: w, stamped: true}
	case "json":
		h.out = newJSON(w)
	case "none":
		h.out, h.least = &plain{w: w}, slog.LevelWarn
	default:
		return nil, nil, invalidMode(clean(mode), "unknown mode")
	}
	return slog.New(h), stop, nil
}

// suits returns the mode for a writer that none was asked for.
func suits(w io.Writer, getenv func(string) string) string {
	ci := getenv("CI")
	if !isTerminal(w) || getenv("TERM") == "dumb" || ci != "" && !strings.EqualFold(ci, "false") && ci != "0" {
		return "plain"
	}
	return "tty"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func threshold(verbosity int) slog.Level {
	switch {
	case verbosity <= 0:
		return slog.LevelInfo
	case verbosity == 1:
		return slog.LevelDebug
	}
	return LevelTransfer
}

// A Task is what a run does for one platform of one program, or for one image that
// it copies.
type Task struct {
	Program  string // empty where there is only one
	Platform string
	Image    string
}

// String returns "program platform", "image", or what there is of it.
func (t Task) String() string { return strings.TrimSpace(t.Program + " " + t.Platform + t.Image) }

// rowed reports whether a terminal shows the task as a row.
func (t Task) rowed() bool { return t.Platform != "" || t.Image != "" }

type taskKey struct{}

// WithTask returns a context whose records belong to t, unless they name a
// program or platform of their own.
func WithTask(ctx context.Context, t Task) context.Context {
	return context.WithValue(ctx, taskKey{}, t)
}

func taskOf(ctx context.Context) Task {
	t, _ := ctx.Value(taskKey{}).(Task)
	return t
}
