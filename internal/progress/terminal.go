package progress

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// redraw is the time between two drawings of the rows.
const redraw = 150 * time.Millisecond

// terminal shows running platforms as rows that change in place, and everything else as
// lines above them. Its rules:
//
//  1. A row exists only while its platform runs. Then it becomes a line above the
//     remaining rows, so 500 platforms need no more rows than run at once.
//  2. Lines are printed above the rows, never between or through them.
//  3. A row never wraps: it is cut at the width of the terminal.
//  4. There are fewer rows than the terminal has lines, since the cursor is below them. A
//     row that has scrolled out of the screen cannot be erased, so it would remain.
//  5. Colour only repeats what the text says.
//  6. Lines remain on the screen when the run stops; rows do not.
type terminal struct {
	least  slog.Level // of the events that become lines
	colour bool

	// mu guards all below. It is held for each event and each drawing, so that a line and
	// the removal of its row are one step.
	mu    sync.Mutex
	w     io.Writer
	rows  []*row // in the order of their starts
	tasks map[Task]*row
	all   *row // the row of the whole run; nil until a "total" arrives
	drawn int  // the rows on the screen, which the cursor is below
	wide  int  // widest name so far, in columns, so that the ends of lines align
	over  bool // stop was called

	quit, ended chan struct{} // of the goroutine that draws; nil before the first row
}

// newTerminal returns a sink without rows; it writes nothing to w until the first event.
func newTerminal(w io.Writer, least slog.Level) *terminal {
	return &terminal{w: w, least: least, tasks: map[Task]*row{}}
}

// show is a sink. The cases of states return; all that falls through becomes a line
// if its level is high enough. A transfer of a task without a row only becomes a line.
func (t *terminal) show(_ context.Context, e *event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.msg == msgTransfer:
		if r := t.tasks[e.task]; r != nil {
			r.transfer(e)
		}
	case e.msg == msgTotal && !t.over:
		t.count(e)
		return nil
	case e.level != slog.LevelInfo || t.over || !e.task.rowed():
	case e.state():
		t.startRow(e)
		return nil
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
	// Only the rows turn on the escape sequences of Windows.
	if !isTerminal(w) || !coloured(getenv) || runtime.GOOS == "windows" {
		return text
	}
	return red(text)
}

// coloured reports whether a terminal has colours, and the user wants them.
func coloured(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// startRow shows the state of a platform in its row, and opens the row with the first
// state.
func (t *terminal) startRow(e *event) {
	r := t.tasks[e.task]
	if r == nil {
		r = &row{name: e.task.String(), start: cmp.Or(e.time, time.Now())}
		t.wide = max(t.wide, runewidth.StringWidth(r.name))
		t.tasks[e.task], t.rows = r, append(t.rows, r)
		t.open()
	}
	r.state = e.msg
}

// open starts the goroutine that draws the rows. A run without rows never starts it, and
// so never changes the terminal.
func (t *terminal) open() {
	if t.quit != nil {
		return
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	t.quit, t.ended = quit, ended
	go func() {
		defer close(ended)
		ticker := time.NewTicker(redraw)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				t.mu.Lock()
				_ = t.print("") // an error recurs with the next line, which returns it
				t.mu.Unlock()
			}
		}
	}()
}

// count shows the progress of the whole run in a row below all others.
func (t *terminal) count(e *event) {
	if t.all == nil {
		t.all = &row{name: "total", start: cmp.Or(e.time, time.Now())}
		t.open()
	}
	t.all.count(e.number("done"), e.number("all"), e.number("bytes"))
}

// restore removes a platform's row and prints how the platform ended. If the event has no
// duration, that of the row is printed. The digest is printed at verbosity 1 and above.
func (t *terminal) restore(e *event) error {
	took := e.get("duration")
	if r := t.tasks[e.task]; r != nil {
		if took.Kind() != slog.KindDuration {
			took = slog.DurationValue(cmp.Or(e.time, time.Now()).Sub(r.start))
		}
		delete(t.tasks, e.task)
		t.rows = slices.DeleteFunc(t.rows, func(one *row) bool { return one == r })
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

// print erases the rows, writes lines in their place, and draws the rows below, in one
// write. Each row is erased by itself: if the cursor is at the top of the screen, some
// terminals keep what "erase below" erases as lines of their history.
func (t *terminal) print(lines string) error {
	if t.drawn == 0 && len(t.rows) == 0 && t.all == nil && lines == "" {
		return nil
	}
	rows := t.visible(size(t.w))
	text := strings.Repeat("\x1b[A\x1b[K", t.drawn) + lines
	for _, line := range rows {
		text += line + "\n"
	}
	t.drawn = len(rows)
	_, err := io.WriteString(t.w, text)
	return err
}

// visible returns the lines of the rows that fit a terminal: the row of the whole run, of
// the others those that have run the longest, and how many more there are.
func (t *terminal) visible(width, height int) []string {
	rows, below := t.rows, []*row(nil)
	room := height - 1
	if t.all != nil {
		below = []*row{t.all}
		room--
	}
	if room < 0 {
		return nil
	}
	more := ""
	if hidden := len(rows) - room; hidden > 0 {
		// The line that counts the others takes the place of one more row.
		rows = rows[:max(room-1, 0)]
		more = fmt.Sprintf("and %d more", len(t.rows)-len(rows))
		if len(rows) == 0 {
			more = fmt.Sprintf("%d running", len(t.rows))
		}
	}
	lines := layOut(slices.Concat(rows, below), time.Now())
	if more != "" && room > 0 {
		lines = slices.Insert(lines, len(rows), more)
	}
	for i, line := range lines {
		// Not every terminal waits in the last column for what comes after it.
		lines[i] = runewidth.Truncate(line, max(width-1, 1), "…")
	}
	return lines
}

// size returns the columns and lines of a terminal, or what most have if it does not say.
func size(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}

// stop removes the rows and ends the drawing. Events that arrive later are printed as
// lines. A second call does nothing.
func (t *terminal) stop() {
	t.mu.Lock()
	t.over = true
	t.rows, t.tasks, t.all = nil, nil, nil
	if t.drawn > 0 {
		_ = t.print("")
	}
	quit, ended := t.quit, t.ended
	t.quit = nil
	t.mu.Unlock()
	if quit != nil {
		close(quit)
		<-ended
	}
}
