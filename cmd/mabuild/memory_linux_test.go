package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
)

// A push of programs and of a base that are larger than it may be takes 64 MB, of
// which compilers have no part. The race detector keeps up to ten times as much.
func TestPushIsSmallerThanWhatItPushes(t *testing.T) {
	r, err := regtest.New(regtest.Options{})
	check(t, err)
	defer func() { check(t, r.Close()) }()
	dir := t.TempDir()
	noise := make([]byte, 36<<20)
	_, _ = rand.New(rand.NewSource(1)).Read(noise) // never fails
	for name, content := range map[string][]byte{
		"go.mod":  []byte("module example.com/large\n\ngo 1.26\n"),
		"main.go": []byte("package main\n\nimport _ \"embed\"\n\n//go:embed noise\nvar noise []byte\n\nfunc main() { println(len(noise)) }\n"),
		"noise":   noise,
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	push := func(tag string, more ...string) int {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "mabuild", append([]string{"push", "--platforms", "linux/amd64,linux/arm64", "-t", r.Host + "/" + tag}, more...)...)
		var out bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		cmd.Env = append(os.Environ(), "MABUILD_CACHE="+filepath.Join(dir, ".cache"))
		check(t, cmd.Start())
		most := make(chan int)
		done := make(chan struct{})
		go func() { most <- peak(cmd.Process.Pid, done) }()
		err := cmd.Wait()
		close(done)
		mb := <-most
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		return mb
	}
	limit := 64
	if raceDetector {
		limit *= 10
	}
	for _, c := range []struct {
		what string
		mb   int
	}{
		{"programs of 36 MiB", push("large:v1")},
		{"again, onto a base of them", push("larger:v1", "--base", r.Host+"/large:v1")},
	} {
		t.Logf("%s: %d MB", c.what, c.mb)
		if c.mb == 0 || c.mb > limit {
			t.Errorf("%s: %d MB, at most %d are wanted", c.what, c.mb, limit)
		}
	}
}

// peak returns the most memory, in MB, that a process had until done. What wait4
// says of it includes its compilers.
func peak(pid int, done <-chan struct{}) (most int) {
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, text, ok := strings.Cut(string(raw), "VmHWM:"); ok && err == nil {
			if kib, err := strconv.Atoi(strings.Fields(text)[0]); err == nil {
				most = max(most, kib<<10/1_000_000)
			}
		}
		select {
		case <-done:
			return most
		case <-time.After(2 * time.Millisecond):
		}
	}
}
