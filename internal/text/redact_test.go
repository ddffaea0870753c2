package text

import (
	"strings"
	"testing"
)

// Redact removes passwords from URLs and references in a text.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`"https://me:hunter2@ghcr.io/acme/app:v1" has a scheme`:   `"https://ghcr.io/acme/app:v1" has a scheme`,
		"http://token@ghcr.io/x":                                  "http://ghcr.io/x",
		"docker://me:a@b@ghcr.io/x?y=z":                           "docker://ghcr.io/x?y=z",
		"me:hunter2@ghcr.io/acme/app:v1":                          "ghcr.io/acme/app:v1",
		`source: "me:hunter2@ghcr.io:443/acme" is none`:           `source: "ghcr.io:443/acme" is none`,
		"MABUILD_REPO=me:hunter2@ghcr.io/acme":                    "MABUILD_REPO=ghcr.io/acme",
		"lower case: me:hunter2@ghcr.io/a and me:again@quay.io/b": "lower case: ghcr.io/a and quay.io/b",
		"app:v1@sha256:0123":                                      "app:v1@sha256:0123",
		"ghcr.io/acme/app:v1@sha256:0123":                         "ghcr.io/acme/app:v1@sha256:0123",
		"https://ghcr.io/acme/app:v1@sha256:0123":                 "https://ghcr.io/acme/app:v1@sha256:0123",
		"localhost:5000/app@sha512:0123":                          "localhost:5000/app@sha512:0123",
		"golang.org/x/mod/gosumcheck@v0.42.0":                     "golang.org/x/mod/gosumcheck@v0.42.0",
		"package example.com/x@v1.0.0: no such":                   "package example.com/x@v1.0.0: no such",
		"git@github.com:acme/app":                                 "git@github.com:acme/app",
		"nothing":                                                 "nothing",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzRedact checks that a password before a host is never shown, and that the rest stays.
func FuzzRedact(f *testing.F) {
	f.Add("https://", "hunter2", "/acme/app:v1")
	f.Add("", "a@b:c", "/x")
	f.Fuzz(func(t *testing.T, scheme, password, rest string) {
		if scheme != "" && scheme != "https://" || password == "" || strings.ContainsAny(password, " \t\r\n\v\f/?#\"'<>\u0085\u00a0") || strings.ContainsAny(rest, "@") {
			return
		}
		const mark = "s3cr3t"
		in := scheme + "user:" + mark + password + "@ghcr.io/" + rest
		if out := Redact(in); strings.Contains(out, mark) || !strings.Contains(out, "ghcr.io/") {
			t.Errorf("%q: %q", in, out)
		}
	})
}
