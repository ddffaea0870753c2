package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Line returns one printable line, within a limit.
func TestLine(t *testing.T) {
	for _, test := range []struct {
		in, want string
		limit    int
	}{
		{in: "", want: ""},
		{in: " a \t\n b\r\nc\x0b", want: "a b c"},
		{in: "\x1b[31mred\x1b]0;title\x07 \u009b2J", want: "[31mred]0;title 2J"},
		{in: "\u202eevil\u2066x", want: "?evil?x"},
		{in: "a\u200bb\ufeffc", want: "a?b?c"},
		{in: "\xff\xfe(", want: "??("},
		{in: "see https://me:secret@host/x", want: "see https://host/x"},
		{in: "see https://me:sec\x00r\u200bet@host/x", want: "see https://host/x"},
		{in: "abcdefgh", limit: 8, want: "abcdefgh"},
		{in: "abcdefghi", limit: 8, want: "abcde…"},
		{in: "ééééé", limit: 8, want: "éé…"},
		{in: "abcd fghi", limit: 8, want: "abcd…"},
	} {
		got := Line(test.in, test.limit)
		if got != test.want {
			t.Errorf("Line(%q, %d) = %q, want %q", test.in, test.limit, got, test.want)
		}
	}
}

// Lines escapes control characters but keeps line breaks.
func TestLines(t *testing.T) {
	if got, want := Lines("a\tb\r\n\x1b[1mc\u202e\n\n "), "a\tb\n[1mc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Escape shows control characters as escapes.
func TestEscape(t *testing.T) {
	if got, want := Escape("a\nb\x1b\u202e", "\n"), "a\nb\\u001b\\u202e"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Escape("a\nb", ""), `a\u000ab`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// No output can control a terminal, and every limit holds.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "a\r\nb", "\u009b31m", "\u202egnp.exe", "\xff\xfe", "x\u2028y", "\t", "a\x1b\u202e\xff b", "x://a:b\x00@c", "00:\r@0"} {
		f.Add(s, 5)
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		for name, got := range map[string]string{"Line": Line(s, limit), "Lines": strings.NewReplacer("\n", "", "\t", "").Replace(Lines(s)), "Escape": Escape(s, "")} {
			if strings.ContainsFunc(got, Steers) || !utf8.ValidString(got) {
				t.Errorf("%s(%q) = %q", name, s, got)
			}
		}
		if one, many := Line(s, 0), Lines(s); Line(one, 0) != one || Lines(many) != many {
			t.Errorf("%q: %q and %q change when escaped again", s, one, many)
		}
		if got := Line(s, limit); limit > 4 && len(got) > limit || strings.Contains(got, "  ") {
			t.Errorf("Line(%q, %d) = %q", s, limit, got)
		}
	})
}
