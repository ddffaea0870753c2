//go:build !windows

package progress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"
)

// A screen emulates the few terminal functions that rows use: text, new lines, cursor up,
// erase line, and erase below. Other sequences are kept as text. Like tmux it keeps what
// scrolls out of the top, and the whole screen if all of it is erased below the cursor.
type screen struct {
	height int

	mu      sync.Mutex
	pending []byte   // the beginning of a sequence
	lines   []string // of the history and the screen
	top     int      // the first line of the screen
	at      int      // the line that the cursor is on
}

var csi = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, b...)
	for len(s.pending) > 0 {
		size := s.consume()
		if size == 0 {
			break
		}
		s.pending = s.pending[size:]
	}
	return len(b), nil
}

// consume executes the pending sequence and returns its size, or 0 if its end is still
// missing.
func (s *screen) consume() int {
	for s.at >= len(s.lines) {
		s.lines = append(s.lines, "")
	}
	first := string(s.pending[:1])
	switch first {
	case "\r":
		return 1
	case "\n":
		s.at++
		s.top = max(s.top, s.at-s.height+1)
		return 1
	case "\x1b":
		match := csi.FindSubmatch(s.pending)
		switch {
		case match == nil:
			return 0
		case match[2][0] == 'A':
			n, _ := strconv.Atoi(string(match[1]))
			s.at = max(s.at-max(n, 1), s.top)
		case match[2][0] == 'K':
			s.lines[s.at] = ""
		case match[2][0] == 'J' && s.at == s.top:
			s.top, s.at = len(s.lines), len(s.lines)
		case match[2][0] == 'J':
			s.lines = append(s.lines[:s.at], "")
		default:
			s.lines[s.at] += string(match[0])
		}
		return len(match[0])
	}
	s.lines[s.at] += first
	return 1
}

func (s *screen) shown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// await waits until the screen shows a line that contains all of the words.
func (s *screen) await(t *testing.T, words ...string) string {
	t.Helper()
	for range 200 {
		for _, line := range s.shown() {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return line
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no line with %q:\n%s", words, strings.Join(s.shown(), "\n"))
	return ""
}

// open returns a logger on a terminal of the given size.
func open(t *testing.T, width, height uint16, o Options) (*slog.Logger, func(), *screen) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal("no pseudo terminal: ", err)
	}
	if err := pty.Setsize(slave, &pty.Winsize{Rows: height, Cols: width}); err != nil {
		t.Fatal(err)
	}
	s := &screen{height: int(height)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(s, master) // ends with an error if the slave closes
	}()
	log, stop, err := New(slave, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = slave.Close()
		_ = master.Close()
		<-read
	})
	return log, stop, s
}

// Rows of running platforms stay below the log lines and end with stop.
func TestTerminal(t *testing.T) {
	log, stop, s := open(t, 100, 10, Options{})
	arm := WithTask(t.Context(), Task{Platform: "linux/arm/v7"})
	log.InfoContext(arm, "compiling")
	log.InfoContext(t.Context(), "compiling", "platform", "linux/s390x")
	s.await(t, "linux/s390x", "compiling")
	log.InfoContext(arm, "pushing")
	log.Log(arm, LevelTransfer, "transfer", "op", "upload", "digest", "a", "bytes", int64(8_000_000), "size", int64(12_000_000))
	log.Log(arm, LevelTransfer, "transfer", "op", "upload", "digest", "b", "bytes", 100_000, "size", 300_000)
	log.Log(arm, LevelTransfer, "transfer", "op", "download", "digest", "c", "bytes", 5, "size", 6)
	s.await(t, "linux/arm/v7", "pushing", "[====", "8.1/12.3 MB")

	log.WarnContext(t.Context(), "vet", "platform", "linux/s390x", "output", "main.go:1: one\n\x1b[2Jmain.go:2: two")
	s.await(t, "[2Jmain.go:2: two")
	lines := s.shown()
	at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "main.go:1: one") })
	if at < 1 || !strings.Contains(lines[at-1], "warning:\x1b[0m linux/s390x: vet") || lines[at+1] != "[2Jmain.go:2: two" ||
		!strings.HasPrefix(lines[at+2], "linux/arm/v7 ") || !strings.HasPrefix(lines[at+3], "linux/s390x ") {
		t.Errorf("rows are not below the warning:\n%s", strings.Join(lines, "\n"))
	}

	log.InfoContext(arm, "done", "digest", "sha256:d0", "duration", 3200*time.Millisecond)
	s.await(t, "linux/arm/v7  done 3.2s")
	stop()
	stop()
	log.InfoContext(arm, "compiling") // a record after stop is a plain line
	s.await(t, "linux/arm/v7: compiling")
	want := []string{"\x1b[33mwarning:\x1b[0m linux/s390x: vet", "main.go:1: one", "[2Jmain.go:2: two", "linux/arm/v7  done 3.2s", "linux/arm/v7: compiling"}
	if got := s.shown(); !slices.Equal(trim(got), want) {
		t.Errorf("after stop:\n%s", strings.Join(got, "\n"))
	}
}

