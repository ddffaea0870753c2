package guard_test

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/guard"
)

// Report turns a panic into an error that asks for a report, and logs its stack.
func TestReport(t *testing.T) {
	var log strings.Builder
	handler := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})
	run := func(work func() error) error {
		log.Reset()
		return guard.Report(t.Context(), slog.New(handler), "linux/amd64", work)
	}
	if err := run(func() error { return nil }); err != nil || log.Len() > 0 {
		t.Errorf("nothing: %v, %s", err, &log)
	}
	if err := run(func() error { return io.EOF }); err != io.EOF || log.Len() > 0 { //nolint:errorlint // just that
		t.Errorf("an error: %v, %s", err, &log)
	}
	err := run(func() error { panic("boom") })
	var p *guard.Panic
	if !errors.As(err, &p) || err.Error() != "internal error: boom" || !strings.Contains(p.Hint(), "report it") {
		t.Errorf("a panic: %v", err)
	}
	for _, want := range []string{"at=linux/amd64", "guard_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not contain %q: %s", want, &log)
		}
	}
	// The stack of the first panic is kept if the error passes through another goroutine
	// and panics again.
	inner := guard.Do(func() error { panic(io.ErrUnexpectedEOF) })
	err = guard.Do(func() error { panic(inner) })
	if err != inner || !errors.Is(err, io.ErrUnexpectedEOF) { //nolint:errorlint // the very same
		t.Errorf("passed on: %v", err)
	}
}
