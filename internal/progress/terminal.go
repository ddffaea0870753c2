package progress

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
)

// terminal shows running platforms as rows that change in place, and everything else as
// lines above them. Its rules:
//
//  1. A row exists only while its platform runs. Then it becomes a line above the
//     remaining rows, so 500 platforms need no more rows than run at once.
//  2. Lines are printed above the rows, never between or through them.
//  3. A row never wraps: it is cut at the width of the terminal.
//  4. Colour only repeats what the text says.
//  5. Lines remain on the screen when the run stops; rows do not.
type terminal struct {
	least  slog.Level // of the events that become lines
	colour bool

	// mu guards all below and is held for each event, so that a line and the removal of
	// its row are one step. It is never taken by the goroutine that draws.
	mu   sync.Mutex
	w    io.Writer
	bars *mpb.Progress // nil before the first row and after stop
	rows map[Task]*row
	all  *row // the row of the whole run; nil until a "total" arrives
	wide int  // widest name so far, in columns, so that the ends of lines align
	over bool // stop was called
}

// newTerminal returns a sink without rows; it writes nothing to w until the first event.
func newTerminal(w io.Writer, least slog.Level) *terminal {
	return &terminal{w: w, least: least, rows: map[Task]*row{}}
}

// show is a sink. The cases of states return; all that falls through becomes a line
// if its level is high enough. A transfer of a task without a row only becomes a line.
func (t *terminal) show(_ context.Context, e *event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.msg == msgTransfer:
		if r := t.rows[e.task]; r != nil {
			r.transfer(e)
		}
	case e.msg == msgTotal && !t.over:
		return t.count(e)
	case e.level != slog.LevelInfo || t.over || !e.task.rowed():
	case e.msg == msgCompiling || e.msg == msgLayering || e.msg == msgPushing || e.msg == msgCopying:
		return t.startRow(e)
	case e.msg == msgDone || e.msg == msgFailed:
		return t.restore(e)
	}
	if e.level < t.least {
		return nil
	}
	return t.print(t.mark(e.level) + sentence(e))
}

// mark returns label in colour: yellow for warnings, red for errors.
func (t *terminal) mark(l slog.Level) string {
	text := label(l)
	if text == "" || !t.colour {
		return text
	}
	if l >= slog.LevelError {
		return red(strings.TrimSuffix(text, " ")) + " "
	}
	return "\x1b[33m" + strings.TrimSuffix(text, " ") + "\x1b[0m "
}

// red returns text in red.
func red(text string) string { return "\x1b[31m" + text + "\x1b[0m" }

// Alarm returns text in red if w is a terminal that has colours, otherwise text.
func Alarm(w io.Writer, getenv func(string) string, text string) string {
	if !isTerminal(w) || !coloured(getenv) {
		return text
	}
	return red(text)
}

// coloured reports whether a terminal has colours, and the user wants them.
func coloured(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && runtime.GOOS != "windows"
}

// startRow shows the state of a platform in its row, and opens the row with the first
// state. If mpb refuses the row, the state is printed as a line instead.
func (t *terminal) startRow(e *event) error {
	r := t.rows[e.task]
	if r == nil {
		t.open()
		t.wide = max(t.wide, runewidth.StringWidth(e.task.String()))
		r = &row{start: cmp.Or(e.time, time.Now())}
		bar, err := t.bars.Add(0, r.filler(), r.options(e.task.String())...)
		if err != nil { // mpb has ended
			return t.print(sentence(e))
		}
		r.bar, t.rows[e.task] = bar, r
	}
	r.startStep(e.msg)
	return nil
}

// open starts mpb before the first row. A run without rows never starts it, and so never
// changes the terminal.
func (t *terminal) open() {
	if t.bars == nil {
		t.bars = mpb.New(mpb.WithOutput(t.w))
	}
}

// count shows the progress of the whole run in a row below all others.
func (t *terminal) count(e *event) error {
	if t.all == nil {
		t.open()
		r := &row{start: cmp.Or(e.time, time.Now())}
		options := append(r.options("total"), mpb.BarPriority(math.MaxInt))
		bar, err := t.bars.Add(0, r.filler(), options...)
		if err != nil { // mpb has ended
			return nil
		}
		r.bar, t.all = bar, r
	}
	t.all.count(e.number("done"), e.number("all"), e.number("bytes"))
	return nil
}

// restore removes a platform's row and prints how the platform ended. If the event has no
// duration, that of the row is printed. The digest is printed at verbosity 1 and above.
func (t *terminal) restore(e *event) error {
	took := e.get("duration")
	if r := t.rows[e.task]; r != nil {
		if took.Kind() != slog.KindDuration {
			took = slog.DurationValue(cmp.Or(e.time, time.Now()).Sub(r.start))
		}
		r.bar.Abort(true)
		delete(t.rows, e.task)
	}
	ending := e.msg
	if e.msg == msgFailed && t.colour {
		ending = red(ending)
	}
	switch {
	case e.msg == msgFailed && e.get("err").Kind() == slog.KindString:
		ending += ": " + text(e.get("err"))
	case took.Kind() == slog.KindDuration:
		ending += " " + text(took)
	}
	if digest := e.get("digest"); t.least < slog.LevelInfo && digest.Kind() == slog.KindString {
		ending += " " + text(digest)
	}
	line := fmt.Sprintf("%s  %s\n", runewidth.FillRight(e.task.String(), t.wide), ending)
	if e.output != "" {
		line += e.output + "\n"
	}
	return t.print(line)
}

// print writes lines above the rows. If there are no rows, or mpb has stopped, it writes
// to w directly.
func (t *terminal) print(text string) error {
	if t.bars != nil {
		if _, err := t.bars.Write([]byte(text)); err == nil {
			return nil
		}
	}
	_, err := io.WriteString(t.w, text)
	return err
}

// stop removes the rows and waits until mpb has drawn for the last time. Events that
// arrive later are printed as lines. A second call does nothing.
func (t *terminal) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.bars == nil {
		return
	}
	for _, r := range t.rows {
		r.bar.Abort(true)
	}
	if t.all != nil {
		t.all.bar.Abort(true)
	}
	t.bars.Wait()
	t.bars, t.rows, t.all = nil, nil, nil
}
