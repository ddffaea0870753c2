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

// A Kind says how much the cache holds of one kind of entries.
type Kind struct {
	Name  string `json:"name"` // blobs, records, programs, …
	Items int    `json:"items"`
	Bytes int64  `json:"bytes"`
}

// An item is the unit of pruning: a file, or a directory that is held with [Cache.Claim].
type item struct {
	kind  string
	path  string
	bytes int64
	used  time.Time // the newest modification time of the file, or of anything in the directory
	dir   bool
}

// Usage returns what the cache holds, sorted by kind. Empty directories are not counted.
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

// Prune removes the least recently used items until at most limit bytes are left, and
// returns how many bytes it removed. It keeps what any run used that holds the cache, and
// directories that are claimed; more than limit bytes may therefore be left. [Cache.Hold]
// waits while Prune runs. If files cannot be locked, Prune cannot find out what is in
// use: it removes nothing and returns an error.
//
// The items are listed before the lock is taken, since that may take long and would delay
// runs that start. An item that is used in between is found by its new time when it is
// about to be removed.
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
	defer lock.Close() //nolint:errcheck // the lock ends with the process at the latest
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

// Pruned returns when the cache was pruned last, or created if it never was. It is the
// zero time if that is unknown.
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

// empty reports whether an item is a directory without content. Prune removes it whatever
// the limit is, since it frees no bytes.
func (i item) empty() bool { return i.dir && i.bytes == 0 }

// remove removes an item unless it is held or keep returns true for its last use. A file
// is checked again directly before it is removed.
func (i item) remove(keep func(used time.Time) bool) (removed bool, err error) {
	if keep(i.used) {
		return false, nil
	}
	if i.dir {
		return claim.Remove(i.path, keep)
	}
	if info, err := os.Lstat(i.path); err != nil || keep(info.ModTime()) { // used since it was listed
		return false, ignoreMissing(err)
	}
	err = os.Remove(i.path)
	return err == nil, ignoreMissing(err)
}

// ignoreMissing returns nil for fs.ErrNotExist: another process may remove the same
// entry.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// items lists what the cache holds, sorted by kind.
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
		add("gocache", filepath.Join(c.dir, "gocache"), true),
		add("modules", filepath.Join(c.dir, "modules"), true),
		add("programs", filepath.Join(c.dir, "programs"), true),
		add("records", c.records(), false),
	)
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(a.kind, b.kind) })
	return items, err
}

// measure sets size and last use. A file that another process removes meanwhile counts
// for nothing.
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

// touched marks a file as used now, which Prune reads from its modification time.
func touched(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // a failure changes only the order of pruning
}
