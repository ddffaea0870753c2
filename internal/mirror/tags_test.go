package mirror

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
)

func constraint(t *testing.T, text string) *semver.Constraints {
	t.Helper()
	c, err := semver.NewConstraint(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whole compiles a pattern as the configuration does.
func whole(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) }

// Exact tags come first, then the tags that match the patterns, the newest first.
func TestTagsChoose(t *testing.T) {
	signed := "sha256-" + strings.Repeat("a", 64)
	there := []string{
		"latest", "v1.2.0", "v1.10.0", "v1.9.3", "v2.0.0-rc1", "v2.0.0", "1.9", "nightly-9", "nightly-10",
		"v1.9.3-amd64", signed, signed + ".sig",
	}
	for name, c := range map[string]struct {
		rules Tags
		want  string
	}{
		"nothing":               {Tags{}, ""},
		"exact, also if absent": {Tags{Exact: []string{"v3", "v1.2.0"}}, "v3 v1.2.0"},
		"exact before others":   {Tags{Exact: []string{"latest"}, Glob: []string{"v1.1*"}}, "latest v1.10.0"},
		"exact is not repeated": {Tags{Exact: []string{"v1.10.0"}, Glob: []string{"v1.1*"}}, "v1.10.0"},
		"glob":                  {Tags{Glob: []string{"nightly-*", "latest"}}, "nightly-10 nightly-9 latest"},
		"all but referrers":     {Tags{Glob: []string{"*"}}, "v2.0.0 v2.0.0-rc1 v1.10.0 v1.9.3 v1.9.3-amd64 1.9 v1.2.0 nightly-10 nightly-9 latest"},
		"regex is anchored":     {Tags{Regex: []*regexp.Regexp{whole(`latest|v1\.2`)}}, "latest"},
		"regex":                 {Tags{Regex: []*regexp.Regexp{whole(`v\d+\.\d+\.\d+`)}}, "v2.0.0 v1.10.0 v1.9.3 v1.2.0"},
		"semver":                {Tags{Semver: constraint(t, ">=1.9 <2")}, "v1.10.0 v1.9.3 1.9"},
		"prereleases by name":   {Tags{Semver: constraint(t, ">=2.0.0-0")}, "v2.0.0 v2.0.0-rc1"},
		"both":                  {Tags{Semver: constraint(t, ">=1.2"), Glob: []string{"v1.*"}}, "v1.10.0 v1.9.3 v1.2.0"},
		"newest":                {Tags{Newest: 2, Regex: []*regexp.Regexp{whole(`v.*`)}}, "v2.0.0 v2.0.0-rc1"},
		"newest, no versions":   {Tags{Newest: 1, Glob: []string{"nightly-*"}}, "nightly-10"},
		"exclude":               {Tags{Newest: 2, Glob: []string{"v*"}, Exclude: []string{"*-rc*", "*-amd64"}}, "v2.0.0 v1.10.0"},
		"newest beside exact":   {Tags{Newest: 1, Exact: []string{"v1.2.0"}, Semver: constraint(t, "1.x")}, "v1.2.0 v1.10.0"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(c.rules.matching(there), " ")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A rename rule rewrites the tags that it matches.
func TestRename(t *testing.T) {
	e := Entry{Rename: []Rename{{Match: whole(`v(\d.*)-alpine`), To: "$1"}, {Match: whole(`v(.*)`), To: "release-$1"}}}
	for tag, want := range map[string]string{"v1.2-alpine": "1.2", "v3": "release-3", "latest": "latest"} {
		if got := e.rename(tag); got != want {
			t.Errorf("%s becomes %s, want %s", tag, got, want)
		}
	}
}

// A template may use the fields of Names, but no other fields, functions or conditions.
func TestNames(t *testing.T) {
	n := Names{Registry: "quay.io", Repository: "coreos/flannel", Name: "flannel", Tag: "1", SourceTag: "v1", Date: "2026-11-21"}
	got, err := n.Expand("local/{{.Registry}}/{{.Repository}}/{{ .Name }}:{{.Tag}}-{{.SourceTag}}-{{.Date}}")
	if want := "local/quay.io/coreos/flannel/flannel:1-v1-2026-11-21"; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"{{.Nope}}", "{{if .Tag}}x{{end}}", `{{printf "x"}}`, "{{", "{{.Tag | len}}", "{{$x := .Tag}}"} {
		if got, err := n.Expand(bad); err == nil {
			t.Errorf("%s becomes %q", bad, got)
		}
	}
}

// The fields of a template depend on the image that a reference names, not on its spelling.
func TestNamesOfSources(t *testing.T) {
	hub := [4]string{"docker.io", "library/alpine", "alpine", "3"}
	for text, want := range map[string][4]string{
		"quay.io/coreos/flannel:v1":            {"quay.io", "coreos/flannel", "flannel", "v1"},
		"localhost:5000/app:v1":                {"localhost-5000", "app", "app", "v1"},
		"[::1]:5000/a/b:v1":                    {"[--1]-5000", "a/b", "b", "v1"},
		"alpine:3":                             hub,
		"library/alpine:3":                     hub,
		"docker.io/alpine:3":                   hub,
		"docker.io/library/alpine:3":           hub,
		"index.docker.io/library/alpine:3":     hub,
		"index.docker.io/alpine:3":             hub,
		"acme/app:v1":                          {"docker.io", "acme/app", "app", "v1"},
		"local docker.io/library/alpine:3":     hub,
		"local ghcr.io/acme/app:v1":            {"ghcr.io", "acme/app", "app", "v1"},
		"local app:v1":                         {"", "app", "app", "v1"},
		"local v1":                             {"", "", "", "v1"},
		"local ghcr.io/../../app:v1":           {"", "", "", "v1"},
		"local an image, such as it is:latest": {"", "", "", "latest"},
	} {
		text, isLocal := strings.CutPrefix(text, "local ")
		at := imageref.Cut(text)
		if isLocal {
			at.Repository, at.Tag = places.CutName(text)
		}
		n := new(Entry).names(at, isLocal, at.Tag, time.Time{})
		if got := [4]string{n.Registry, n.Repository, n.Name, n.Tag}; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		for i, field := range []string{"Registry", "Repository", "Name", "Tag"} {
			got, err := n.Fill("x/{{ ." + field + " }}")
			if (err == nil) != (want[i] != "") || err == nil && got != "x/"+want[i] {
				t.Errorf("%s: {{.%s}} is %s, %v", text, field, got, err)
			}
		}
	}
}

// OS, ARCH and ARCHVARIANT in a template are replaced by those of the platform.
func TestFill(t *testing.T) {
	for _, c := range []struct{ template, typed, arch, want string }{
		{"x/flannel:{{.Tag}}-ARCH", "linux/arm64", "", "x/flannel:{{.Tag}}-arm64"},
		{"x/app-OS-ARCHVARIANT:v1", "linux/arm/v6", "", "x/app-linux-armv6:v1"},
		{"x/app-OS-ARCHVARIANT:v1", "linux/arm/v6", "armhf", "x/app-linux-armhf:v1"},
		{"x/app-ARCH:v1", "linux/amd64", "x86_64", "x/app-x86_64:v1"},
	} {
		if got := (Platform{Typed: c.typed, Arch: c.arch}).fill(c.template); got != c.want {
			t.Errorf("%s for %s: %s, want %s", c.template, c.typed, got, c.want)
		}
	}
}
