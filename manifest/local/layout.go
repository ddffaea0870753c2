package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
)

// A Layout is a directory in the form of an OCI image layout (image-spec,
// image-layout.md). Its references are the names of entries of index.json
// ("app:v1", or "v1" where that is clear), "@" and a digest, both in this order, or empty
// for the only image there is ([Place.Ref]). A name is the full one that containerd and
// Docker write, or else that of the specification; [SeveralError] says that it is the
// name of several images.
//
// Several goroutines and processes may use one directory at once. A process that
// is killed leaves index.json as it was or as it was to be, and at worst a file
// that a later Put sweeps away.
//
// What refers to an image (a signature, an SBOM) is put under its own digest,
// "@sha256:…", or under cosign's tag: an entry more, beside the one with the name.
// The only image there is is the only one that refers to no other.
type Layout struct {
	Dir string

	stored sync.Map // v1.Hash of each blob that is surely there
	links  links
}

var (
	_ manifest.Source = (*Layout)(nil)
	_ manifest.Sink   = (*Layout)(nil)
)

const (
	marker  = ocispec.ImageLayoutFile
	layout1 = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`
	temp    = outfile.Temp // begins the names of files that are not yet whole
	stale   = 24 * time.Hour
)

func (l *Layout) String() string { return FormLayout + ":" + l.Dir }

// Resolve returns the descriptor of what ref names. A directory that does not
// exist has nothing in it.
func (l *Layout) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	im, err := l.index()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return pick(ctx, l.String(), im, l, ref)
}

// Get returns what ref names.
func (l *Layout) Get(ctx context.Context, ref string) (manifest.Content, error) {
	d, err := l.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := read(ctx, l, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return c, nil
}

// Put stores content and makes ref name it. Entries of other names stay. The
// directory is made if need be; one that has other things in it and is no layout
// is refused. Blobs that are there are kept if their digests are right.
func (l *Layout) Put(ctx context.Context, ref string, content manifest.Content) error {
	return l.PutAll(ctx, manifest.Named{Ref: ref, Content: content})
}

// PutAll stores all contents and then names them at once.
func (l *Layout) PutAll(ctx context.Context, all ...manifest.Named) error {
	entries, err := describe(all)
	if err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return err
	}
	w := walk{ctx: ctx, stored: func(d v1.Descriptor) (manifest.Content, error) { return read(ctx, l, d) }}
	for _, e := range entries {
		if err := w.add(e.content); err != nil {
			return err
		}
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, b := range w.blobs {
		group.Go(func() error { return guard.Do(func() error { return l.store(inner, b) }) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.name(ctx, entries)
}

// prepare makes the directory a layout.
func (l *Layout) prepare() error {
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	// What is written stays in the layout: a checkout may have links in one.
	for _, name := range []string{ocispec.ImageBlobsDir, filepath.Join(ocispec.ImageBlobsDir, "sha256"), filepath.Join(ocispec.ImageBlobsDir, "sha512"), marker, ocispec.ImageIndexFile} {
		if info, err := os.Lstat(filepath.Join(l.Dir, name)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return placed{hint.New(hint.Build, "remove the link, or use another directory", "%s in %s is a link, but a layout is not written through links", name, l.Dir)}
		}
	}
	path := filepath.Join(l.Dir, marker)
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return nil
	}
	if err := l.check(); err != nil {
		return err
	}
	return l.mark(path)
}

// check refuses what is there and neither a layout nor empty.
func (l *Layout) check() error {
	if info, err := os.Stat(l.Dir); err == nil && !info.IsDir() {
		return placed{hint.New(hint.Build, "use an empty or new directory", "%s is not a directory", l.Dir)}
	}
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == marker || strings.HasPrefix(e.Name(), temp) {
			continue
		}
		if _, err := os.Stat(filepath.Join(l.Dir, marker)); err == nil { // perhaps since now
			return nil
		}
		return placed{hint.New(hint.Build, "use an empty or new directory", "%s is not empty and not an OCI layout", l.Dir)}
	}
	return nil
}

// mark makes the file by which a layout is known. It is what Put locks, so it is
// never replaced once it is there.
func (l *Layout) mark(path string) error {
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := io.WriteString(f, layout1); err != nil {
		return err
	}
	if err := f.Finish(0o644); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.WriteFile(path, []byte(layout1), 0o644) // no hard links here
}

// store makes sure that b is there.
func (l *Layout) store(ctx context.Context, b blob) error {
	h := b.desc.Digest
	if _, ok := l.stored.Load(h); ok {
		return nil
	}
	if l.whole(ctx, b.desc) {
		l.stored.Store(h, true)
		return nil
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verify(ctx, r, b.desc)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.Dir, ocispec.ImageBlobsDir, h.Algorithm)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := io.Copy(f, v); err != nil {
		return err
	}
	if err := f.Rename(filepath.Join(dir, h.Hex), 0o644); err != nil {
		return err
	}
	l.stored.Store(h, true)
	return nil
}

// whole reports whether the blob that d describes is there and has its digest.
func (l *Layout) whole(ctx context.Context, d v1.Descriptor) bool {
	r, err := l.open(d)
	if err != nil {
		return false
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verify(ctx, r, d)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, v)
	return err == nil
}

// name makes entries of what is there with all its parts.
func (l *Layout) name(ctx context.Context, entries []entry) error {
	lock := flock.New(filepath.Join(l.Dir, marker), flock.SetFlag(os.O_RDWR))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer lock.Close() //nolint:errcheck // closing a file that was not written
	l.sweep()
	im, err := l.index()
	if errors.Is(err, manifest.ErrNotFound) {
		im, err = newIndex(), nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		e.into(im)
	}
	raw, err := marshal(im)
	if err != nil {
		return err
	}
	at := filepath.Join(l.Dir, ocispec.ImageIndexFile)
	if old, err := os.ReadFile(at); err == nil && bytes.Equal(old, raw) {
		return nil // and nobody who watches the directory is told of news
	}
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return f.Rename(at, 0o644)
}

// sweep removes files that a killed process left half-way.
func (l *Layout) sweep() {
	left, _ := filepath.Glob(filepath.Join(l.Dir, temp+"*"))
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > stale {
			_ = os.Remove(path) // or the next one does
		}
	}
}
