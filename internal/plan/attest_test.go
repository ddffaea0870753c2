package plan

import "testing"

// All forms of a git remote give the address that other tools write into provenance.
func TestAddressOf(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/acme/app.git":      "https://github.com/acme/app",
		"https://github.com/acme/app":          "https://github.com/acme/app",
		"git@github.com:acme/app.git":          "https://github.com/acme/app",
		"github.com:acme/app.git":              "https://github.com/acme/app",
		"ssh://git@example.com:2222/a/b/c.git": "https://example.com:2222/a/b/c",
		"file:///srv/git/app.git":              "file:///srv/git/app",
		"/srv/git/app":                         "/srv/git/app",
	} {
		if got := addressOf(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
