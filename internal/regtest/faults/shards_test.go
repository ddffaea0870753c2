//go:build unix

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// machine runs mabuild on a machine that knows nothing, in a module. It is killed after a number
// of requests; 0: never.
func (p *plant) machine(t *testing.T, module string, kill int, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.program, args...)
	out := &bytes.Buffer{}
	cmd.Dir, cmd.Stdout, cmd.Stderr = module, out, out
	cmd.Env = append(slices.Clone(p.env), "MABUILD_CACHE="+t.TempDir(), "MABUILD_PLATFORMS=linux/amd64,linux/arm64", "MABUILD_BASE=scratch", "MABUILD_PROGRESS=plain")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var waiting sync.WaitGroup
	if kill > 0 {
		waiting.Go(func() { p.at(kill, done, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) })
	}
	err := cmd.Wait()
	close(done)
	waiting.Wait()
	return out.String(), err
}

// published pushes a module to a tag, which then names a complete image, and returns its digest.
func (p *plant) published(t *testing.T, module, tag string, args ...string) v1.Hash {
	t.Helper()
	if out, err := p.machine(t, module, 0, append([]string{"push", "-t", p.Host + "/app:" + tag}, args...)...); err != nil {
		t.Errorf("%s: %v\n%s", tag, err, out)
	}
	return p.names(t, tag)
}

// names returns the digest that a tag names. What it names is complete.
func (p *plant) names(t *testing.T, tag string) v1.Hash {
	t.Helper()
	known := map[string]v1.Hash{}
	if err := p.VerifyTags("app", known); err != nil || known[tag].Hex == "" {
		t.Errorf("%s: %s, %v", tag, known[tag], err)
	}
	return known[tag]
}

// If a shard is killed at any request (by default the first, one in the middle and the last), all
// records are complete, and a push compiles what is missing: it has the digest of a push without
// shards.
func TestShardIsKilled(t *testing.T) {
	p := newPlant(t)
	want := p.published(t, p.module, "want")
	p.Reset()
	out, err := p.machine(t, p.module, 0, "warm", "--shard", "1/2", "--cache-repo", p.Host+"/count")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := len(p.Requests())
	for n := 1; n <= all; n++ {
		if n > 1 && n < all && n != all/2 && os.Getenv("MABUILD_FAULTS") != "whole" {
			continue
		}
		p.Reset()
		repo := fmt.Sprintf("records%d", n)
		_, err := p.machine(t, p.module, n, "warm", "--shard", "1/2", "--cache-repo", p.Host+"/"+repo)
		killed := err != nil
		if err := p.VerifyTags(repo, map[string]v1.Hash{}); err != nil {
			t.Errorf("killed at request %d of %d (%t): %v", n, all, killed, err)
		}
		p.Reset()
		if got := p.published(t, p.module, "v1", "--cache-repo", p.Host+"/"+repo); got != want {
			t.Errorf("killed at request %d: %s, want %s", n, got, want)
		}
	}
}

// Shards of two commits, each of them several times, run at once and in one repository. Each push
// has the digest of its commit, and needs no compiler.
func TestShardsOfTwoCommits(t *testing.T) {
	p := newPlant(t)
	other := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(2) }\n"} {
		if err := os.WriteFile(filepath.Join(other, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	modules := []string{p.module, other}
	want := []v1.Hash{p.published(t, modules[0], "one"), p.published(t, modules[1], "two")}
	if want[0] == want[1] {
		t.Fatal("both commits have one digest")
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			out, err := p.machine(t, modules[i%2], 0, "warm", "--shard", fmt.Sprintf("%d/2", 1+i/2%2), "--cache-repo", p.Host+"/records")
			if err != nil || strings.Contains(out, "warning") {
				errs[i] = fmt.Errorf("%w: %s", err, out)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := p.VerifyTags("records", map[string]v1.Hash{}); err != nil {
		t.Error(err)
	}
	for i := range modules {
		wg.Go(func() {
			for _, tag := range []string{"latest", fmt.Sprint("commit", i)} {
				if out, err := p.machine(t, modules[i], 0, "push", "-t", p.Host+"/app:"+tag, "--cache-repo", p.Host+"/records", "--require-cache"); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
		})
	}
	wg.Wait()
	for i := range modules {
		if got := p.names(t, fmt.Sprint("commit", i)); got != want[i] {
			t.Errorf("commit %d: %s, want %s", i, got, want[i])
		}
	}
	if got := p.names(t, "latest"); got != want[0] && got != want[1] {
		t.Errorf("latest: %s", got)
	}
}
