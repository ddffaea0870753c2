package main

import "testing"

// A hostile name cannot end its cell, begin another element or link anywhere.
func TestMarkdown(t *testing.T) {
	for in, want := range map[string]string{
		"ghcr.io/acme/app-1":       "ghcr.io/acme/app-1",
		"a|b`c`":                   "a&#124;b&#96;c&#96;",
		"<img src=x>&lt;":          "&#60;img src&#61;x&#62;&#38;lt&#59;",
		"x\n# title\r| y\x1b[2J":   "x &#35; title &#124; y&#91;2J",
		"[a](https://example.com)": "&#91;a&#93;&#40;https&#58;//example.com&#41;",
		"**b** _i_ ~s~ \\| @all":   "&#42;&#42;b&#42;&#42; &#95;i&#95; &#126;s&#126; &#92;&#124; &#64;all",
		"$a$ äöü\u202egpj":         "&#36;a&#36; äöü&#63;gpj",
		"sha256:0f":                "sha256&#58;0f",
	} {
		if got := markdown(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
