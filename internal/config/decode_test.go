package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/yamlconf"
)

// decode reads the YAML in data into a T.
func decode[T any](t *yamlconf.Table[T], file string, data []byte) (*T, map[string]int, error) {
	value, lines, problems := t.Decode(file, data)
	return value, lines, yamlconf.Join(file, problems)
}

// laughs returns an alias bomb of three levels with n items each.
func laughs(n int) string {
	row := func(what string) string { return "[" + strings.TrimSuffix(strings.Repeat(what+", ", n), ", ") + "]" }
	return "tags: &a " + row("x") + "\nldflags: &b " + row("*a") + "\ngcflags: " + row("*b") + "\n"
}

// inputs are files and the expected error: empty for an accepted file, else the complete
// text.
var inputs = []struct{ name, in, want string }{
	{"nothing", "", ""},
	{"only a comment", "# nothing\n", ""},
	{"null", "null\n", ""},
	{"document marker", "---\nrepo: a\n", ""},
	{"byte order mark", "\ufeffrepo: a\n", ""},
	{"CRLF", "repo: a\r\ntags: [b]\r\n", ""},
	{"empty value", "repo:\ntags:\n", ""},
	{"json", `{"repo": "a", "platforms": ["linux/amd64"]}`, ""},
	{"numbers as strings", "tags: [1.0, 2, true]\nimage: {user: 65532, ports: [8080]}\n", ""},
	{"block lists", "platforms:\n- linux/amd64\n- linux/arm64\n", ""},
	{"comma in platforms", "platforms: ['linux/amd64,linux/arm64']\n", ""},
	{"all platforms", "platforms: [all]\n", ""},
	{"another spelling", "platforms: [LINUX/x86_64, linux/aarch64]\n", ""},
	{"windows version", "platforms: ['windows/amd64:10.0.17763.1']\n", ""},
	{"base by platform", "base: {default: static, linux/riscv64: 'debian:13'}\n", ""},
	{"overrides", "builds: [{id: a, overrides: {linux/arm/v6: {env: [A=1], ldflags: [-w]}}}]\n", ""},
	{"hosts", "registries: {Registry.Local: {plain_http: true}, 'a.b:5000': {}, '[::1]:5000': {skip_verify: true}, docker.io: {mirrors: [mirror.gcr.io]}}\n", ""},
	{"empty host entry", "registries: {a.b: }\n", ""},
	{"alias", "tags: &t [v1]\nbuilds: [{id: a, tags: *t}]\n", ""},
	{"file modes", "files: [{from: a, to: /a, mode: 0644}, {from: b, to: /b, mode: '755'}, {from: c, to: 'C:\\c', mode: 0o600}]\n", ""},
	{"duration", "timeout: 1h30m\n", ""},
	{"days", "timeout: 1w2d3h\n", ""},
	{"too many days", "timeout: 9999w99999d2500000h\n", "f:1: timeout: must be a duration such as 90s, 1h30m or 3d"},
	{"days without a number", "timeout: 2wd\n", "f:1: timeout: must be a duration such as 90s, 1h30m or 3d"},
	{"label with equals", "image: {labels: ['a=b=c', 'd=']}\n", ""},
	{"multi-line text", "ldflags:\n- |\n  -X a=b\n  -X c=d\n", ""},
	{"unused anchor", "repo: &r a\n", ""},

	{"unknown key", "repo: a\nplatfrms: [linux/amd64]\n", "f:2: platfrms: unknown key; did you mean platforms?"},
	{"flag's spelling", "build-tags: [a]\ntag: [b]\n", "f:1: build-tags: unknown key; did you mean build_tags?\nf:2: tag: unknown key; did you mean tags?"},
	{"upper case", "Repo: a\n", "f:1: Repo: unknown key; did you mean repo?"},
	{"key of another level", "labels: [a=b]\n", "f:1: labels: unknown key; it belongs below image"},
	{"unlike any key", "xylophone: 1\n", "f:1: xylophone: unknown key"},
	{"unknown below", "image:\n  usr: a\nbuilds:\n- id: a\n  image: {volume: [/a]}\n", "f:2: image.usr: unknown key; did you mean user?\nf:5: builds[0].image.volume: unknown key; did you mean volumes?"},
	{"size of the cache", "cache: {max: lots}\ncache_max: 5GB\n", "f:1: cache.max: must be a size such as 500MB or 5GB\nf:2: cache_max: unknown key; did you mean cache.max?"},
	{"compression", "compression: lz4\n", "f:1: compression: must be gzip or zstd, optionally with a level such as gzip:6"},
	{"compression's level", "compression: gzip:0\n", "f:1: compression: must be gzip:1 to gzip:9"},
	{"compression's number", "compression: zstd:23\n", "f:1: compression: must be zstd:1 to zstd:22"},
	{"cache without keys", "cache: 5GB\n", "f:1: cache: must be a mapping of keys to values, got \"5GB\""},
	{"unknown in host", "registries:\n  a.b:\n    plainhttp: true\n", "f:3: registries[a.b].plainhttp: unknown key; did you mean plain_http?"},
	{"unknown in override", "builds:\n- overrides:\n    linux/arm:\n      tags: [a]\n", "f:4: builds[0].overrides[linux/arm/v7].tags: unknown key"},
	{"twice", "repo: a\nrepo: b\n", "f:2: repo: duplicate of line 1"},
	{"twice below", "builds:\n- id: a\n  main: ./a\n  id: b\n", "f:4: builds[0].id: duplicate of line 2"},
	{"same platform twice", "base:\n  linux/arm: a\n  linux/arm/v7: b\n", "f:3: base: linux/arm/v7 is a duplicate of line 2"},
	{"same host twice", "registries:\n  a.b: {}\n  A.B: {}\n", "f:3: registries: a.b is a duplicate of line 2"},
	{"platforms twice", "platforms:\n- linux/arm64\n- linux/arm64/v8\n", `f:3: platforms: "linux/arm64/v8" is the same platform as "linux/arm64"`},
	{"half platforms", "platforms:\n- arm64\n- linux\n- ''\n- linux/amd64\n", "f:2: platforms: platform \"arm64\": must be os/architecture[/variant]\nf:3: platforms: platform \"linux\": must be os/architecture[/variant]\nf:4: platforms: platform \"\": is empty"},
	{"bad platform key", "base: {default: a, arm64: b}\n", `f:1: base: platform "arm64": must be os/architecture[/variant]`},
	{"bad override key", "builds:\n- overrides: {default: {}}\n", `f:2: builds[0].overrides: platform "default": must be os/architecture[/variant]`},
	{"text for list", "tags: v1\nplatforms: linux/amd64,linux/arm64\nimage: {labels: a=b}\n", ""},
	{"text for a command", "image: {cmd: serve}\n", `f:1: image.cmd: must be a list, for example [serve], got "serve"`},
	{"list for text", "repo: [a]\n", "f:1: repo: must be a string, got a list"},
	{"map for text", "repo: {a: b}\n", "f:1: repo: must be a string, got a mapping"},
	{"map for list", "tags: {a: b}\n", "f:1: tags: must be a list, got a mapping"},
	{"list for map", "image: [a]\n", "f:1: image: must be a mapping of keys to values, got a list"},
	{"text for map", "registries: docker.io\n", `f:1: registries: must be a mapping of keys to values, got "docker.io"`},
	{"text for build", "builds: [./a]\n", `f:1: builds[0]: must be a mapping of keys to values; write {main: ./a}`},
	{"text for files", "files: [web:/srv]\n", `f:1: files[0]: must be a mapping of keys to values; write {from: web, to: /srv}`},
	{"text for builds", "builds: ./a\n", `f:1: builds: must be a list; write [{main: ./a}]`},
	{"mapping for builds", "builds: {web: {main: ./a}}\n", `f:1: builds: must be a list, got a mapping; begin each item with a dash`},
	{"key as a value", "cgo: static\n", `f:1: cgo: must be a mapping; write {static: true}`},
	{"words of others", "registry: r\nbuilds:\n- {name: a, package: ./a, goos: linux}\n", "f:1: registry: unknown key; did you mean repo?\nf:3: builds[0].name: unknown key; did you mean id?\nf:3: builds[0].package: unknown key; did you mean main?\nf:3: builds[0].goos: unknown key; did you mean platforms?"},
	{"entrypoint with blanks", "image: {entrypoint: [/web --port 80]}\n", `f:1: image.entrypoint: "/web --port 80" is one word with blanks; write each word by itself: [/web, --port, 80]`},
	{"singular", "entry: x\nplatform: [linux/amd64]\nbase_image: scratch\nbase-image: scratch\n", "f:1: entry: unknown key\nf:2: platform: unknown key; did you mean platforms?\nf:3: base_image: unknown key; did you mean base?\nf:4: base-image: unknown key; did you mean base?"},
	{"id of other letters", "builds: [{main: ./a, id: Web App}]\n", `f:1: builds[0].id: "Web App" is not an id: letters, digits and . _ - /`},
	{"tag in repo", "repo: r:5000/y:v1\n", `f:1: repo: "r:5000/y:v1" has a tag; write r:5000/y, and v1 in tags or -t`},
	{"short enum", "sbom: cdx\n", `f:1: sbom: "cdx" is not one of none, spdx, cyclonedx; did you mean cyclonedx?`},
	{"null in list", "tags: [a, ~]\n", "f:1: tags[1]: must be a string, got nothing"},
	{"list in list", "tags:\n- a\n- [b]\n", "f:3: tags[1]: must be a string, got a list"},
	{"text for bool", "vcs: yes\ncgo: 1\n", `f:1: vcs: must be true or false, got "yes"` + "\n" + `f:2: cgo.enabled: must be true or false, got "1"`},
	{"text for number", "jobs: many\n", `f:1: jobs: must be a number, got "many"`},
	{"fraction", "jobs: 1.5\n", `f:1: jobs: must be a number, got "1.5"`},
	{"negative", "jobs: -1\n", "f:1: jobs: must be a number, 0 or more"},
	{"huge number", "jobs: 9999999999999999999\n", "f:1: jobs: must be a number, 0 or more"},
	{"no unit", "timeout: 30\n", "f:1: timeout: must be a duration such as 90s, 1h30m or 3d"},
	{"negative duration", "timeout: -1s\n", "f:1: timeout: must be a duration such as 90s, 1h30m or 3d"},
	{"not of the list", "media_types: dokcer\nsbom: spxd\nprogress: ''\n", "f:1: media_types: \"dokcer\" is not one of oci, docker; did you mean docker?\nf:2: sbom: \"spxd\" is not one of none, spdx, cyclonedx; did you mean spdx?\nf:3: progress: \"\" is not one of auto, tty, plain, json, none"},
	{"no K=V", "env: [A]\nimage:\n  labels:\n  - =b\n", "f:1: env: \"A\" must be KEY=VALUE\nf:4: image.labels: \"=b\" must be KEY=VALUE"},
	{"labels as a map of maps", "image: {labels: {a: {b: c}}}\n", "f:1: image.labels.a: must be a string, got a mapping"},
	{"labels as a map with a key twice", "image:\n  labels:\n    a: b\n    a: c\n", "f:4: image.labels.a: duplicate of line 3"},
	{"labels as a map with an empty key", "image: {labels: {\"\": c}}\n", "f:1: image.labels: \"=c\" must be KEY=VALUE"},
	{"relative path", "path: app\nfiles: [{from: a, to: b}]\n", "f:1: path: \"app\" is not an absolute path in the image; the key main names the package\nf:2: files[0].to: \"b\" is not an absolute path"},
	{"bad mode", "files:\n- {from: a, to: /a, mode: rwx}\n- {from: a, to: /a, mode: 99999}\n", "f:2: files[0].mode: must be permissions in octal, for example 0644\nf:3: files[1].mode: must be permissions in octal, for example 0644"},
	{"mirrors", "registries: {docker.io: {mirrors: [mirror.gcr.io, 'harbor.example/proxy-cache', 'a.b:5000/c/d_e', '[::1]:5000/x', 'gitlab.example/group/dependency_proxy/containers']}}\n", ""},
	{"invalid mirrors", "registries:\n  docker.io:\n    mirrors:\n    - https://a.b/c\n    - me@a.b/c\n    - a.b/c?d\n    - a.b/../c\n    - a.b/\n    - /c\n    - a.b/c//d\n    - a.b/C\n    - 'a.b/c#d'\n    - 'a.b:/c'\n    - a.b/c:v1\n", mirrorProblems("https://a.b/c", "me@a.b/c", "a.b/c?d", "a.b/../c", "a.b/", "/c", "a.b/c//d", "a.b/C", "a.b/c#d", "a.b:/c", "a.b/c:v1")},
	{"url for host", "registries: {'https://a.b': {}}\ninsecure_registries: [a.b/c]\n", "f:1: registries: \"https://a.b\" must be host[:port], without https:// and path\nf:2: insecure_registries: \"a.b/c\" must be host[:port], without https:// and path"},
	{"user in host", "trust_realms: ['u:p@a.b']\n", `f:1: trust_realms: "a.b" must be host[:port], without https:// and path`},
	{"escape", "repo: \"a\\e[31mb\"\n", `f:1: repo: "a[31mb" contains a control character`},
	{"NUL escape", "repo: \"a\\0b\"\n", `f:1: repo: "ab" contains a control character`},
	{"escape in key", "\"a\\e]0;x\\a\": 1\n", "f:1: a]0;x: unknown key"},
	{"NUL", "repo: a\nta\x00gs: [b]\n", "f:2: contains a NUL character"},
	{"no UTF-8", "repo: \xff\xfe\n", "f: invalid leading UTF-8 octet"},
	{"tabs", "image:\n\tuser: a\n", "f:2: the line is indented with a tab; YAML requires spaces"},
	{"never closed", "tags: [a, b\n", "f:1: did not find expected ',' or ']'"},
	{"two documents", "repo: a\n---\nrepo: b\n", "f:2: contains a second YAML document"},
	{"unknown alias", "tags: *t\n", "f: unknown anchor 't' referenced"},
	{"merge key", "builds:\n- &a {id: a}\n- <<: *a\n  id: b\n", "f:3: builds[1]: merge keys are not supported; move common settings of several builds to the top level"},
	{"list as key", "? [a]\n: b\n", "f:1: a key must be a string"},
	{"null as key", "~: b\n", "f:1: a key must be a string"},
	{"a list", "- a\n", "f:1: must be a mapping of keys to values, got a list"},
	{"a text", "hello\n", `f:1: must be a mapping of keys to values, got "hello"`},
	{"binary", "repo: !!binary aGk=\n", `f:1: repo: must be a string, got "aGk="`},
	{"own tag", "repo: !secret x\n", `f:1: repo: must be a string, got "x"`},
	{"alias to itself", "builds: &b [*b]\n", "f:1: builds[0]: must be a mapping of keys to values, got a list"},
	{"1 MiB + 1", strings.Repeat("#", 1<<20+1), "f: is larger than 1048576 bytes"},
	{"20 000 deep", "repo: " + strings.Repeat("[", 20_000), "f: exceeded max depth of 10000"},
	{"2 000 deep", "repo: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "f:1: repo: must be a string, got a list"},
	{"laughs", laughs(9), "f:2: ldflags[0]: must be a string, got a list\n"},
	{"100 000 platforms", "platforms: [" + strings.Repeat("a/b,", 100_000) + "]\n", "f:1: contains more than 50000 values"},
	{"many aliases", "builds: [&a {ldflags: [" + strings.Repeat("x,", 1000) + "]}" + strings.Repeat(",*a", 10_000) + "]\n", "f:1: contains more than 50000 values"},
}

// Each input is accepted or gives exactly the expected errors, quickly.
func TestDecode(t *testing.T) {
	for _, test := range inputs {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			_, _, err := decode(table, "f", []byte(test.in))
			got := fmt.Sprint(err)
			if err == nil {
				got = ""
			}
			if got != test.want && (test.name != "laughs" || !strings.HasPrefix(got, test.want)) {
				t.Errorf("got:\n%.2000s\nwant:\n%s", got, test.want)
			}
			if took := time.Since(start); took > 30*time.Second { // limits the work; the machine may be busy
				t.Errorf("took %s", took)
			}
		})
	}
	if len(inputs) < 50 {
		t.Errorf("only %d inputs", len(inputs))
	}
}

