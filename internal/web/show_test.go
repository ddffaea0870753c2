package web

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A text is visible, bounded and valid, whatever it is.
func TestBounded(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a\u202eb": `a\u202eb`, "a\x00b": `a\u0000b`, "\xff": `\ufffd`, "line\nline": "line\nline",
		"https://u:p@h/x": "https://h/x", "\u200f": `\u200f`,
	} {
		if got := bounded(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{strings.Repeat("ä", 5000), strings.Repeat("\u202e", 5000), strings.Repeat("\xff", 5000)} {
		if got := bounded(in); len(got) > maxText || len(got) < maxText-8 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%.8q is %d bytes, ends with %q", in, len(got), got[len(got)-8:])
		}
	}
}

// A name that is cut keeps its begin and its end.
func TestShort(t *testing.T) {
	if got := short("a" + strings.Repeat("ö", 300) + "z"); utf8.RuneCountInString(got) != maxName || !strings.HasPrefix(got, "aö") || !strings.HasSuffix(got, "öz") {
		t.Errorf("%d runes: %s", utf8.RuneCountInString(got), got)
	}
	if got := short(strings.Repeat("x", maxName)); got != strings.Repeat("x", maxName) {
		t.Errorf("a name of %d runes is cut: %s", maxName, got)
	}
	if got := shortDigest("sha256:0123456789abcdef"); got != "sha256:0123456789ab" {
		t.Error(got)
	}
	if got := shortDigest("sha256"); got != "sha256" {
		t.Error(got)
	}
}

// Times and numbers are words for people.
func TestWords(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 2 * time.Hour: "2 h", 25*time.Hour + time.Minute: "1 d 1 h", -90 * time.Second: "1 min 30 s",
	} {
		if got := age(now, now.Add(d)); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "just now", time.Minute: "1 min ago"} {
		if got := ago(now, now.Add(d)); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1\u2009000", 1234567: "1\u2009234\u2009567"} {
		if got := number(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
	if count(1, "tag", "tags") != "1 tag" || count(2, "tag", "tags") != "2 tags" {
		t.Error(count(1, "tag", "tags"), count(2, "tag", "tags"))
	}
}
