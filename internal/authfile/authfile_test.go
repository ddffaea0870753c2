package authfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/hint"
)

// home makes an empty home directory. It returns the directory and the getenv function for
// Places.
func home(t *testing.T, set map[string]string) (dir string, getenv func(string) string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("HOME", dir)
	return dir, func(key string) string { return strings.ReplaceAll(set[key], "~", dir) }
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// entry returns an auth file whose user is the name of the place that has it.
func entry(key, user string) string {
	return fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":"x"}}}`, key, user)
}

// find looks in all places. The helpers in known have credentials for one key; the user is
// the helper's name.
func find(t *testing.T, getenv func(string) string, host, repository string, known map[string]string) (user string, asked []string) {
	t.Helper()
	ask := func(_ context.Context, helper, key string) (authn.AuthConfig, error) {
		asked = append(asked, helper+" "+key)
		if known[helper] == key {
			return authn.AuthConfig{Username: helper, Password: "x"}, nil
		}
		return authn.AuthConfig{}, nil
	}
	for _, place := range Places(getenv) {
		f, err := Open(place)
		if err != nil {
			t.Fatal(err)
		}
		found, ok, err := f.Find(t.Context(), host, repository, ask)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return found.Username, asked
		}
	}
	return "", asked
}

// places are all places that may have credentials for ghcr.io/acme/app, in the order of
// docs/cli.md. In each file the helper for the host comes before the helper for all hosts,
// and both before the entries.
var places = []struct {
	name, file, text, helper string
}{
	{"named helper", "named.json", `"credHelpers":{"ghcr.io":"named"}`, "named"},
	{"named, repository", "named.json", `"ghcr.io/acme/app"`, ""},
	{"named, namespace", "named.json", `"ghcr.io/acme"`, ""},
	{"named, host", "named.json", `"ghcr.io"`, ""},
	{"docker helper", "docker/config.json", `"credHelpers":{"ghcr.io":"one"}`, "one"},
	{"docker store", "docker/config.json", `"credsStore":"store"`, "store"},
	{"docker, repository", "docker/config.json", `"ghcr.io/acme/app"`, ""},
	{"docker, host", "docker/config.json", `"https://ghcr.io"`, ""},
	{"runtime helper", "run/containers/auth.json", `"credHelpers":{"ghcr.io":"run"}`, "run"},
	{"runtime, namespace", "run/containers/auth.json", `"ghcr.io/acme"`, ""},
	{"runtime, host", "run/containers/auth.json", `"ghcr.io"`, ""},
	{"config, repository", ".config/containers/auth.json", `"ghcr.io/acme/app"`, ""},
	{"config, namespace", ".config/containers/auth.json", `"ghcr.io/acme"`, ""},
	{"config, host", ".config/containers/auth.json", `"ghcr.io"`, ""},
}

// Of two places with credentials for a repository, the earlier one is used. Places that
// have credentials only for other hosts are skipped.
func TestOrder(t *testing.T) {
	for i := range places {
		for j := i; j < len(places); j++ {
			t.Run(places[i].name+" before "+places[j].name, func(t *testing.T) {
				dir, getenv := home(t, map[string]string{"REGISTRY_AUTH_FILE": "~/named.json", "DOCKER_CONFIG": "~/docker", "XDG_RUNTIME_DIR": "~/run"})
				tops, auths, known := map[string][]string{}, map[string][]string{}, map[string]string{}
				for _, p := range places {
					auths[p.file] = []string{`"other.example":{"auth":"eDp5"}`, `"ghcr.io/acme-too":{"auth":"eDp5"}`}
				}
				for _, at := range []int{i, j} {
					p := places[at]
					if p.helper == "" {
						auths[p.file] = append(auths[p.file], fmt.Sprintf(`%s:{"username":%q,"password":"x"}`, p.text, p.name))
						continue
					}
					known[p.helper] = "ghcr.io"
					tops[p.file] = append(tops[p.file], p.text)
				}
				for file, list := range auths {
					top := append([]string{`"auths":{` + strings.Join(list, ",") + `}`}, tops[file]...)
					slices.Sort(top)
					write(t, filepath.Join(dir, file), "{"+strings.Join(slices.Compact(top), ",")+"}")
				}
				want := places[i].name
				if places[i].helper != "" {
					want = places[i].helper
				}
				if user, _ := find(t, getenv, "ghcr.io", "acme/app", known); user != want {
					t.Errorf("found %q, want %q", user, want)
				}
			})
		}
	}
}

