package lockfile

import (
	"slices"
	"strings"
	"testing"
)

var sum = strings.Repeat("0123456789abcdef", 4)

// The form of the file is fixed: tools change it by patterns.
func TestFormat(t *testing.T) {
	lines := []Line{
		{ID: "b", Platform: "linux/amd64", SHA256: sum},
		{ID: "a", Platform: "linux/arm64", Repo: "acme/a", Version: "v1.0.0", SHA256: sum},
		{ID: "a", Platform: "linux/amd64", Repo: "acme/a", Version: "v1.0.0", SHA256: sum},
	}
	want := `{"lock": 1, "prebuilt": [
{"id": "a", "platform": "linux/amd64", "repo": "acme/a", "version": "v1.0.0", "sha256": "` + sum + `"},
{"id": "a", "platform": "linux/arm64", "repo": "acme/a", "version": "v1.0.0", "sha256": "` + sum + `"},
{"id": "b", "platform": "linux/amd64", "sha256": "` + sum + `"}
]}
`
	got, err := Format(File{Prebuilt: lines})
	if err != nil || string(got) != want {
		t.Errorf("%s%v\nwant %s", got, err, want)
	}
	again, err := Parse(got)
	if err != nil || !slices.Equal(again.Prebuilt, sorted(lines)) {
		t.Errorf("%v, %v", again, err)
	}
	if empty, err := Format(File{}); err != nil || string(empty) != "{\"lock\": 1, \"prebuilt\": [\n]}\n" {
		t.Errorf("%q, %v", empty, err)
	}
}

// Packages have sections of their own, which a lock without packages lacks.
func TestFormatPackages(t *testing.T) {
	f := File{
		Resolved: []Resolution{{"a", "arm64", "trixie", "20260801T000000Z", "main", "b c"}, {"", "amd64", "trixie", "", "main", "b"}},
		Packages: []Package{{"a", "arm64", "c", "1:2.0-1+b1", "pool/c.deb", sum}, {"a", "arm64", "b", "1.0", "pool/b.deb", sum}},
	}
	want := `{"lock": 1, "prebuilt": [
], "debian": [
{"id": "", "architecture": "amd64", "suite": "trixie", "components": "main", "install": "b"},
{"id": "a", "architecture": "arm64", "suite": "trixie", "snapshot": "20260801T000000Z", "components": "main", "install": "b c"}
], "packages": [
{"id": "a", "architecture": "arm64", "package": "b", "version": "1.0", "path": "pool/b.deb", "sha256": "` + sum + `"},
{"id": "a", "architecture": "arm64", "package": "c", "version": "1:2.0-1+b1", "path": "pool/c.deb", "sha256": "` + sum + `"}
]}
`
	got, err := Format(f)
	if err != nil || string(got) != want {
		t.Errorf("%s%v\nwant %s", got, err, want)
	}
	again, err := Parse(got)
	if err != nil || !slices.Equal(again.Resolved, sorted(f.Resolved)) || !slices.Equal(again.Packages, sorted(f.Packages)) {
		t.Errorf("%v, %v", again, err)
	}
	for from, to := range map[string]string{`"c"`: `"b"`, `"version": "1.0", "path": "pool/b.deb", "sha256": "0`: `"version": "1.0", "path": "pool/b.deb", "sha256": "x`} {
		if _, err := Parse([]byte(strings.Replace(want, from, to, 1))); err == nil {
			t.Errorf("%s in place of %s is no error", to, from)
		}
	}
}

// What is wrong with a file is an error that says what to do.
func TestBadFiles(t *testing.T) {
	line := `{"id": "a", "platform": "linux/amd64", "sha256": "` + sum + `"}`
	for content, want := range map[string]string{
		"":      "",
		" \n":   "",
		"[]":    "mabuild.lock: json: cannot unmarshal",
		"{":     "mabuild.lock: unexpected EOF",
		"<html": "mabuild.lock: invalid character",
		`{"lock": 2, "prebuilt": 1, "packages": []}`:           "mabuild.lock: has version 2, and this mabuild reads version 1",
		`{"prebuilt": []}`:                                     "mabuild.lock: has version 0",
		`{"lock": 1, "others": []}`:                            `mabuild.lock: json: unknown field "others"`,
		`{"lock": 1} {}`:                                       "mabuild.lock: there is text after the end",
		"{\"lock\": 1, \"prebuilt\": [\n<<<<<<< HEAD\n]}":      "mabuild.lock: line 2 is a conflict marker of git",
		"{\"lock\": 1,\n=======\n}":                            "mabuild.lock: line 2 is a conflict marker of git",
		`{"lock": 1, "prebuilt": [` + line + "," + line + "]}": "mabuild.lock: has two lines for linux/amd64 of a",
		`{"lock": 1, "prebuilt": [` + strings.Replace(line, "0123", "0X23", 1) + "]}":         "mabuild.lock: linux/amd64 of a: \"0X23",
		`{"lock": 1, "prebuilt": [` + strings.Replace(line, `"id": "a"`, `"id": 1`, 1) + "]}": "mabuild.lock: json: cannot unmarshal",
		strings.Repeat(" ", MaxFile+1): "mabuild.lock: is larger than 4194304 bytes",
	} {
		_, err := Parse([]byte(content))
		if (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", content, err, want)
		}
	}
}

// A file that can be read is written in a form that reads as the same lines.
func FuzzParse(f *testing.F) {
	content, err := Format(File{
		[]Line{{ID: "a\"\\,:", Platform: "linux/amd64", Version: "v1", SHA256: sum}},
		[]Resolution{{"a", "amd64", "trixie", "", "main", "iptables"}},
		[]Package{{"a", "amd64", "iptables", "1:1-2", "pool/i.deb", sum}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"lock": 1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse(content)
		if err != nil {
			return
		}
		text, err := Format(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil || !slices.Equal(again.Prebuilt, file.Prebuilt) || !slices.Equal(again.Resolved, file.Resolved) || !slices.Equal(again.Packages, file.Packages) {
			t.Errorf("%s: %v, %v; want %v", text, again, err, file)
		}
	})
}
