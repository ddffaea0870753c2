package cache

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
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
		if len(kinds) == 0 || kinds[len(kinds)-1].Name != i.kind {
			kinds = append(kinds, Kind{Name: i.kind})
		}
		kinds[len(kinds)-1].Items++
		kinds[len(kinds)-1].Bytes += i.bytes
	}
	return kinds, nil
}

// Prune removes what was used longest ago until at most limit bytes are left, and
// returns how many it removed. What a run holds at this moment stays.
func (c *Cache) Prune(limit int64) (freed int64, err error) {
	items, err := c.items()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, i := range items {
		total += i.bytes
	}
	slices.SortFunc(items, func(a, b item) int { return a.used.Compare(b.used) })
	var errs []error
	for _, i := range items {
		if total-freed <= limit {
			break
		}
		removed, err := i.remove()
		if removed {
			freed += i.bytes
		}
		errs = append(errs, err)
	}
	return freed, errors.Join(append(errs, c.Sweep())...)
}

// remove removes an item unless somebody holds it.
func (i item) remove() (removed bool, err error) {
	if !i.dir {
		err = os.Remove(i.path)
		return err == nil, ignoreMissing(err)
	}
	lock := flock.New(filepath.Join(i.path, lockName))
	held, err := lock.TryLock()
	if err != nil || !held {
		return false, nil //nolint:nilerr // in use, or of somebody else: it stays
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	// The lock stays: somebody may be waiting for it.
	entries, err := os.ReadDir(i.path)
	for _, e := range entries {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(i.path, e.Name())))
		}
	}
	return err == nil, err
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
			if !i.dir || i.bytes > 0 {
				items = append(items, i)
			}
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
