package verify

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Correct content is read completely, in any portions. Wrong content is an error, and is
// never returned completely if its size is known.
func TestReader(t *testing.T) {
	const right = "the right bytes"
	digest, size, err := v1.SHA256(strings.NewReader(right))
	if err != nil {
		t.Fatal(err)
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":       func(r io.Reader) io.Reader { return r },
		"byte by byte":  iotest.OneByteReader,
		"half":          iotest.HalfReader,
		"with the end":  iotest.DataErrReader,
		"in size bytes": func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, size), r) },
	} {
		for _, content := range []string{right, right[1:], right[:size-1], right + "x", "The right bytes", ""} {
			for _, known := range []int64{size, -1} {
				r, err := NewReader(wrap(strings.NewReader(content)), digest, known)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				switch {
				case content == right && (err != nil || string(got) != right):
					t.Errorf("%s, size %d: %q, %v", name, known, got, err)
				case content != right && !errors.Is(err, ErrMismatch):
					t.Errorf("%s, size %d: %q is accepted: %v", name, known, content, err)
				case content != right && known >= 0 && int64(len(got)) >= size:
					t.Errorf("%s: all of %q was returned", name, content)
				}
			}
		}
	}
	broken := errors.New("broken")
	r, err := NewReader(io.MultiReader(bytes.NewReader([]byte(right)), iotest.ErrReader(broken)), digest, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, ErrMismatch) {
		t.Errorf("got %v", err)
	}
	if _, err := NewReader(nil, v1.Hash{Algorithm: "md5"}, 0); err == nil {
		t.Error("md5 is accepted")
	}
}
