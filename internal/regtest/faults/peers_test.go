//go:build peers && unix

package faults

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// longEnough is the time after which a peer counts as hanging.
const longEnough = 100 * time.Second

// A peer is a program that does the same as mabuild: it copies or builds an image of two
// platforms and pushes it.
type peer struct {
	name, program string
	args          []string // SRC and DST stand for references, AUTH for a file of credentials
}

var peers = []peer{
	{name: "mabuild push", program: "mabuild", args: []string{"push", "--platforms", "linux/amd64,linux/arm64", "--base", "SRC", "-t", "DST"}},
	{name: "ko", program: "ko", args: []string{"build", ".", "--bare", "--sbom", "none", "--platform", "linux/amd64,linux/arm64", "--insecure-registry", "-t", "v1"}},
	{name: "mabuild manifest create", program: "mabuild", args: []string{"manifest", "create", "DST", "SRC"}},
	{name: "crane copy", program: "crane", args: []string{"copy", "--insecure", "SRC", "DST"}},
	{name: "skopeo copy", program: "skopeo", args: []string{"copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "--authfile", "AUTH", "docker://SRC", "docker://DST"}},
	{name: "regctl copy", program: "regctl", args: []string{"image", "copy", "SRC", "DST"}},
}

// An ordeal is a fault while a peer works.
type ordeal struct {
	name   string
	target []regtest.Fault // at the registry that is written to
	source []regtest.Fault // at the registry that is read
	evil   string          // the header with the address of the evil listener, at the first request of path
	path   string
	heal   bool // an image of the pushed index is deleted before the same push
}

const anyUpload = "/uploads/"

var ordeals = []ordeal{
	{name: "nothing"},
	{name: "upload cut after 64 KiB", target: []regtest.Fault{{Method: "PUT", Path: anyUpload, Phase: regtest.Up, After: 64 << 10, Action: regtest.Abort}, {Method: "PATCH", Path: anyUpload, Phase: regtest.Up, After: 64 << 10, Action: regtest.Abort}}},
	{name: "503 ×1 at an upload", target: []regtest.Fault{{Method: "POST", Path: anyUpload, Status: 503}}},
	{name: "503 ×3 at an upload", target: []regtest.Fault{{Method: "POST", Path: anyUpload, Status: 503, Times: 3}}},
	{name: "503 ×3 at the tag", target: []regtest.Fault{{Method: "PUT", Path: "/manifests/", Nth: 3, Times: 3, Status: 503}}},
	{name: "429, Retry-After: 2", target: []regtest.Fault{{Method: "POST", Path: anyUpload, Status: 429, Header: map[string][]string{"Retry-After": {"2"}}}}},
	{name: "401 in the middle of an upload", target: []regtest.Fault{{Method: "PATCH", Path: anyUpload, Phase: regtest.Up, After: 1000, Status: 401}, {Method: "PUT", Path: anyUpload + ".*digest", Phase: regtest.Up, After: 1000, Status: 401}}},
	{name: "the tag's answer lost", target: []regtest.Fault{{Method: "PUT", Path: "/manifests/", Nth: 3, Phase: regtest.Answer, Action: regtest.Abort}}},
	{name: "child not seen at once", target: []regtest.Fault{{Method: "PUT", Path: "/manifests/", Nth: 3, Status: 404, Body: `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}`}}},
	{name: "child deleted, pushed again", heal: true},
	{name: "a bit flipped in a download", source: []regtest.Fault{{Method: "GET", Path: "/blobs/", Nth: 2, Phase: regtest.Down, After: 1000, Action: regtest.Flip}}},
	{name: "download cut after 64 KiB", source: []regtest.Fault{{Method: "GET", Path: "/blobs/", Nth: 2, Phase: regtest.Down, After: 64 << 10, Action: regtest.Abort}}},
	{name: "silence at an upload", target: []regtest.Fault{{Method: "PUT", Path: anyUpload, Action: regtest.Stall}}},
	{name: "evil token server", evil: `Www-Authenticate: Bearer realm="%s",service="x"`, path: "/v2/"},
	{name: "evil place to upload to", evil: "Location: %s", path: anyUpload},
}

// TestPeers injects the same faults for mabuild and those of its peers that are on PATH,
// and prints the results as a Markdown table.
func TestPeers(t *testing.T) {
	var table sync.Mutex
	cells := map[string]map[string]string{}
	var names []string
	t.Run("all", func(t *testing.T) {
		for _, p := range peers {
			if _, err := exec.LookPath(p.program); err != nil {
				t.Logf("%s is not on PATH: left out", p.program)
				continue
			}
			names = append(names, p.name)
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				f := newField(t)
				for _, o := range ordeals {
					cell := f.try(t, p, o)
					table.Lock()
					if cells[o.name] == nil {
						cells[o.name] = map[string]string{}
					}
					cells[o.name][p.name] = cell
					table.Unlock()
				}
			})
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "| fault | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, o := range ordeals {
		fmt.Fprintf(&b, "| %s |", o.name)
		for _, name := range names {
			fmt.Fprintf(&b, " %s |", cells[o.name][name])
		}
		b.WriteString("\n")
	}
	t.Logf("\n%s", b.String())
}

// A field is the environment for one peer: two registries, and a program to build.
type field struct {
	target, source *regtest.Registry
	evil           *regtest.Evil
	index          v1.ImageIndex
	dir            string
	env            []string
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{
		target: regtest.Start(t, regtest.Options{User: user, Password: password, Bearer: true}), source: regtest.Start(t, regtest.Options{}),
		evil: regtest.StartEvil(t), dir: t.TempDir(), index: program(t, 300_000),
	}
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for file, text := range map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(1) }\n",
		"docker/config.json": fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, f.target.Host, secret),
		"regctl.json":        fmt.Sprintf(`{"hosts":{%q:{"tls":"disabled"},%q:{"tls":"disabled"}}}`, f.target.Host, f.source.Host),
	} {
		file = filepath.Join(f.dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f.env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(f.dir, "docker"), "REGCTL_CONFIG="+filepath.Join(f.dir, "regctl.json"),
		"KO_DEFAULTBASEIMAGE="+f.source.Host+"/base:v1", "KOCACHE="+filepath.Join(f.dir, "ko"), "MABUILD_CACHE="+filepath.Join(f.dir, "cache"), "GOFLAGS=")
	c := &registry.Client{Keychain: login{}}
	if err := c.Put(t.Context(), f.source.Judge()+"/base:v1", f.index); err != nil {
		t.Fatal(err)
	}
	return f
}

