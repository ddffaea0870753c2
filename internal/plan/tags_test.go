package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/build"
)

// The value in a template becomes part of a tag, whatever it contains.
func TestFillTag(t *testing.T) {
	for _, test := range []struct{ text, branch, want string }{
		{"v1", "x", "|v1"},
		{"{{.Branch}}", "main", "|main"},
		{"b-{{.Branch}}", "main", "|b-main"},
		{"ghcr.io/a/b:{{.Branch}}", "main", "ghcr.io/a/b|main"},
		{"ghcr.io:443/a/b:v-{{.Branch}}.x", "main", "ghcr.io:443/a/b|v-main.x"},
		{"ghcr.io/a/b", "main", "ghcr.io/a/b|"},
		{"localhost:5000/b", "main", "localhost:5000/b|"},
		{"app:v1", "main", "app|v1"},
		{"{{tag .Branch}}", "feature/log+in", "|feature-log-in"},
		{"{{.Branch | tag}}", "-.v1.2/x", "|v1.2-x"},
		{"{{slug .Branch}}", "Feature/1.2", "|feature-1-2"},
		{"{{tag .Branch}}", strings.Repeat("x", 300), "|" + strings.Repeat("x", 128)},
		{`{{tag "a/b:c"}}`, "x", "is not a valid template"},
		{`{{"evil.example/x"}}`, "x", "is not a valid template"},
		{"{{.Branch}}", "feature/login", "not a valid tag"},
		{"{{.Branch}}", "127.0.0.1/evil/app", "not a valid tag"},
		{"{{.Branch}}", "evil:v1", "not a valid tag"},
		{"v1{{.Branch}}", "@sha256:0", "not a valid tag"},
		{"a/b@sha256:0", "x", "a/b@sha256|0"}, // which the whole reference is refused for
		{"{{.Branch}}", strings.Repeat("x", 129), "not a valid tag"},
		{"{{.Branch}}/app:v1", "evil.example", "only after the colon"},
		{"ghcr.io/{{.Branch}}", "evil", "only after the colon"},
		{"ghcr.io/{{.Branch}}:v1", "evil", "only after the colon"},
		{"{{.Branch}}:v1", "evil", "only after the colon"},
		{"ghcr.io/a/b:", "x", "is empty"},
		{"{{.Branch}}", "", ".Branch is empty: none is checked out"},
		{"{{.Nothing}}", "x", "unknown value .Nothing"},
		{"{{printf .Branch}}", "x", "is not a valid template"},
	} {
		v := build.Vars{Branch: test.branch, Why: map[string]error{"Branch": errors.New("none is checked out")}}
		repo, tag, err := fillTag(v, test.text)
		got := repo + "|" + tag
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s of %s: %s, want %s", test.text, test.branch, got, test.want)
		}
	}
}

// FuzzFillTag: no branch changes the repository that a push goes to.
func FuzzFillTag(f *testing.F) {
	f.Add("feature/login", "ghcr.io/a/b:")
	f.Add("127.0.0.1/evil:v1", "")
	f.Add("x@sha256:0", "b-")
	f.Fuzz(func(t *testing.T, branch, before string) {
		if strings.ContainsAny(before, "{}\"`\\") {
			return
		}
		repo, tag, err := fillTag(build.Vars{Branch: branch}, before+"{{.Branch}}")
		if err != nil {
			return
		}
		if at := strings.LastIndexAny(before, ":/"); at >= 0 && repo != before[:at] || at < 0 && repo != "" {
			t.Errorf("%q and %q: repository %q", before, branch, repo)
		}
		if strings.ContainsAny(tag, "/") {
			t.Errorf("%q and %q: tag %q", before, branch, tag)
		}
	})
}