// trim removes the empty lines at the end: those of erased rows, and that of the cursor.
func trim(lines []string) []string {
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Rows fit a narrow terminal, and NO_COLOR turns colours off.
func TestTerminalNarrow(t *testing.T) {
	const width = 40
	log, stop, s := open(t, width, 10, Options{Getenv: env("NO_COLOR=1")})
	ctx := WithTask(t.Context(), Task{Program: "a-program-with-a-name", Platform: "linux/arm/v7"})
	log.InfoContext(ctx, "pushing")
	log.Log(ctx, LevelTransfer, "transfer", "op", "upload", "digest", "a", "bytes", 1, "size", 300_000)
	line := s.await(t, "a-program-with-a-name linux/arm/v7", "pus")
	if n := runewidth.StringWidth(line); n > width {
		t.Errorf("%d columns: %q", n, line)
	}
	log.WarnContext(ctx, "w")
	stop()
	if raw := s.await(t, "warning: a-program"); strings.Contains(raw, "\x1b") {
		t.Errorf("colour despite NO_COLOR: %q", raw)
	}
}

// Rows are drawn at the same place each time, also if they begin in the first line of the
// screen, and if more tasks run than the screen has lines. Nothing of them remains in its
// history.
func TestTerminalDoesNotPileUp(t *testing.T) {
	for _, test := range []struct {
		height, tasks uint16
		total         bool
		want          []string // how the lines begin
	}{
		{10, 3, false, []string{"linux/arch0 ", "linux/arch1 ", "linux/arch2 "}},
		{6, 5, false, []string{"linux/arch0 ", "linux/arch1 ", "linux/arch2 ", "linux/arch3 ", "linux/arch4 "}},
		{6, 6, false, []string{"linux/arch0 ", "linux/arch1 ", "linux/arch2 ", "linux/arch3 ", "and 2 more"}},
		{6, 8, true, []string{"linux/arch0 ", "linux/arch1 ", "linux/arch2 ", "and 5 more", "total "}},
		{3, 8, true, []string{"8 running", "total "}},
		{2, 8, true, []string{"total "}},
		{2, 8, false, []string{"8 running"}},
		{1, 8, true, nil},
	} {
		t.Run(fmt.Sprintf("%d in %d, total %t", test.tasks, test.height, test.total), func(t *testing.T) {
			t.Parallel()
			log, stop, s := open(t, 80, test.height, Options{})
			for i := range test.tasks {
				log.InfoContext(t.Context(), "compiling", "platform", fmt.Sprintf("linux/arch%d", i))
			}
			if test.total {
				log.InfoContext(t.Context(), "total", "done", 1, "all", 9)
			}
			time.Sleep(5 * redraw)
			log.InfoContext(t.Context(), "a line")
			s.await(t, "a line")
			time.Sleep(3 * redraw)
			// The screen may be in the middle of a drawing, but what has piled up stays.
			want, got := append([]string{"a line"}, test.want...), trim(s.shown())
			for i := 0; i < 100 && !begin(got, want); i++ {
				time.Sleep(10 * time.Millisecond)
				got = trim(s.shown())
			}
			if !begin(got, want) {
				t.Errorf("want %q:\n%s", want, strings.Join(got, "\n"))
			}
			stop()
			log.InfoContext(t.Context(), "the end")
			s.await(t, "the end")
			if got := trim(s.shown()); !slices.Equal(got, []string{"a line", "the end"}) {
				t.Errorf("after stop:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// begin reports whether the lines begin with these words, each with its own.
func begin(lines, words []string) bool {
	return slices.EqualFunc(lines, words, strings.HasPrefix)
}

// More rows than lines of the screen, written by many goroutines and stopped in the middle,
// cause no error.
func TestTerminalManyAtOnce(t *testing.T) {
	log, stop, s := open(t, 80, 10, Options{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			ctx := WithTask(context.WithoutCancel(t.Context()), Task{Platform: fmt.Sprintf("linux/arch%02d", i)})
			for _, state := range []string{"compiling", "layering", "pushing"} {
				log.InfoContext(ctx, state)
				log.Log(ctx, LevelTransfer, "transfer", "op", "upload", "digest", state, "bytes", i, "size", 100)
			}
			log.InfoContext(ctx, "done", "duration", time.Second)
		})
	}
	wg.Go(stop)
	wg.Wait()
	stop()
	for i := range 40 {
		s.await(t, fmt.Sprintf("linux/arch%02d", i), "done")
	}
}

// The mode auto draws bars only on a capable terminal.
func TestAuto(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal("no pseudo terminal: ", err)
	}
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = slave.Close(), master.Close(), file.Close() })
	for _, test := range []struct {
		w    *os.File
		env  []string
		want string
	}{
		{slave, nil, "tty"},
		{slave, []string{"TERM=xterm", "CI=false"}, "tty"},
		{slave, []string{"TERM=dumb"}, "plain"},
		{slave, []string{"CI=true"}, "plain"},
		{slave, []string{"NO_COLOR=1"}, "tty"},
		{file, nil, "plain"},
	} {
		if got := suits(test.w, env(test.env...)); got != test.want {
			t.Errorf("%s with %q: %s, want %s", test.w.Name(), test.env, got, test.want)
		}
	}
}

func env(list ...string) func(string) string {
	return func(key string) string {
		for _, item := range list {
			if k, v, _ := strings.Cut(item, "="); k == key {
				return v
			}
		}
		return ""
	}
}
