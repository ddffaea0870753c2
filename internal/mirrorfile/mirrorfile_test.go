package mirrorfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/mirror"
)

// mirrors are inputs of Read and the expected error: empty for an accepted file, else
// the complete text.
var mirrors = []struct{ name, in, want string }{
	{"least", "entries: [{source: 'a.b/c:v1', target: d.e/c}]\n", ""},
	{"tags as text", "entries: [{source: a.b/c, target: d.e/c, tags: v1}]\n", ""},
	{"digest", "entries: [{source: 'a.b/c@sha256:" + zeros + "', target: d.e/c}]\n", ""},
	{"one of several", "entries: [{source: a.b/c, target: 'd.e/c:stable', tags: {newest: 1}}]\n", ""},
	{"all but", "entries: [{source: a.b/c, target: d.e/c, tags: {exclude: latest}}]\n", ""},
	{"air gap", "entries: [{source: 'a.b/c:v1', target: oci-archive:c.tar}, {source: oci-archive:c.tar, target: 'd.e/c:v1'}]\n", ""},
	{"every tag into a layout", "entries: [{source: a.b/c, target: 'oci:out', tags: {newest: 2}}]\n", ""},
	{"glob of repositories", "entries: [{source: 'a.b/c/*', target: 'd.e/{{.Name}}', tags: {newest: 2}}]\n", ""},
	{"program of a version", "entries: [{go: example.com/m@v1.2.3, target: d.e/m}]\n", ""},
	{"program with rules", "entries: [{go: example.com/m, target: d.e/m, tags: {newest: 2}}]\n", ""},
	{"digest and tag", "entries: [{source: 'a.b/c:v1@sha256:" + zeros + "', target: 'd.e/c:{{.Tag}}'}]\n", ""},
	{"days", "min_age: 1w2d3h\nentries: [{source: 'a.b/c:v1', target: d.e/c}]\n", ""},
	{"cron by name", "cron: '@daily'\nentries: [{source: 'a.b/c:v1', target: d.e/c}]\n", ""},
	{"replacement", "entries: [{source: 'a.b/c:v1', target: d.e/c, rename: [{match: 'v(?P<n>.*)', to: '${1}x$n$$'}]}]\n", ""},

	{"nothing", "", "f: entries: missing; it lists the images to copy"},
	{"unknown key", "evry: 6h\nentries:\n- sorce: a\n  tags: {globs: [a]}\n", "f:1: evry: unknown key; did you mean every?\nf:3: entries[0].sorce: unknown key; did you mean source?\nf:4: entries[0].tags.globs: unknown key; did you mean glob?"},
	{"words of others", "images:\n- a\nentries:\n- from: a\n  to: b\n  schedule: 1h\n  tags: {latest: 1}\n- a.b/c:v1\n", "f:1: images: unknown key; did you mean entries?\nf:4: entries[0].from: unknown key; did you mean source?\nf:5: entries[0].to: unknown key; did you mean target?\nf:6: entries[0].schedule: unknown key; did you mean every?\nf:7: entries[0].tags.latest: unknown key; did you mean newest?\nf:8: entries[1]: must be a mapping of keys to values; write {source: a.b/c:v1}"},
	{"a registry", "entries:\n- source: a.b:5000\n  target: d.e/c\n  tags: [v1]\n", `f:2: entries[0].source: "a.b:5000" is a registry; name a repository in it`},
	{"no source", "entries:\n- target: d.e/c\n", "f:2: entries[0]: the source is missing; write source, template, images or go"},
	{"two sources", "entries:\n- source: a.b/c\n  template: a.b/c-ARCH:v1\n  target: d.e/c\n  tags: v1\n", "f:3: entries[0].template: cannot be combined with source; use only one of them"},
	{"no target", "entries:\n- name: a\n  source: a.b/c:v1\n", "f:2: entries[0]: the target is missing"},
	{"no tags", "entries:\n- source: a.b/c\n  target: d.e/c\n", "f:2: entries[0].tags: the entry selects no tags; write tags: [v1] or tags: {newest: 3}"},
	{"tags that select nothing", "entries:\n- source: a.b/c\n  target: d.e/c\n  tags: []\n", "f:4: entries[0].tags: the rules select nothing"},
	{"tags twice", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n  tags: v2\n", "f:4: entries[0].tags: cannot be used: the source has a tag"},
	{"tags of a digest", "entries:\n- source: a.b/c@sha256:" + zeros + "\n  target: d.e/c\n  tags: v2\n", "f:4: entries[0].tags: cannot be used: the source names a digest"},
	{"tags of a local place", "entries:\n- source: oci:c\n  target: d.e/c\n  tags: v2\n", "f:4: entries[0].tags: cannot be used: the source is local and has no list of tags"},
	{"tags of a version", "entries:\n- go: example.com/m@v1.2.3\n  target: d.e/m\n  tags: v2\n", "f:4: entries[0].tags: cannot be used: the program has a version"},
	{"tags that no template uses", "entries:\n- template: a.b/c-ARCH:v1\n  target: d.e/c\n  tags: v2\n  platforms: linux/arm\n", "f:4: entries[0].tags: cannot be used: no image has {{.Tag}} in its name"},
	{"no tag", "entries:\n- source: a.b/c\n  target: d.e/c\n  tags:\n  - v1\n  - v 2\n  - v1*\n", "f:6: entries[0].tags.exact: \"v 2\" is not a tag: at most 128 letters, digits and _ . -\nf:7: entries[0].tags.exact: \"v1*\" is not a tag; write {glob: \"v1*\"}"},
	{"bad patterns", "entries:\n- source: a.b/c\n  target: d.e/c\n  tags:\n    glob: 'v[1'\n    regex: 'v(1'\n    semver: newest\n    newest: -1\n", "f:5: entries[0].tags.glob: \"v[1\" is not a glob\n" +
		"f:6: entries[0].tags.regex: \"v(1\" is not a regular expression: missing closing ): `v(1`\nf:7: entries[0].tags.semver: \"newest\" is not a range of versions such as >=1.2 <2 or ~1.4\nf:8: entries[0].tags.newest: must be a number, 0 or more"},
	{"halves", "entries:\n- source: a.b/c\n  target: d.e/c\n  tags: {regex: 'a)|(b'}\n", "f:4: entries[0].tags.regex: \"a)|(b\" is not a regular expression: unexpected ): `a)|(b`"},
	{"bad times", "cron: 6h\nevery: daily\nentries:\n- source: a.b/c:v1\n  target: d.e/c\n  cron: '0 0 31 2 *'\n  jitter: -1s\n  min_age: 3days\n", "f:1: cron: \"6h\" is not a cron schedule: minute hour day month weekday, or a name such as @daily\nf:2: every: must be a duration such as 90s, 1h30m or 3d\n" +
		"f:6: entries[0].cron: \"0 0 31 2 *\" never occurs\nf:7: entries[0].jitter: must be a duration such as 90s, 1h30m or 3d\nf:8: entries[0].min_age: must be a duration such as 90s, 1h30m or 3d"},
	{"zone alone", "cron: TZ=UTC\nentries: [{source: 'a.b/c:v1', target: d.e/c}]\n", "f:1: cron: \"TZ=UTC\" is not a cron schedule: minute hour day month weekday, or a name such as @daily"},
	{"two schedules", "every: 1h\nentries:\n- source: a.b/c:v1\n  target: d.e/c\n  every: 10ms\n- source: a.b/d:v1\n  target: d.e/d\n  every: 1h\n  cron: '@daily'\n", "f:5: entries[0].every: must be at least 1s\nf:9: entries[1].cron: cannot be combined with every"},
	{"template of one image", "entries:\n- template: a.b/c:v1\n  target: d.e/c\n  platforms: linux/arm\n", "f:2: entries[0].template: has no ARCH, OS or VARIANT; use source for a single image"},
	{"template without platforms", "entries:\n- template: a.b/c-ARCH:v1\n  target: d.e/c\n", "f:2: entries[0].template: requires platforms"},
	{"template of the same image", "entries:\n- template: a.b/c-ARCH:v1\n  target: d.e/c\n  platforms: [linux/arm/v6, linux/arm/v7]\n", "f:2: entries[0].template: gives the same image for linux/arm/v6 and linux/arm/v7"},
	{"template without tag", "entries:\n- template: a.b/c-ARCH\n  target: d.e/c:v1\n  platforms: linux/arm\n", "f:2: entries[0].template: \"a.b/c-ARCH\" has no tag; write :{{.Tag}}, or the tag"},
	{"template with tags apart", "entries:\n- template: a.b/c:v1-ARCH\n  target: d.e/c\n  platforms: linux/arm\n", "f:3: entries[0].target[0]: requires a tag, because the images have no common tag"},
	{"template's name", "entries:\n- template: a.b/c-ARCH:v1\n  target: 'd.e/{{.Name}}'\n  platforms: linux/arm\n", "f:3: entries[0].target[0]: uses the name of the template, which differs by platform"},
	{"template with an unknown field", "entries:\n- template: '{{.Registry}}/c-ARCH:{{.Date}}'\n  target: d.e/c\n  platforms: linux/arm\n", "f:2: entries[0].template: supports only .Tag"},
	{"source as template", "entries:\n- source: 'a.b/c:{{.Tag}}'\n  target: d.e/c\n", "f:2: entries[0].source: is not a template; write tags, or use template instead of source"},
	{"invalid source", "entries:\n- source: 'https://a.b/c:v1'\n  target: d.e/c\n- source: 'oci:'\n  target: 'd.e/d:v1'\n- source: 'docker-daemon:'\n  target: 'd.e/e:v1'\n", "f:2: entries[0].source: \"https://a.b/c:v1\" is not an image reference\nf:4: entries[1].source: \"oci:\" has no path\nf:6: entries[2].source: docker-daemon: can only be written"},
	{"glob of registries", "entries:\n- source: '*.b/c'\n  target: d.e/c\n  tags: v1\n", "f:2: entries[0].source: \"*.b/c\" is not a glob of repositories: write registry/path, without a glob in the registry"},
	{"images", "entries:\n- target: d.e/c:v1\n  images:\n  - platform: linux/arm\n  - image: a.b/c:v1\n    platform: arm\n  - image: a.b/d:v1\n    platform: linux/arm/v7\n", "f:4: entries[0].images[0]: the image is missing\nf:6: entries[0].images[1].platform: platform \"arm\": must be os/architecture[/variant]\nf:8: entries[0].images[2].platform: \"linux/arm/v7\" is the same platform as \"linux/arm\""},
	{"platforms of images", "entries:\n- images: [{image: 'a.b/c:v1'}]\n  target: d.e/c\n  platforms: linux/arm\n", "f:4: entries[0].platforms: must be set for each image"},
	{"program without module", "entries:\n- go: ./cmd/app\n  target: d.e/app\n- go: app@latest\n  target: d.e/b\n", "f:2: entries[0].go: \"./cmd/app\" must be module/path@version or module/path@latest\nf:4: entries[1].go: \"app@latest\" must be module/path@version or module/path@latest"},
	{"base without program", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n  base: static\n", "f:4: entries[0].base: requires go, a program to build"},
	{"program with settings of copies", "referrers: true\nentries:\n- go: example.com/m@latest\n  target: d.e/m\n  min_age: 1d\n", "f:5: entries[0].min_age: does not apply to programs"},
	{"bad platforms", "platforms:\n- linux/amd64\n- all\nentries:\n- source: a.b/c:v1\n  target: d.e/c\n  platforms: arm64\n- source: a.b/d:v1\n  target: d.e/d\n", "f:3: platforms[1]: all is not a platform; omit platforms to keep all\nf:7: entries[0].platforms: platform \"arm64\": must be os/architecture[/variant]"},
	{"two passes", "exclud: [x]\nentries:\n- source: a.b/c:v1\n  taget: d.e/c\n- source: a.b/d\n  target: d.e/d\n- source: a.b/e:v1\n  target: d.e/e:v2:v3\n", "f:1: exclud: unknown key; did you mean exclude?\nf:4: entries[0].taget: unknown key; did you mean target?\nf:5: entries[1].tags: the entry selects no tags; write tags: [v1] or tags: {newest: 3}\nf:8: entries[2].target[0]: \"d.e/e:v2:v3\" is not an image reference"},
	{"all platforms", "platforms:\n- linux/amd64\n- all\nentries:\n- {source: 'a.b/c:v1', target: d.e/c}\n- {source: 'a.b/d:v1', target: d.e/d}\n", "f:3: platforms[1]: all is not a platform; omit platforms to keep all"},
	{"platform twice", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n  platforms:\n  - linux/arm\n  - linux/arm/v7\n", "f:6: entries[0].platforms: \"linux/arm/v7\" is the same platform as \"linux/arm\""},
	{"arch of another platform", "entries:\n- template: a.b/c-ARCH:v1\n  target: d.e/c\n  platforms: linux/arm64\n  arch:\n    linux/arm: armhf\n", "f:6: entries[0].arch[linux/arm/v7]: is not one of the platforms"},
	{"arch without template", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n  arch: {linux/arm: armhf}\n", "f:4: entries[0].arch: requires a template"},
	{"unknown name", "entries:\n- source: a.b/c:v1\n  target: 'd.e/{{.Repo}}'\n", "f:3: entries[0].target[0]: \"d.e/{{.Repo}}\": is not a valid template"},
	{"target with digest", "entries:\n- source: a.b/c:v1\n  target: d.e/c@sha256:" + zeros + "\n", "f:3: entries[0].target[0]: cannot have a digest; write a repository, with or without a tag"},
	{"target of several tags", "entries:\n- source: a.b/c\n  target:\n  - d.e/c\n  - d.e/c:v1\n  - oci:out:v1\n  tags: [v1, v2]\n", "f:5: entries[0].target[1]: is the same for every tag; write :{{.Tag}}, or no tag\nf:6: entries[0].target[2]: is the same for every tag; write :{{.Tag}}, or no tag"},
	{"target of several versions", "entries:\n- go: example.com/m@latest\n  target: d.e/m:latest\n", "f:3: entries[0].target[0]: is the same for every version, so later versions would not be built; write :{{.Tag}}, or no tag"},
	{"target of several repositories", "entries:\n- source: a.b/*\n  target: d.e/c\n  tags: v1\n", "f:3: entries[0].target[0]: is the same for every repository; write {{.Repository}} or {{.Name}}"},
	{"target that names no tag", "entries:\n- source: oci:c\n  target: 'd.e/c:{{.Tag}}'\n", "f:3: entries[0].target[0]: uses the tag, but the source has none"},
	{"target twice", "entries:\n- source: a.b/c:v1\n  target: [d.e/c, d.e/c]\n", "f:3: entries[0].target[1]: \"d.e/c\" is a duplicate"},
	{"invalid target", "entries:\n- source: a.b/c:v1\n  target: 'd.e/C:{{.Tag}}'\n- source: a.b/d:v1\n  target: D.E/d x\n", "f:3: entries[0].target[0]: \"d.e/C:{{.Tag}}\" gives \"d.e/C:1\", which is not an image reference\nf:5: entries[1].target[0]: \"D.E/d x\" is not an image reference"},
	{"rename", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n  rename:\n  - {match: 'v(.*)', to: $1x}\n  - {match: v, to: $1}\n  - {match: v}\n", "f:5: entries[0].rename[0].to: \"$1x\" refers to a group named 1x; write ${1}x\nf:6: entries[0].rename[1].to: \"$1\" refers to a group that match does not have\nf:7: entries[0].rename[2]: requires match and to"},
	{"backup", "backup: '{{.Name}}'\nentries:\n- {source: 'a.b/c:v1', target: d.e/c}\n- source: a.b/d:v1\n  target: d.e/d\n  backup: '{{.Tag}}'\n- source: a.b/e:v1\n  target: d.e/e\n  backup: a b\n", "f:1: backup: supports only .Tag, .SourceTag, .Date and .Time\nf:6: entries[1].backup: is the same as the tag; write, for example, {{.Tag}}-{{.Date}}\nf:9: entries[2].backup: \"a b\" does not give a valid tag"},
	{"names", "entries:\n- source: a.b/c:v1\n  target: d.e/c\n- source: a.b/c:v2\n  target: d.e/c\n- name: c\n  source: a.b/c:v3\n  target: d.e/x\n", "f:4: entries[1]: has the same name c as the entry in line 2; set name for one of them\nf:6: entries[2].name: \"c\" is a duplicate of line 2"},
	{"secrets", "registries:\n  a.b:\n    username: me\n    password: hunter2\n  c.d:\n    username: [x]\n    password: {env: 'hunter2!'}\n", "f: entries: missing; it lists the images to copy\nf:4: registries[a.b].password: cannot be set in the file; name the variable that holds it: {env: NAME}\nf:6: registries[c.d].username.name: must be a string, got a list\nf:7: registries[c.d].password.env: must be the name of a variable, for example REGISTRY_TOKEN"},
	{"login without password", "registries:\n  a.b: {username: me}\n  c.d: {password: {env: MABUILD_X}}\nentries: [{source: 'a.b/c:v1', target: d.e/c}]\n", "f:2: registries[a.b].username: requires a password: password: {env: NAME}\nf:3: registries[c.d].password: requires a username"},
	{"too large defaults", "exclude: [" + strings.Repeat("a,", 101) + "]\n", "f:1: exclude: has 101 items, but all entries together can have at most 100"},
	{"larger than bounds", strings.Repeat("#", 1<<20+1), "f: is larger than 1048576 bytes"},
}

var update = flag.Bool("update", false, "write the golden files")

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// Each input is accepted or gives exactly the expected errors.
func TestRead(t *testing.T) {
	for _, test := range mirrors {
		t.Run(test.name, func(t *testing.T) {
			m, err := Read("f", []byte(test.in), config.Trust{})
			got := fmt.Sprint(err)
			if err == nil {
				got = ""
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
			if err == nil && len(m.Plan()) != len(m.Entries) {
				t.Errorf("%d entries of %d", len(m.Plan()), len(m.Entries))
			}
		})
	}
}

// A file that uses every key gives the expected plan.
func TestPlan(t *testing.T) {
	m, err := Load("testdata/mirror.yaml", config.Trust{Variables: []string{"LOCAL_TOKEN"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(m.Plan()); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/plan.golden", b.Bytes())
	hub, local := m.Registries["docker.io"], m.Registries["registry.local"]
	if !slices.Equal(hub.Mirrors, []string{"mirror.gcr.io"}) || hub.MaxRequests != 4 || hub.PerSecond != 10 || hub.QuotaReserve != 20 ||
		hub.Username.Name != "someone" || hub.Password.Env != "MABUILD_HUB_TOKEN" {
		t.Errorf("docker.io: %+v", hub)
	}
	if !local.PlainHTTP || local.CAFile != "testdata/ca.pem" || local.Username.Env != "MABUILD_LOCAL_USER" || local.Password.Env != "LOCAL_TOKEN" || len(m.Registries) != 2 {
		t.Errorf("registry.local: %+v", local)
	}
}

// A setting of an entry takes precedence over the top level, even if it is 0, false or [].
func TestInherits(t *testing.T) {
	m, err := Read("f", []byte(`
every: 1h
referrers: true
optional: true
platforms: linux/arm
entries:
- {source: "a.b/c:v1", target: d.e/c}
- {source: "a.b/d:v1", target: d.e/d, every: 0, referrers: false, optional: false, platforms: []}
- {source: "a.b/e:v1", target: d.e/e, cron: "@daily"}
- {images: [{image: "a.b/f:v1"}], target: d.e/f}
`), config.Trust{})
	if err != nil {
		t.Fatal(err)
	}
	brief := func(e *mirror.Entry) string {
		return fmt.Sprintf("%T %t %t %d", e.Schedule, e.Referrers, e.Optional, len(e.Platforms))
	}
	for i, want := range []string{"cron.ConstantDelaySchedule true true 1", "<nil> false false 0", "*cron.SpecSchedule true true 1", "cron.ConstantDelaySchedule true true 0"} {
		if got := brief(m.Plan()[i]); got != want {
			t.Errorf("entry %d: %s, want %s", i, got, want)
		}
	}
	if !m.Plan()[3].Images[0].Optional {
		t.Error("an image of an optional entry is not optional")
	}
}

// The name of an entry comes from its target or its source.
func TestNames(t *testing.T) {
	for target, want := range map[string]string{
		"d.e/x/y": "x/y", "d.e:5000/x:v1": "x", "d.e/x:{{.Tag}}": "x", "d.e/{{.Name}}": "c/d", "d.e/x-{{.Name}}:v1": "c/d", "d.e:5000/{{.Name}}": "c/d",
		"oci-archive:x.tar": "x.tar", "oci:{{.Name}}": "c/d",
	} {
		m, err := Read("f", []byte("entries: [{source: a.b/c/d:v1, target: '"+target+"'}]"), config.Trust{})
		if err != nil || m.Plan()[0].Name != want {
			t.Errorf("%s: %v, %v", target, m, err)
		}
	}
}

// The time to read a file grows linearly with its size, and the number of reported errors
// is limited.
func TestBounded(t *testing.T) {
	for name, in := range map[string]string{
		"complaints": "entries: [" + strings.Repeat("{source: a},", 12_000) + "]",
		"targets":    "entries: [{source: 'a.b/c:v1', target: [" + strings.Repeat("a,", 40_000) + "]}]",
	} {
		_, err := Read("f", []byte(in), config.Trust{})
		if err == nil || strings.Count(err.Error(), "\n") != 20 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

// Credentials come from the file or from variables, and a missing variable is an error with
// its line.
func TestLogins(t *testing.T) {
	const in = `
registries:
  a.b: {username: me, password: {env: A}}
  c.d: {username: {env: C_USER}, password: {env: C}}
  e.local: {plain_http: true}
entries: [{source: "a.b/c:v1", target: d.e/c}]
`
	m, err := Read("f", []byte(in), config.Trust{Variables: []string{"A", "C", "C_USER"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Logins(lookup("A=1", "C_USER=you", "C=2"))
	if want := map[string]authn.Basic{"a.b": {Username: "me", Password: "1"}, "c.d": {Username: "you", Password: "2"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	_, err = m.Logins(lookup("C_USER=you", "C="))
	const want = "f:3: registries[a.b].password.env: the variable A is not set\nf:4: registries[c.d].password.env: the variable C is not set"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// The error for a template or a platform has the hint of the package that parses it.
func TestHints(t *testing.T) {
	for in, want := range map[string]string{
		"entries: [{source: 'a.b/c:v1', target: 'd.e/{{.X}}'}]":                      "templates support .Tag",
		"entries: [{source: 'a.b/c:v1', target: d.e/c, platforms: arm64}]":           "write linux/arm64",
		"entries: [{source: 'oci:', target: d.e/c:v1}]":                              "write oci:DIR",
		"entries: [{images: [{image: 'a.b/c:v1', platform: amd64}], target: d.e/c}]": "write linux/amd64",
	} {
		_, err := Read("f", []byte(in), config.Trust{})
		if !strings.HasPrefix(hint.Of(err), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// Paths of layouts and archives are relative to the directory of the file.
func TestLoad(t *testing.T) {
	dir := write(t, "sub/m.yaml", "entries: [{source: oci-archive:in.tar, target: ['oci:/var/x', 'oci:../out:v1']}]\n")
	m, err := Load(filepath.Join(dir, "sub/m.yaml"), config.Trust{Paths: []string{dir, "/var"}})
	if err != nil {
		t.Fatal(err)
	}
	e := m.Plan()[0]
	if got, want := append([]string{e.Image}, e.Targets...), []string{"oci-archive:" + dir + "/sub/in.tar", "oci:/var/x", "oci:" + dir + "/out:v1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml"), config.Trust{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// docs/mirror.schema.json is up to date.
func TestSchema(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../docs/mirror.schema.json", schema)
}

// The file that mirror init writes is valid and contains all keys in the right places.
func TestInit(t *testing.T) {
	text := Init()
	golden(t, "testdata/init.golden", text)
	m, err := Read("f", text, config.Trust{})
	if err != nil || len(m.Plan()) != 1 || m.Plan()[0].Name != "flannel" || len(m.lines) != 9 {
		t.Fatalf("%+v, %v", m, err)
	}
	all := regexp.MustCompile(`(?m)^( *)#(\S|  )`).ReplaceAll(text, []byte("$1$2"))
	full, lines, problems := table.Decode("f", all)
	if len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, all)
	}
	for _, key := range []string{"every", "arch[linux/arm/v6]", "registries[registry.local].password.env", "entries[0].images[0].platform", "entries[0].rename[0].to", "entries[0].tags.newest"} {
		if lines[key] == 0 {
			t.Errorf("no %s in\n%s", key, all)
		}
	}
	if len(full.Entries) != 1 || full.Entries[0].Go == "" {
		t.Errorf("%+v", full)
	}
}

// docs/mirror.md documents every key.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/mirror.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for path := range table.Keys() {
		for key := range strings.SplitSeq(strings.ReplaceAll(path, "[]", ""), ".") {
			keys[key] = true
		}
	}
	for key := range keys {
		if !bytes.Contains(guide, []byte("`"+key+"`")) && !bytes.Contains(guide, []byte("{"+key+": ")) {
			t.Errorf("docs/mirror.md does not mention %s", key)
		}
	}
	if len(keys) < 40 {
		t.Errorf("only %d keys were checked", len(keys))
	}
}

// The entries of an accepted file have a name, a source and a target, and reading the file
// again gives the same.
func FuzzRead(f *testing.F) {
	for _, test := range mirrors {
		if len(test.in) < 10_000 {
			f.Add(test.in)
		}
	}
	whole, err := os.ReadFile("testdata/mirror.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(whole))
	f.Fuzz(func(t *testing.T, in string) {
		m, err := Read("f", []byte(in), config.Trust{})
		if err != nil {
			return
		}
		again, err := Read("f", []byte(in), config.Trust{})
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for i, e := range m.Plan() {
			if e.Name == "" || names[e.Name] || len(e.Targets) == 0 || e.Image+e.Template+e.Program == "" && len(e.Images) == 0 {
				t.Errorf("%q: entry %d is %+v", in, i, e)
			}
			names[e.Name] = true
			one, err1 := json.Marshal(e)
			two, err2 := json.Marshal(again.Plan()[i])
			if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
				t.Errorf("%q: %s and %s, %v, %v", in, one, two, err1, err2)
			}
		}
	})
}

// lookup returns a Lookup for variables in the form NAME=value.
func lookup(env ...string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		for _, item := range env {
			if k, v, _ := strings.Cut(item, "="); k == key {
				return v, true
			}
		}
		return "", false
	}
}

// write writes files, given as pairs of path and text, to a new directory.
func write(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// golden compares text with a file of the repository. With -update it writes the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s is stale (%v): run make golden\n%s", path, err, got)
	}
}
