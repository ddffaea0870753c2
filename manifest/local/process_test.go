//go:build !windows

package local

import (
	"context"
	"fmt"
	"hash/fnv"
	legacy "math/rand"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/goleak"

	"github.com/mabuild/mabuild/internal/regtest"
)

// writerEnv turns this test program into a writer. It has the directory, the number of
// images, and the prefix of their names.
const writerEnv = "MABUILD_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		n, _ := strconv.Atoi(os.Args[1])
		os.Exit(writer(dir, n, os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

func writer(dir string, n int, prefix string) int {
	t := &testing.T{}
	l := &ociLayout{Dir: dir}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(prefix))
	source := legacy.NewSource(int64(hash.Sum64()))
	for i := range n {
		if err := l.Put(context.Background(), fmt.Sprintf("%s:%d", prefix, i), makeImageOf(t, source, "linux/amd64", 64<<10)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func startWriter(t *testing.T, dir string, n int, prefix string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], strconv.Itoa(n), prefix)
	cmd.Env, cmd.Stderr = append(os.Environ(), writerEnv+"="+dir), os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Eight processes can write to one new layout at the same time. No image is lost.
func TestWriters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	const processes, each = 8, 5
	var all []*exec.Cmd
	for p := range processes {
		all = append(all, startWriter(t, dir, each, fmt.Sprint("p", p)))
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	l := &ociLayout{Dir: dir}
	im, err := l.index()
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Manifests) != processes*each {
		t.Errorf("%d images of %d", len(im.Manifests), processes*each)
	}
	for p := range processes {
		for i := range each {
			c, err := l.Get(t.Context(), fmt.Sprintf("p%d:%d", p, i))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(c.(v1.Image)); err != nil {
				t.Error(err)
			}
		}
	}
}

// A writer that is killed at any moment leaves only complete images.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	l := &ociLayout{Dir: dir}
	put(t, l, "first:0", makeImage(t, "linux/amd64", 100))
	before, chance := 1, rand.New(rand.NewPCG(uint64(regtest.Seed(t)), 0))
	for round := range 15 {
		cmd := startWriter(t, dir, 1000, fmt.Sprint("r", round))
		for range 1000 { // until it has begun to write
			if im, err := l.index(); err == nil && len(im.Manifests) > before {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(chance.IntN(20_000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		im, err := l.index()
		if err != nil {
			t.Fatal(err)
		}
		if len(im.Manifests) <= before {
			t.Fatalf("round %d: %d images, want at least %d and the new one", round, len(im.Manifests), before)
		}
		before = len(im.Manifests)
		for _, e := range im.Manifests {
			c, err := l.Get(t.Context(), nameOf(e))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(c.(v1.Image), validate.Fast); err != nil {
				t.Error(err)
			}
		}
	}
	old := filepath.Join(dir, temp+"old")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*stale)); err != nil {
		t.Fatal(err)
	}
	put(t, l, "last:0", makeImage(t, "linux/amd64", 100))
	if _, err := os.Stat(old); err == nil {
		t.Error("old files of a killed writer were not removed")
	}
}
