package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// out returns where the program is compiled to: always the same place for the
// same program and flags, so that the go command finds it up to date, and
// nobody else's while it is locked, and neither is its place in the work directory.
func (r *buildRun) out(ctx context.Context, p ocispec.Platform, how Compile) (path string, unlock func(), err error) {
	main := r.spec.Main
	b, err := json.Marshal([]any{main.Dir, main.ImportPath, platform.Key(target(p)), how})
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(b)
	key := hex.EncodeToString(sum[:16])
	leave, err := r.locks.lock(ctx, key)
	if err != nil {
		return "", nil, err
	}
	if dir, release, err := r.cache.Claim(ctx, "programs", key); err == nil {
		return filepath.Join(dir, r.spec.Name), func() { release(); leave() }, nil
	} else if ctx.Err() != nil {
		leave()
		return "", nil, context.Cause(ctx)
	}
	if path, err = r.workFile(key); err != nil {
		leave()
		return "", nil, err
	}
	return path, leave, nil
}

// programRoom is what a cache must have room for to hold a program.
const programRoom = 128 << 20

// workFile returns where a program lies in the work directory.
func (r *buildRun) workFile(key string) (string, error) {
	dir := filepath.Join(r.Work, "programs", key)
	return filepath.Join(dir, r.spec.Name), os.MkdirAll(dir, 0o750)
}

// locks keeps the builds of one Builder out of each other's way, by key. The zero
// value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // takes one, who holds it
}

// lock waits for the lock of a key; unlock may be called more than once.
func (l *locks) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	lock := l.held[key]
	if lock == nil {
		if l.held == nil {
			l.held = map[string]chan struct{}{}
		}
		lock = make(chan struct{}, 1)
		l.held[key] = lock
	}
	l.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return sync.OnceFunc(func() { <-lock }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
