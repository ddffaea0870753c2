// Package stream adds one property to a reader or writer: it ends with a context, its
// errors are replaced, it closes something else, it keeps only so much. The adapters
// embed nothing, so that io.Copy finds no method of the inner value that goes around
// them. None is safe for concurrent use unless the inner value is.
package stream

import (
	"bytes"
	"context"
	"io"
)

// A Reader is a function that is an io.Reader.
type Reader func(p []byte) (int, error)

// Read calls r.
func (r Reader) Read(p []byte) (int, error) { return r(p) }

// A Writer is a function that is an io.Writer.
type Writer func(p []byte) (int, error)

// Write calls w.
func (w Writer) Write(p []byte) (int, error) { return w(p) }

// ReadAlive reads from r until ctx ends. The error is the cause of ctx then. A read that
// waits is not interrupted.
func ReadAlive(ctx context.Context, r io.Reader) Reader {
	return func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	}
}

// WriteAlive writes to w until ctx ends. The error is the cause of ctx then. A write that
// waits is not interrupted.
func WriteAlive(ctx context.Context, w io.Writer) Writer {
	return func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return w.Write(p)
	}
}

// MapError reads from r and returns f of each of its errors except io.EOF. f gets no nil,
// and must return none.
func MapError(r io.Reader, f func(error) error) Reader {
	return func(p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil && err != io.EOF { //nolint:errorlint // a wrapped io.EOF is not the end
			err = f(err)
		}
		return n, err
	}
}

// readCloser reads from one value and closes another.
type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// WithClose reads from r; Close calls end. A [Reader] of r hides its other methods.
func WithClose(r io.Reader, end func() error) io.ReadCloser { return readCloser{r, end} }

// A Head keeps the first Max bytes that are written to it and accepts the rest, so that a
// program that prints without end neither blocks nor uses memory.
type Head struct {
	Max int // in bytes

	kept    bytes.Buffer
	dropped bool
}

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	n := min(len(p), h.Max-h.kept.Len())
	h.kept.Write(p[:n])
	h.dropped = h.dropped || n < len(p)
	return len(p), nil
}

// String returns what was kept.
func (h *Head) String() string { return h.kept.String() }

// Cut reports whether more than Max bytes were written.
func (h *Head) Cut() bool { return h.dropped }

// A Tail keeps the last Max bytes that are written to it and drops what was before, so that a
// program that prints without end uses no memory.
type Tail struct {
	Max int // in bytes

	kept []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-t.Max):]...)
	if over := len(t.kept) - t.Max; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *Tail) String() string { return string(t.kept) }