// try runs p with o and describes the result in a few words.
func (f *field) try(t *testing.T, p peer, o ordeal) string {
	t.Helper()
	repo := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, o.name)
	f.target.Reset()
	f.source.Reset()
	seen := len(f.evil.Seen())
	old := f.before(t, p, o, repo)
	for _, fault := range o.target {
		if fault.Status == 401 {
			fault.Header = challenge(f.target.Host)
		}
		f.target.Inject(fault)
	}
	f.source.Inject(o.source...)
	if o.evil != "" {
		at, err := url.Parse(f.evil.URL)
		if err != nil {
			t.Fatal(err)
		}
		key, value, _ := strings.Cut(fmt.Sprintf(o.evil, "http://localhost:"+at.Port()+"/evil"), ": ")
		status, method := 401, ""
		if key == "Location" {
			status, method = 202, "POST"
		}
		f.target.Inject(regtest.Fault{Method: method, Path: o.path, Status: status, Times: -1, Header: map[string][]string{key: {value}}})
	}
	began := time.Now()
	said, hung := f.run(t, p, repo)
	took := time.Since(began)
	struck := o.heal || o.name == "nothing"
	for _, r := range append(f.target.Requests(), f.source.Requests()...) {
		struck = struck || r.Faulted
	}
	f.target.Reset()
	f.source.Reset()
	is, err := f.target.Verify(repo, "v1")
	words := []string{said}
	switch {
	case !struck:
		words = append(words, "not struck")
	case hung:
		words[0] = "**hangs**"
	case strings.HasPrefix(o.name, "429") && took < 2*time.Second:
		words = append(words, "**did not wait**")
	case strings.HasPrefix(o.name, "silence"):
		words = append(words, fmt.Sprintf("after %v", took.Round(time.Second)))
	}
	switch {
	case err != nil:
		words = append(words, "**tag broken**")
	case is == old && said == "done" && !o.heal:
		words = append(words, "**tag old**")
	case is != old && said != "done":
		words = append(words, "tag new")
	}
	for _, h := range f.evil.Seen()[seen:] {
		if h.Get("Authorization") != "" {
			words = append(words, "**gave the password away**")
			break
		}
	}
	if said != "done" {
		if again, _ := f.run(t, p, repo); again != "done" {
			words = append(words, "again: "+again)
		} else if _, err := f.target.Verify(repo, "v1"); err != nil {
			words = append(words, "again: **broken**")
		}
	}
	return strings.Join(words, ", ")
}

// before makes the initial tag for o and returns its digest.
func (f *field) before(t *testing.T, p peer, o ordeal, repo string) v1.Hash {
	t.Helper()
	if !o.heal {
		old := program(t, 300)
		if err := (&registry.Client{Keychain: login{}}).Put(t.Context(), f.target.Judge()+"/"+repo+":v1", old); err != nil {
			t.Fatal(err)
		}
		return must(old.Digest())(t)
	}
	if said, _ := f.run(t, p, repo); said != "done" {
		t.Fatalf("%s: the first push: %s", p.name, said)
	}
	is, err := f.target.Verify(repo, "v1")
	if err != nil {
		t.Fatal(err)
	}
	content, err := (&registry.Client{Keychain: login{}}).Get(t.Context(), f.target.Judge()+"/"+repo+":v1")
	if err != nil {
		t.Fatal(err)
	}
	im, err := content.(v1.ImageIndex).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.target.Delete(repo + "/manifests/" + im.Manifests[0].Digest.String()); err != nil {
		t.Fatal(err)
	}
	return is
}

// run runs p for repo:v1. It returns "done" or the exit code, and whether it had to be
// killed.
func (f *field) run(t *testing.T, p peer, repo string) (said string, hung bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), longEnough)
	defer stop()
	words := strings.NewReplacer("SRC", f.source.Host+"/base:v1", "DST", f.target.Host+"/"+repo+":v1", "AUTH", filepath.Join(f.dir, "docker/config.json"))
	filled := make([]string, len(p.args))
	for i, arg := range p.args {
		filled[i] = words.Replace(arg)
	}
	cmd := exec.CommandContext(ctx, p.program, filled...)
	cmd.Dir, cmd.Env = f.dir, append(f.env, "KO_DOCKER_REPO="+f.target.Host+"/"+repo)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "hangs", true
	case errors.As(err, &exit):
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Logf("%s: %.300s", repo, lines[len(lines)-1])
		return fmt.Sprintf("exit %d", exit.ExitCode()), false
	case err != nil:
		t.Fatal(err)
	}
	return "done", false
}
