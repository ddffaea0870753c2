package elf

import (
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
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
			if got, err := GlibcOf(r); got != want || err != nil {
				t.Errorf("%.40q: %s, %v, want %s", text, got, err, want)
			}
		}
	}
	large := io.MultiReader(strings.NewReader("\x7fELF\x00"), io.LimitReader(zeros{}, 64<<20), strings.NewReader("GLIBC_2.41\x00"))
	if allocs := testing.AllocsPerRun(1, func() { _, _ = GlibcOf(large) }); allocs > 100 {
		t.Errorf("%v allocations", allocs)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// highestGlibc compares versions by number and ignores names that are no version of glibc.
func TestHighestGlibc(t *testing.T) {
	for want, names := range map[string][]string{
		"":      {"GLIBC_PRIVATE", "GCC_3.0", "GLIBCXX_3.4.30"},
		"2.34":  {"GLIBC_2.34", "GLIBC_2.4", "GLIBC_2.2.5", "GLIBC_PRIVATE"},
		"2.36":  {"GLIBC_2.34", "GLIBC_ABI_DT_RELR"},
		"2.2.5": {"GLIBC_2.2", "GLIBC_2.2.5"},
		"2.10":  {"GLIBC_2.10", "GLIBC_2.9"},
	} {
		if got := highestGlibc(names); got != want {
			t.Errorf("%v: %q, want %q", names, got, want)
		}
	}
}

// ReadLinkage returns an empty result for a file that is not ELF.
func TestReadLinkageOfWhatIsNoELF(t *testing.T) {
	for _, content := range []string{"MZ" + strings.Repeat("\x00", 64), "", "#!/bin/sh\n"} {
		if l, err := ReadLinkage(strings.NewReader(content)); err != nil || l.Interpreter != "" {
			t.Errorf("%q: %+v, %v", content, l, err)
		}
	}
}

// The header of each architecture names it again.
func TestArchitecture(t *testing.T) {
	for name := range machines {
		if got := Architecture(Header(name)); got != name {
			t.Errorf("%s: %s", name, got)
		}
	}
	if runtime.GOOS == "linux" {
		self, err := os.ReadFile("/proc/self/exe")
		if got := Architecture(self); err != nil || got != runtime.GOARCH {
			t.Errorf("this program: %s, %v", got, err)
		}
	}
	for _, head := range []string{"", "\x7fELF", "MZ" + string(Header("amd64"))[2:], string(make([]byte, HeaderSize))} {
		if got := Architecture([]byte(head)); got != "" {
			t.Errorf("%q: %s", head, got)
		}
	}
	if Header("wasm") != nil {
		t.Error("wasm has an ELF header")
	}
}
