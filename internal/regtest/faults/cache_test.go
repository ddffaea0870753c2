//go:build unix

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// Processes that build the same programs at the same time can share a cache while another
// process prunes it: all succeed with the same digests. This holds for an empty cache, and
// for a full one with old entries, which the prune removes.
func TestProcessesShareACacheThatIsPruned(t *testing.T) {
	p := newPlant(t)
	p.env = append(p.env, serveModule(t, "example.com/tool", "v1.2.3")...)
	cache := filepath.Join(t.TempDir(), "cache")
	want := map[string]string{}
	for round, pruned := range []bool{true, false, true} {
		if round == 2 {
			ageAll(t, cache)
		}
		for who, digest := range p.together(t, round, cache, pruned) {
			kind, _, _ := strings.Cut(who, "-")
			if want[kind] == "" {
				want[kind] = digest
			}
			if digest != want[kind] {
				t.Errorf("round %d: %s gave %s, others %s", round, who, digest, want[kind])
			}
		}
	}
	if want["exact"] != want["moving"] || want["local"] == want["exact"] {
		t.Errorf("got %v", want)
	}
	// Without runs, the prune removes everything.
	p.prune(t, cache)
	for _, left := range []string{"blobs/sha256/*", "records/*", "programs/*", "modules/*", "runs/run-*"} {
		if files, err := filepath.Glob(filepath.Join(cache, left)); err != nil || len(files) > 0 {
			t.Errorf("left %v, %v", files, err)
		}
	}
}

// together runs several processes of each kind at once, while another prunes the cache if
// pruned is set. It returns the digest that each printed.
func (p *plant) together(t *testing.T, round int, cache string, pruned bool) map[string]string {
	t.Helper()
	var (
		mu      sync.Mutex
		digests = map[string]string{}
		running sync.WaitGroup
		pruning sync.WaitGroup
		done    = make(chan struct{})
	)
	pruning.Go(func() {
		for pruned {
			select {
			case <-done:
				return
			default:
				p.prune(t, cache)
			}
		}
	})
	for kind, args := range map[string][]string{
		"exact":  {"example.com/tool@v1.2.3"},
		"moving": {"example.com/tool@latest"},
		"main":   {"example.com/tool@latest", "--as-main"},
		"local":  {"."},
	} {
		for n := range 2 {
			who := fmt.Sprintf("%s-%d", kind, n)
			running.Go(func() {
				dir := filepath.Join(filepath.Dir(p.module), fmt.Sprintf("layout-%s-%d", who, round))
				cmd, out := p.push(t.Context(), fmt.Sprintf("%s-%d", who, round), 0, append(args, "--cache", cache, "-o", "oci:"+dir)...)
				var answer bytes.Buffer
				cmd.Stdout = &answer
				if err := cmd.Run(); err != nil {
					t.Errorf("round %d, %s: %v\n%s", round, who, err, out)
					return
				}
				first, _, _ := strings.Cut(answer.String(), "\n")
				_, digest, _ := strings.Cut(first, "@")
				mu.Lock()
				defer mu.Unlock()
				digests[who] = digest
			})
		}
	}
	running.Wait()
	close(done)
	pruning.Wait()
	return digests
}

// prune removes everything from the cache that no run protects.
func (p *plant) prune(t *testing.T, cache string) {
	cmd := exec.CommandContext(t.Context(), p.program, "cache", "prune", "--cache", cache)
	cmd.Env = p.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// ageAll makes all entries of the cache look as if they were used long ago.
func ageAll(t *testing.T, cache string) {
	t.Helper()
	old := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(cache, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, old, old)
	}); err != nil {
		t.Fatal(err)
	}
}

// serveModule serves a program at a version like a module proxy, from files, and returns
// the settings to use it.
func serveModule(t *testing.T, path, version string) []string {
	t.Helper()
	proxy := t.TempDir()
	at, src := filepath.Join(proxy, filepath.FromSlash(path), "@v"), filepath.Join(proxy, "src")
	mod := "module " + path + "\n\ngo 1.26\n"
	for file, text := range map[string]string{
		filepath.Join(src, "go.mod"): mod, filepath.Join(src, "main.go"): "package main\n\nfunc main() { println(2) }\n",
		filepath.Join(at, "list"): version + "\n", filepath.Join(at, version+".mod"): mod, filepath.Join(at, version+".info"): `{"Version":"` + version + `"}`,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.CreateFromDir(archive, module.Version{Path: path, Version: version}, src), archive.Close()); err != nil {
		t.Fatal(err)
	}
	return []string{"GOPROXY=file://" + filepath.ToSlash(proxy), "GOSUMDB=off", "GOMODCACHE=" + filepath.Join(t.TempDir(), "modcache"), "GOFLAGS=-modcacherw"}
}
