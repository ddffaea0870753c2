package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/claim"
)

// aged opens a cache with two blobs, two records and two directories, last used an hour
// ago.
func aged(t *testing.T) (*cache.Cache, string) {
	t.Helper()
	dir := t.TempDir()
	c := open(t, dir)
	for _, name := range []string{"one", "two"} {
		if err := errors.Join(c.Put(hash(t, name), strings.NewReader(name)), c.Store("kind", name, name)); err != nil {
			t.Fatal(err)
		}
		use(t, c, name)
	}
	age(t, dir)
	return c, dir
}

// use claims a directory and puts a file in it.
func use(t *testing.T, c *cache.Cache, key string) {
	t.Helper()
	at, release, err := c.Claim(t.Context(), "programs", key)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.WriteFile(filepath.Join(at, "program"), []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// age makes everything in the cache an hour old, except the files of runs.
func age(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, pattern := range []string{"blobs/*/*", "records/*", "programs/*/*", "programs/*/.lock", "programs/*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range files {
			err = errors.Join(err, os.Chtimes(file, old, old))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func prune(t *testing.T, c *cache.Cache) int64 {
	t.Helper()
	freed, err := c.Prune(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return freed
}

// has returns the names whose blob, record and program are all present. It is an error if
// only some of them are.
func has(t *testing.T, c *cache.Cache, dir string) (names string) {
	t.Helper()
	for _, name := range []string{"one", "two"} {
		var s string
		_, err := c.Size(hash(t, name))
		program := filepath.Join(dir, "programs", name, "program")
		_, perr := os.Stat(program)
		switch there := []bool{err == nil, c.Load("kind", name, &s), perr == nil}; {
		case there[0] && there[1] && there[2]:
			names += name + " "
		case there[0] || there[1] || there[2]:
			t.Errorf("%s: blob, record and program are present: %v", name, there)
		}
	}
	return names
}

// Prune keeps what a live run has used until that run ends, and removes everything else.
func TestPruneKeepsWhatRunsCountOn(t *testing.T) {
	c, dir := aged(t)
	run, other := open(t, dir), open(t, dir)
	leave, err := run.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	later, err := other.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var s string
	if _, err := run.Size(hash(t, "two")); err != nil || !run.Load("kind", "two", &s) {
		t.Fatal(err)
	}
	use(t, run, "two")
	if prune(t, c) == 0 {
		t.Error("nothing was removed")
	}
	if got := has(t, c, dir); got != "two " {
		t.Errorf("the cache has %q, want two", got)
	}
	later()
	prune(t, c)
	if got := has(t, c, dir); got != "two " {
		t.Errorf("after the end of another run the cache has %q, want two", got)
	}
	leave()
	leave()
	prune(t, c)
	if got := has(t, c, dir); got != "" {
		t.Errorf("after the end of all runs the cache has %q", got)
	}
	for _, left := range []string{"runs/run-*", "programs/*"} {
		if files, err := filepath.Glob(filepath.Join(dir, left)); err != nil || len(files) > 0 {
			t.Errorf("leftover files %v, %v", files, err)
		}
	}
}

// The file of a killed run protects nothing, and Prune removes it.
func TestPruneIgnoresDeadRuns(t *testing.T) {
	c, dir := aged(t)
	dead := filepath.Join(dir, "runs", "run-1")
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	use(t, c, "one")
	prune(t, c)
	if got := has(t, c, dir); got != "" {
		t.Errorf("the cache has %q", got)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the file of the dead run: %v", err)
	}
}

// questioned is a context that calls when each time Err is called.
type questioned struct {
	context.Context
	when func()
}

func (q questioned) Err() error {
	q.when()
	return q.Context.Err()
}

// A run that starts while another process prunes waits until the prune ends, and a prune
// waits for a run that is starting.
func TestPruneAndEnterWaitForEachOther(t *testing.T) {
	c, dir := aged(t)
	gate := filepath.Join(dir, "runs", "gate")
	entering := claim.Lock(gate)
	if ok, err := entering.TryRLock(); err != nil || !ok { // as a starting run does
		t.Fatal(ok, err)
	}
	soon := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 2*claim.Patience)
	}
	ctx, cancel := soon()
	defer cancel()
	if freed, err := c.Prune(ctx, 0); !errors.Is(err, context.DeadlineExceeded) || freed != 0 {
		t.Errorf("pruned %d bytes while a run was starting: %v", freed, err)
	}
	if got := has(t, c, dir); got != "one two " {
		t.Errorf("while a run is starting the cache has %q", got)
	}
	if err := entering.Close(); err != nil {
		t.Fatal(err)
	}

	// Prune checks its context before each removal. The first check comes before the lock.
	var entered sync.WaitGroup
	questions := 0
	during := questioned{t.Context(), func() {
		questions++
		if questions == 1 {
			return
		}
		other := open(t, dir)
		ctx, cancel := soon()
		defer cancel()
		if leave, err := other.Hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
			leave()
			t.Errorf("a run started before removal %d: %v", questions-1, err)
		}
		if questions > 2 {
			return
		}
		entered.Go(func() {
			leave, err := other.Hold(t.Context())
			if err != nil {
				t.Error(err)
			}
			defer leave()
			if got := has(t, other, dir); got != "" {
				t.Errorf("after the prune a waiting run finds %q", got)
			}
		})
	}}
	if freed, err := c.Prune(during, 0); err != nil || freed == 0 {
		t.Errorf("pruned %d bytes, %v", freed, err)
	}
	entered.Wait()
	if questions < 3 {
		t.Errorf("the context was checked %d times", questions)
	}
}

// Prune removes nothing if it cannot lock the cache or its context has ended.
func TestPruneThatCannotLockRemovesNothing(t *testing.T) {
	c, dir := aged(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Prune(ctx, 0); err == nil {
		t.Error("Prune succeeds with an ended context")
	}
	gate := filepath.Join(dir, "runs", "gate")
	if err := errors.Join(os.RemoveAll(gate), os.Mkdir(gate, 0o755)); err != nil { // a directory cannot be locked
		t.Fatal(err)
	}
	if _, err := c.Prune(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "nothing is removed") {
		t.Errorf("got %v", err)
	}
	if leave, err := c.Hold(t.Context()); err == nil {
		leave()
		t.Error("entered")
	} else {
		leave()
	}
	if got := has(t, c, dir); got != "one two " {
		t.Errorf("the cache has %q", got)
	}
}

// HoldForever keeps this process's use of the cache, unless a run of the process already
// holds it.
func TestStay(t *testing.T) {
	c, dir := aged(t)
	runs := func() int {
		files, err := filepath.Glob(filepath.Join(dir, "runs", "run-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	leave, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.HoldForever(t.Context()); err != nil || runs() != 1 {
		t.Errorf("%d runs, %v", runs(), err)
	}
	leave()
	other := open(t, dir)
	if err := other.HoldForever(t.Context()); err != nil || runs() != 1 {
		t.Errorf("%d runs, %v", runs(), err)
	}
	use(t, other, "one")
	prune(t, c)
	if _, err := os.Stat(filepath.Join(dir, "programs", "one", "program")); err != nil {
		t.Error(err)
	}
	if err := other.HoldForever(t.Context()); err != nil { // keeps other reachable until here
		t.Error(err)
	}
}
