package claim_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/claim"
)

func never(time.Time) bool { return false }

// While some goroutines claim a directory and others remove it, only one holds it at a
// time, no holder loses its files, and in the end it is removed.
func TestHoldersAndRemovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kind", "key")
	var (
		inside  atomic.Int32
		holding sync.WaitGroup
		others  sync.WaitGroup
		done    = make(chan struct{})
		removed atomic.Int32
	)
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if gone, err := claim.Remove(dir, never); err != nil {
					t.Error(err)
				} else if gone {
					removed.Add(1)
				}
			}
		})
	}
	for range 4 {
		holding.Go(func() {
			for range 50 {
				release, err := claim.Dir(t.Context(), dir)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the directory", n)
				}
				file := filepath.Join(dir, "file")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(file); err != nil {
					t.Error(err)
				}
				inside.Add(-1)
				release()
				release()
			}
		})
	}
	holding.Wait()
	close(done)
	others.Wait()
	if _, err := claim.Remove(dir, never); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory still exists: %v", err)
	}
	t.Logf("removed %d times", removed.Load())
}

// A shared directory cannot be claimed alone or removed, and a recently used one is kept.
func TestShareAndKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "key")
	one, err := claim.Share(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := claim.Share(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if release, err := claim.Dir(ctx, dir); err == nil {
		release()
		t.Error("claimed while others share it")
	}
	one()
	if gone, err := claim.Remove(dir, never); gone || err != nil {
		t.Errorf("removed: %t while it is held, %v", gone, err)
	}
	two()
	before := time.Now().Add(-time.Hour)
	lately := func(used time.Time) bool { return used.After(before) }
	if gone, err := claim.Remove(dir, lately); gone || err != nil {
		t.Errorf("removed: %t although it was used recently, %v", gone, err)
	}
	if gone, err := claim.Remove(dir, never); !gone || err != nil {
		t.Errorf("removed: %t, %v", gone, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil { // never claimed
		t.Fatal(err)
	}
	if gone, err := claim.Remove(dir, lately); !gone || err != nil {
		t.Errorf("removed: %t although it was never used, %v", gone, err)
	}
}