// A file that sets every key is decoded to the expected values, each with its line.
func TestDecodeValues(t *testing.T) {
	const in = `
repo: ghcr.io/acme
base: {default: gcr.io/distroless/static:nonroot, linux/ARM: static}
builds:
  - id: api
    main: ./cmd/api
    files: [{from: ./web, to: /srv, mode: 0750}]
    image: {user: 65532, labels: [A.B=c]}
registries:
  "[2001:DB8::1]:5000": {plain_http: true}
timeout: 90s
`
	c, lines, err := decode(table, "f", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Settings: Settings{Repo: "ghcr.io/acme", Base: PerPlatform{"default": "gcr.io/distroless/static:nonroot", "linux/arm/v7": "static"}},
		Builds: []Build{{
			ID: "api", Main: "./cmd/api",
			Settings: Settings{
				Files: []File{{"./web", "/srv", 0o750, ""}},
				Image: Image{User: "65532", Labels: []string{"A.B=c"}},
			},
		}},
		Registries: map[string]Registry{"[2001:db8::1]:5000": {PlainHTTP: true}},
		Timeout:    yamlconf.Duration(90 * time.Second),
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	for path, line := range map[string]int{"repo": 2, "builds[0]": 5, "builds[0].image.user": 8, "timeout": 11} {
		if lines[path] != line {
			t.Errorf("%s in line %d, want %d", path, lines[path], line)
		}
	}
}

// Each file is refused, or its view is a file with the same meaning.
func FuzzDecode(f *testing.F) {
	for _, test := range inputs {
		if len(test.in) < 10_000 {
			f.Add(test.in)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, in string) {
		first, err := loadText(t, dir, in)
		if err != nil {
			return
		}
		view, err := first.View()
		if err != nil {
			t.Fatal(err)
		}
		second, err := loadText(t, dir, string(view))
		if err != nil {
			t.Fatalf("the view of %q is\n%s\nwhich is refused: %v", in, view, err)
		}
		if strip(first) != strip(second) {
			t.Errorf("the view of %q is\n%s\nwhich means\n%s\ninstead of\n%s", in, view, strip(second), strip(first))
		}
	})
}

// loadText loads text as the configuration file in dir.
func loadText(t *testing.T, dir, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Options{File: path, Lookup: func(string) (string, bool) { return "", false }})
}

// strip prints c without its origins. Empty and missing lists are equal.
func strip(c *Config) string {
	bare := *c
	bare.origins = nil
	return strings.NewReplacer("[]", "", "map[]", "").Replace(fmt.Sprintf("%+v", bare))
}

// mirrorProblems returns the errors for registry mirrors in lines 4 and following.
func mirrorProblems(all ...string) string {
	lines := make([]string, len(all))
	for i, s := range all {
		lines[i] = fmt.Sprintf("f:%d: registries[docker.io].mirrors: %q must be host[:port] or host[:port]/path, without https:// and query, with the path in lower case", 4+i, s)
	}
	return strings.Join(lines, "\n")
}
