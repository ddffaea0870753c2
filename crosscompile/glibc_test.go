package crosscompile_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mabuild/mabuild/crosscompile"
)

// GlibcOf finds the highest symbol version of glibc in any file with the magic number of
// ELF, whatever its headers say, and with few allocations.
func TestGlibcOf(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"GLIBC_2.34\x00":               "",
		"\x7fELF":                      "",
		"\x7fELF\x00GLIBC_2.34\x00":    "2.34",
		"\x7fELF\x00GLIBC_2.34":        "",
		"\x7fELF\x00XGLIBC_2.34\x00":   "",
		"\x7fELF\x00GLIBC_PRIVATE\x00": "",
		"\x7fELF\x00GLIBC_2.9\x00GLIBC_2.10\x00GLIBC_2.4\x00":     "2.10",
		"\x7fELF\x00GLIBC_2.34\x00GLIBC_ABI_DT_RELR\x00":          "2.36",
		"\x7fELF\x00GLIBC_" + strings.Repeat("9", 1000) + "\x00":  "",
		"\x7fELF\x00" + strings.Repeat("G", 1000) + "LIBC_2\x00a": "",
	} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			if got, err := crosscompile.GlibcOf(r); got != want || err != nil {
				t.Errorf("%.40q: %s, %v, want %s", text, got, err, want)
			}
		}
	}
	large := io.MultiReader(strings.NewReader("\x7fELF\x00"), io.LimitReader(zeros{}, 64<<20), strings.NewReader("GLIBC_2.41\x00"))
	if allocs := testing.AllocsPerRun(1, func() { _, _ = crosscompile.GlibcOf(large) }); allocs > 100 {
		t.Errorf("%v allocations", allocs)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
