package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// outKey identifies the path that the program is compiled to.
func (g *goMaker) outKey(p ocispec.Platform, how Compile) (string, error) {
	main := g.spec.goPackage().Main
	b, err := json.Marshal([]any{main.Dir, main.ImportPath, platform.Key(target(p)), how})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), err
}

// out returns the path that the program is compiled to. The same program with the same
// flags always has the same path, so that the go command can find it up to date. The path
// is in the cache if possible, else in the work directory.
//
// The path belongs to the caller alone until unlock. The lock of the Builder comes first,
// since it also protects the path in the work directory; the claim in the cache keeps
// other processes away. A file that may be damaged is not at the path.
func (g *goMaker) out(ctx context.Context, p ocispec.Platform, how Compile) (path string, unlock func(), err error) {
	key, err := g.outKey(p, how)
	if err != nil {
		return "", nil, err
	}
	leave, err := g.lock(ctx, key)
	if err != nil {
		return "", nil, err
	}
	if dir, release, err := g.cache.Claim(ctx, "programs", key); err == nil {
		path, unlock = filepath.Join(dir, g.spec.Name), func() { release(); leave() }
	} else if ctx.Err() != nil {
		leave()
		return "", nil, context.Cause(ctx)
	}
	if path == "" {
		path, err = g.workFile(key)
		unlock = leave
	}
	// A damaged file that cannot be removed must not be found up to date.
	if err == nil && g.checkSum(path) != nil {
		path, err = g.workFile(key)
	}
	if err != nil {
		unlock()
		return "", nil, err
	}
	return path, unlock, nil
}

// programRoom is the free space in bytes that a directory needs to hold a program. It is
// checked only after a failure.
const programRoom = 128 << 20

// workFile returns the path of a program in the work directory, and makes its directory.
func (g *goMaker) workFile(key string) (string, error) {
	dir := filepath.Join(g.Work, "programs", key)
	return filepath.Join(dir, g.spec.Name), os.MkdirAll(dir, 0o750)
}

// lock waits for the lock of a key, or until ctx ends. It excludes concurrent builds of
// one Builder from the same path. A full channel is a held lock; it is used in place of a
// mutex so that the wait can end. A lock is never removed: there are only as many as there
// are programs. unlock may be called more than once.
func (b *Builder) lock(ctx context.Context, key string) (unlock func(), err error) {
	found, _ := b.locks.LoadOrStore(key, make(chan struct{}, 1))
	lock := found.(chan struct{})
	select {
	case lock <- struct{}{}:
		return sync.OnceFunc(func() { <-lock }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sumName is the name of the file beside a program that holds the digest of the program.
// The go command finds a program up to date by the build ID in it, and does not notice if
// the rest of the file is damaged or replaced. So the digest is compared before the go
// command may find the program up to date.
const sumName = ".sha256"

// writeSum stores the digest of a program that was just compiled. Without a stored digest
// the program is linked again in the next build, so an error is ignored.
func (b *Builder) writeSum(file, digest string) {
	_ = os.WriteFile(filepath.Join(filepath.Dir(file), sumName), []byte(b.sumOf(file, digest)), 0o600)
}

// sumOf returns the content of the file: the digest and, in a sealed cache, a proof that
// only a Builder with the key of the cache can make.
func (b *Builder) sumOf(file, digest string) string {
	return digest + b.cache.Proof("program", filepath.Base(filepath.Dir(file)), filepath.Base(file), digest)
}

// checkSum removes the file unless it is a regular file with the stored digest. It fails
// if the file cannot be removed. The caller holds the lock of the path.
func (b *Builder) checkSum(file string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		want, err := os.ReadFile(filepath.Join(filepath.Dir(file), sumName))
		// The proof contains the path and the digest, so a proof for another program does
		// not count.
		if is, herr := layerfile.File("", 0, file); err == nil && herr == nil && b.sumOf(file, is.Content) == string(want) {
			return nil
		}
	}
	return os.RemoveAll(file)
}
