package stream_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/stream"
)

func TestAliveEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var out strings.Builder
	r, w := stream.ReadAlive(ctx, strings.NewReader("ab")), stream.WriteAlive(ctx, &out)
	if n, err := io.CopyN(w, r, 1); n != 1 || err != nil {
		t.Fatalf("before the end: %d, %v", n, err)
	}
	cause := errors.New("cause")
	cancel(cause)
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, cause) {
		t.Errorf("read after the end: %d, %v", n, err)
	}
	if n, err := w.Write([]byte("b")); n != 0 || !errors.Is(err, cause) {
		t.Errorf("write after the end: %d, %v", n, err)
	}
	if out.String() != "a" {
		t.Errorf("wrote %q", out.String())
	}
}

func TestMapErrorKeepsTheEnd(t *testing.T) {
	mapped := errors.New("mapped")
	to := func(error) error { return mapped }
	if b, err := io.ReadAll(stream.MapError(strings.NewReader("ab"), to)); string(b) != "ab" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	broken := stream.Reader(func(p []byte) (int, error) { return copy(p, "a"), io.ErrUnexpectedEOF })
	if b, err := io.ReadAll(stream.MapError(broken, to)); string(b) != "a" || !errors.Is(err, mapped) {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestWithClose(t *testing.T) {
	closed := errors.New("closed")
	r := stream.WithClose(strings.NewReader("ab"), func() error { return closed })
	if b, err := io.ReadAll(r); string(b) != "ab" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if err := r.Close(); !errors.Is(err, closed) {
		t.Errorf("Close: %v", err)
	}
}

func TestHeadKeepsTheStart(t *testing.T) {
	h := stream.Head{Max: 3}
	for _, step := range []struct {
		write, kept string
		cut         bool
	}{{"ab", "ab", false}, {"c", "abc", false}, {"", "abc", false}, {"d", "abc", true}, {"", "abc", true}} {
		if n, err := h.Write([]byte(step.write)); n != len(step.write) || err != nil {
			t.Errorf("Write(%q) = %d, %v", step.write, n, err)
		}
		if h.String() != step.kept || h.Cut() != step.cut {
			t.Errorf("after %q: %q, %v", step.write, h.String(), h.Cut())
		}
	}
}
