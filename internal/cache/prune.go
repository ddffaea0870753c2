package cache

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mabuild/mabuild/internal/claim"
)

// A Kind is one of the things a cache holds.
type Kind struct {
	Name  string `json:"name"` // blobs, records, programs, …
	Items int    `json:"items"`
	Bytes int64  `json:"bytes"`
}

// An item is what is pruned at once: a file, or a directory that is claimed.
type item struct {
	kind  string
	path  string
	bytes int64
	used  time.Time
	dir   bool
}

// Usage returns what the cache holds, by kind.
func (c *Cache) Usage() ([]Kind, error) {
	items, err := c.items()
	if err != nil {
		return nil, err
	}
	var kinds []Kind
	for _, i := range items {
		if i.empty() {
			continue
		}
		if len(kinds) == 0 || kinds[len(kinds)-1].Name != i.kind {
			kinds = append(kinds, Kind{Name: i.kind})
		}
		kinds[len(kinds)-1].Items++
		kinds[len(kinds)-1].Bytes += i.bytes
	}
	return kinds, nil
}

// Prune removes what was used longest ago until at most limit bytes are left, and
// returns how many it removed. What others count on stays: what any run used that has
// entered and not left, and what is claimed. Who enters meanwhile waits. Where files
// cannot be locked, so that nobody knows who counts on what, nothing is removed, which
// is an error.
func (c *Cache) Prune(ctx context.Context, limit int64) (freed int64, err error) {
	items, err := c.items()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, i := range items {
		total += i.bytes
	}
	slices.SortFunc(items, func(a, b item) int { return a.used.Compare(b.used) })
	lock, err := c.holdAlone(ctx)
	if err != nil {
		return 0, err
	}
	defer lock.Close() //nolint:errcheck // the end of the process would do
	keep := c.needed()
	var errs []error
	for _, i := range items {
		if total-freed <= limit && !i.empty() {
			continue
		}
		if ctx.Err() != nil {
			return freed, errors.Join(append(errs, context.Cause(ctx))...)
		}
		removed, err := i.remove(keep)
		if removed {
			freed += i.bytes
		}
		errs = append(errs, err)
	}
	c.processRuns.stored.Store(false)
	touched(lock.Path())
	return freed, errors.Join(append(errs, c.Sweep())...)
}

// Pruned returns when the cache was pruned last, or made.
func (c *Cache) Pruned() time.Time {
	if c == nil {
		return time.Time{}
	}
	info, err := os.Stat(c.lockFile())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// empty reports whether an item is a directory that something was in once, or will be.
func (i item) empty() bool { return i.dir && i.bytes == 0 }

// remove removes an item unless somebody holds it, or keep says that it is needed.
func (i item) remove(keep func(used time.Time) bool) (removed bool, err error) {
	if keep(i.used) {
		return false, nil
	}
	if i.dir {
		return claim.Remove(i.path, keep)
	}
	if info, err := os.Lstat(i.path); err != nil || keep(info.ModTime()) { // used since it was looked at
		return false, ignoreMissing(err)
	}
	err = os.Remove(i.path)
	return err == nil, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// items lists what the cache holds, by kind.
func (c *Cache) items() ([]item, error) {
	if c == nil {
		return nil, nil
	}
	var items []item
	add := func(kind, dir string, whole bool) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return ignoreMissing(err)
		}
		for _, e := range entries {
			i := item{kind: kind, path: filepath.Join(dir, e.Name()), dir: whole && e.IsDir()}
			if err := i.measure(); err != nil {
				return err
			}
			items = append(items, i)
		}
		return nil
	}
	algorithms, err := os.ReadDir(filepath.Join(c.dir, "blobs"))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	for _, a := range algorithms {
		if err := add("blobs", c.blobs(a.Name()), false); err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		add("modules", filepath.Join(c.dir, "modules"), true),
		add("programs", filepath.Join(c.dir, "programs"), true),
		add("records", c.records(), false),
	)
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(a.kind, b.kind) })
	return items, err
}

// measure fills in size and last use. What vanishes meanwhile has neither.
func (i *item) measure() error {
	return filepath.WalkDir(i.path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		if !d.IsDir() {
			i.bytes += info.Size()
		}
		if info.ModTime().After(i.used) {
			i.used = info.ModTime()
		}
		return nil
	})
}

// touched marks a file as used, so that it is pruned later.
func touched(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // only the order of pruning is at stake
}
