// Package progress shows what a run is doing, to people or to programs that read the log.
//
// Other packages do not import it. They write records to a [slog.Logger], and this
// package turns the records into rows of a terminal, lines or JSON. It gives these
// records a meaning:
//
//   - level Info, message "compiling", "reading", "layering", "pushing", "done" or
//     "failed": the state of one platform. Attributes: platform, program (if there are
//     several), digest and duration of "done", err of "failed".
//   - level Info, message "copying", "done" or "failed" with the attribute image, or
//     in the context of a [Task] that has one: the state of an image that is copied.
//   - level Info, message "total": how much of a run over many images is done.
//     Attributes: done and all, which count images, and bytes, which were sent. A
//     terminal shows it as a row until the run stops.
//   - level [LevelTransfer], message "transfer": the progress of one blob. Attributes:
//     op (upload, download, mount, exists), host, repository, digest, bytes (so
//     far) and size. The platform is that of the context's [Task].
//   - level Debug, message "request": one HTTP request. It is shown from the
//     verbosity on that shows transfers.
//   - level Warn and above: shown in every mode. The attribute output keeps its line
//     breaks, since it holds what a compiler wrote.
//   - any other record is a line: the message, then the attributes as key=value.
//
// No record can control the terminal: control characters are removed from every text, and
// only the attribute output may have more than one line.
package progress

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/hint"
)

// LevelTransfer is the level of records that count the bytes of a blob. It is below
// Debug, since there are many for each blob.
const LevelTransfer = slog.LevelDebug - 4

// Options set how progress is shown. The zero value chooses by the writer alone: it reads
// no environment variable.
type Options struct {
	// Mode is auto (or empty), tty, plain, json or none. Auto is tty on a terminal,
	// unless TERM is dumb or CI is set to anything but false or 0; otherwise it is plain.
	// None still shows warnings and errors.
	Mode string
	// Verbosity is 0 (or less) for Info, 1 for Debug without single requests, and 2 or
	// more for all records.
	Verbosity int
	// Getenv looks up TERM, CI and NO_COLOR. If it is nil, none of them is set.
	Getenv func(string) string
}

// invalidMode reports a mode that does not exist, or that the writer does not support.
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
		t.colour = coloured(getenv)
		// The terminal filters lines by its own copy of least, which is why the handler
		// can pass it all transfers.
		h.show, h.least, stop = t.show, min(h.least, LevelTransfer), t.stop
	case "plain":
		p := &plain{w: w, stamped: true, steps: map[Task]event{}}
		h.show, stop = p.show, p.stop
	case "json":
		h.show = newJSON(w)
	case "none":
		p := &plain{w: w, steps: map[Task]event{}}
		h.show, h.least = p.show, slog.LevelWarn
	default:
		return nil, nil, invalidMode(clean(mode), "unknown mode")
	}
	return slog.New(h), stop, nil
}

// suits returns the mode for a writer if the user chose none.
func suits(w io.Writer, getenv func(string) string) string {
	ci := getenv("CI")
	if !isTerminal(w) || getenv("TERM") == "dumb" || ci != "" && !strings.EqualFold(ci, "false") && ci != "0" {
		return "plain"
	}
	return "tty"
}

// isTerminal reports whether w is a terminal that can move its cursor. A writer that wraps
// one is not recognised.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && enableSequences(f) == nil
}

// threshold returns the least level that is shown as a line.
func threshold(verbosity int) slog.Level {
	switch {
	case verbosity <= 0:
		return slog.LevelInfo
	case verbosity == 1:
		return slog.LevelDebug
	}
	return LevelTransfer
}

// A Task identifies what a record belongs to: one platform of one program, or one image
// that is copied. It has Program and Platform, or Image.
type Task struct {
	Program  string // empty if the run has only one program
	Platform string
	Image    string
}

// String returns "program platform", "platform" or "image".
func (t Task) String() string { return strings.TrimSpace(t.Program + " " + t.Platform + t.Image) }

// rowed reports whether the task has a row on a terminal. A program without a platform
// has none.
func (t Task) rowed() bool { return t.Platform != "" || t.Image != "" }

// taskKey is the key of the [Task] in a context.
type taskKey struct{}

// WithTask returns a context whose records belong to t. A record overrides the fields of
// t for which it has an attribute.
func WithTask(ctx context.Context, t Task) context.Context {
	return context.WithValue(ctx, taskKey{}, t)
}

// taskOf returns the task of ctx, or the zero Task.
func taskOf(ctx context.Context) Task {
	t, _ := ctx.Value(taskKey{}).(Task)
	return t
}