// A place without credentials for the host is skipped, and Podman's file is used even if
// Docker's exists.
func TestPlacesThatHaveNothing(t *testing.T) {
	for name, docker := range map[string]string{
		"none": "", "empty": " ", "an object": "{}", "null": `{"auths":null}`, "an empty entry": `{"auths":{"ghcr.io":{}}}`,
		"others": entry("quay.io", "quay"), "a helper without credentials": `{"credsStore":"none"}`,
		"a longer name": entry("ghcr.io.example", "x"), "a longer path": entry("ghcr.io/acme/app/more", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			dir, getenv := home(t, nil)
			if docker != "" {
				write(t, filepath.Join(dir, ".docker/config.json"), docker)
			}
			write(t, filepath.Join(dir, ".config/containers/auth.json"), entry("ghcr.io", "podman"))
			user, asked := find(t, getenv, "ghcr.io", "acme/app", nil)
			if user != "podman" {
				t.Errorf("found %q", user)
			}
			for _, one := range asked {
				if one != "none ghcr.io" {
					t.Errorf("asked %s", one)
				}
			}
		})
	}
}

// A broken file is an error with the file's name. Podman's file is skipped if it may not be
// read.
func TestBrokenFiles(t *testing.T) {
	dir, getenv := home(t, nil)
	file := filepath.Join(dir, ".docker/config.json")
	for _, text := range []string{"{", "[]", `{"auths":[]}`, `{"auths":{}} {}`, `{"credHelpers":1}`, `{"auths":{"a":{}`} {
		write(t, file, text)
		_, err := Open(Places(getenv)[0])
		if err == nil || !strings.HasPrefix(err.Error(), file+": ") || !strings.Contains(hint.Of(err), "fix "+file) {
			t.Errorf("%s: %v", text, err)
		}
	}
	write(t, file, `{"auths":{"ghcr.io":{"auth":"%"},"quay.io":{"auth":"eDp5"}}}`)
	f, err := Open(Places(getenv)[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Entry("ghcr.io"); err == nil || !strings.Contains(err.Error(), `"ghcr.io"`) {
		t.Errorf("got %v", err)
	}
	if c, err := f.Entry("quay.io"); err != nil || c.Username != "x" {
		t.Errorf("got %v, %v", c, err)
	}
}

// Canonical returns one spelling for a host, a repository or a URL.
func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"ghcr.io": "ghcr.io", "GHCR.io": "ghcr.io", "https://ghcr.io": "ghcr.io", "https://ghcr.io/v2/": "ghcr.io", "http://localhost:5000/": "localhost:5000",
		"https://index.docker.io/v1/": "docker.io", "index.docker.io": "docker.io", "docker.io": "docker.io", "registry-1.docker.io": "docker.io", "docker.io/acme": "docker.io/acme",
		"ghcr.io/acme": "ghcr.io/acme", "ghcr.io/acme/app/": "ghcr.io/acme/app", "ghcr.io/v2/": "ghcr.io", "https://ghcr.io/acme": "ghcr.io", "[::1]:5000/a": "[::1]:5000/a",
	} {
		if got := Canonical(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// Docker Hub's credentials are found under each of its names. Helpers are called with
// Docker's key.
func TestHub(t *testing.T) {
	for _, key := range []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io", "docker.io/library"} {
		dir, getenv := home(t, nil)
		write(t, filepath.Join(dir, ".docker/config.json"), entry(key, "me"))
		if user, _ := find(t, getenv, "docker.io", "library/alpine", nil); user != "me" {
			t.Errorf("no credentials found for %s", key)
		}
	}
	for _, text := range []string{`{"credsStore":"h"}`, `{"credHelpers":{"docker.io":"h"}}`, `{"credHelpers":{"https://index.docker.io/v1/":"h"}}`} {
		dir, getenv := home(t, nil)
		write(t, filepath.Join(dir, ".docker/config.json"), text)
		if user, asked := find(t, getenv, "docker.io", "library/alpine", map[string]string{"h": hubKey}); user != "h" {
			t.Errorf("%s: helpers called: %q", text, asked)
		}
	}
	dir, getenv := home(t, nil)
	write(t, filepath.Join(dir, ".docker/config.json"), `{"credsStore":"h","credHelpers":{"ghcr.io":""},"auths":{"ghcr.io":{"auth":"eDp5"}}}`)
	if user, asked := find(t, getenv, "ghcr.io", "a", nil); user != "x" || len(asked) > 0 {
		t.Errorf("with an empty helper: user %q, helpers called: %q", user, asked)
	}
}

// Login stores new credentials in the first file that exists or that the user named, else
// in Docker's.
func TestForLogin(t *testing.T) {
	for name, one := range map[string]struct {
		env   map[string]string
		files []string
		want  string
	}{
		"no file":                  {want: ".docker/config.json"},
		"docker":                   {files: []string{".docker/config.json", ".config/containers/auth.json"}, want: ".docker/config.json"},
		"podman alone":             {files: []string{".config/containers/auth.json"}, want: ".config/containers/auth.json"},
		"podman and DOCKER_CONFIG": {env: map[string]string{"DOCKER_CONFIG": "~/d"}, files: []string{".config/containers/auth.json"}, want: "d/config.json"},
		"named":                    {env: map[string]string{"REGISTRY_AUTH_FILE": "~/a.json", "DOCKER_CONFIG": "~/d"}, files: []string{"d/config.json"}, want: "a.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, getenv := home(t, one.env)
			for _, file := range one.files {
				write(t, filepath.Join(dir, file), "{}")
			}
			p, err := ForLogin(Places(getenv))
			if err != nil || p.Path != filepath.Join(dir, one.want) {
				t.Errorf("got %v, %v", p, err)
			}
		})
	}
}

const odd = `{
  "HttpHeaders": {
    "X": "a<b>&c"
  },
  "auths": {
    "quay.io": {
      "auth": "eDp5",
      "email": "a@b.c",
      "own": [1, 1e400, 12345678901234567890]
    }
  },
  "psFormat": "table {{.ID}}\t{{.Names}}",
  "plugins": {
    "x": {
      "hooks": "y"
    }
  },
  "unknown": null
}
`

// An edit changes one entry. The rest of the file stays the same, byte for byte.
func TestEdit(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"two spaces": odd, "tabs": strings.ReplaceAll(odd, "  ", "\t"), "no line at its end": strings.TrimSpace(odd),
		"one line": `{"a":1,"auths":{"quay.io":{"auth":"eDp5"}},"z":[1,2]}`,
	} {
		for mode, target := range map[os.FileMode]string{0o600: name + ".json", 0o640: name + "-link.json"} {
			path := filepath.Join(dir, target)
			write(t, path, text)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			at := path
			if mode == 0o640 {
				at = path + ".link"
				if err := os.Symlink(path, at); err != nil {
					t.Fatal(err)
				}
			}
			f, err := Open(Location{Path: at})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Set("ghcr.io", "me", "s3cret"); err != nil {
				t.Fatal(err)
			}
			again, err := Open(Location{Path: at})
			if err != nil {
				t.Fatal(err)
			}
			if c, err := again.Entry("ghcr.io"); err != nil || c.Username != "me" || c.Password != "s3cret" {
				t.Errorf("%s: %v, %v", name, c, err)
			}
			if gone, err := again.Remove("ghcr.io"); !gone || err != nil {
				t.Errorf("%s: %t, %v", name, gone, err)
			}
			raw, err := os.ReadFile(path)
			if err != nil || name != "two spaces" && name != "tabs" && !sameJSON(t, raw, text) || (name == "two spaces" || name == "tabs") && !sameBut(string(raw), text) {
				t.Errorf("%s became\n%s", name, raw)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
			}
			if info, err := os.Lstat(at); err != nil || mode == 0o640 && info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("%s: the link was replaced", name)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 12 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// sameBut reports whether two files are equal except for white space in the part before
// psFormat.
func sameBut(a, b string) bool {
	tidy := func(s string) string { return strings.Join(strings.Fields(s), "") }
	_, linesA, _ := strings.Cut(a, `"psFormat"`)
	_, linesB, _ := strings.Cut(b, `"psFormat"`)
	return tidy(a) == tidy(b) && linesA == linesB
}

func sameJSON(t *testing.T, a []byte, b string) bool {
	t.Helper()
	var x, y bytes.Buffer
	if err := errors.Join(json.Compact(&x, a), json.Compact(&y, []byte(b))); err != nil {
		t.Fatal(err)
	}
	return x.String() == y.String()
}

// A new file has Docker's format and is readable only by its owner.
func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.json")
	f, err := Open(Location{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Set("docker.io", "me", "x"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if want := "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"bWU6eA==\"\n\t\t}\n\t}\n}\n"; err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// An entry that is set can be found, and a removed one cannot, whatever else the file
// holds.
func FuzzEdit(f *testing.F) {
	for _, seed := range []string{odd, "{}", `{"auths":{"ghcr.io":{},"https://ghcr.io":{"auth":"eDp5"}}}`, `{"auths":{"a":1},"auths":{"b":{}}}`} {
		f.Add([]byte(seed), "ghcr.io", "user", "pass:word")
	}
	f.Fuzz(func(t *testing.T, raw []byte, name, user, password string) {
		file := &File{Location: Location{Path: filepath.Join(t.TempDir(), "f"), Podman: true}}
		name = strings.ToValidUTF8(name, "")
		if file.parse(raw) != nil || Canonical(name) != name || name == "" || user == "" || strings.ContainsAny(user+password, ":\x00") {
			return
		}
		others := len(file.top)
		if file.top.get("auths") == nil {
			others++
		}
		if err := file.Set(name, user, password); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		again, err := Open(file.Location)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if c, err := again.Entry(name); err != nil || c.Username != user || c.Password != password {
			t.Errorf("%q: %v, %v", raw, c, err)
		}
		if len(again.top) != others {
			t.Errorf("%q: %d keys, %d before", raw, len(again.top), others)
		}
		if _, err := again.Remove(name); err != nil {
			t.Fatal(err)
		}
		if c, err := again.Entry(name); err != nil || c != (authn.AuthConfig{}) {
			t.Errorf("%q: %v, %v", raw, c, err)
		}
	})
}
