package progress

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
)

// Rules of the terminal:
//
//  1. One row for each platform at work; it ends as a line above the rows that
//     are left, so that 500 platforms need no more rows than run at once.
//  2. Whatever is to be read goes above the rows, never through them.
//  3. A row never wraps: it is cut at the terminal's width.
//  4. Colour only marks what text says as well.
//  5. What was shown when the run stops stays shown; rows do not.

// terminal shows the platforms at work as rows that change in place, and all
// else as lines above them.
type terminal struct {
	least  slog.Level // of what becomes a line
	colour bool

	mu   sync.Mutex
	w    io.Writer
	bars *mpb.Progress // nil before the first row and after stop
	rows map[Task]*row
	all  *row // how far the run is, nil where nobody counts
	wide int  // the widest name so far
	over bool // stop was called
}

func newTerminal(w io.Writer, least slog.Level) *terminal {
	return &terminal{w: w, least: least, rows: map[Task]*row{}}
}

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

// mark is label in colour.
func (t *terminal) mark(l slog.Level) string {
	text := label(l)
	if text == "" || !t.colour {
		return text
	}
	hue := "33"
	if l >= slog.LevelError {
		hue = "31"
	}
	return "\x1b[" + hue + "m" + strings.TrimSuffix(text, " ") + "\x1b[0m "
}

// startRow puts the state of a platform at work into its row.
func (t *terminal) startRow(e *event) error {
	r := t.rows[e.task]
	if r == nil {
		t.open()
		t.wide = max(t.wide, runewidth.StringWidth(e.task.String()))
		r = &row{start: cmp.Or(e.time, time.Now())}
		bar, err := t.bars.Add(0, r.filler(), r.options(e.task.String())...)
		if err != nil { // the terminal is gone
			return t.print(sentence(e))
		}
		r.bar, t.rows[e.task] = bar, r
	}
	r.startStep(e.msg)
	return nil
}

// open makes the rows, before the first.
func (t *terminal) open() {
	if t.bars == nil {
		t.bars = mpb.New(mpb.WithOutput(t.w))
	}
}

// count shows how far the run is, in a row below all others.
func (t *terminal) count(e *event) error {
	if t.all == nil {
		t.open()
		r := &row{start: cmp.Or(e.time, time.Now())}
		options := append(r.options("total"), mpb.BarPriority(math.MaxInt))
		bar, err := t.bars.Add(0, r.filler(), options...)
		if err != nil { // the terminal is gone
			return nil
		}
		r.bar, t.all = bar, r
	}
	t.all.count(e.number("done"), e.number("all"), e.number("bytes"))
	return nil
}

// restore takes a platform's row away and prints how it ended.
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

// print writes lines above the rows.
func (t *terminal) print(text string) error {
	if t.bars != nil {
		if _, err := t.bars.Write([]byte(text)); err == nil {
			return nil
		}
	}
	_, err := io.WriteString(t.w, text)
	return err
}

// stop takes the rows away; what follows is printed as it comes.
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
