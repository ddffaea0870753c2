package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
)

// rooms are the names of the directories of a cache.
var rooms = []string{"blobs", "gocache", "modules", "programs", "records", "runs", "tmp"}

// tagName is the file that marks a directory as a cache, for this package and for backup
// programs (Cache Directory Tagging Specification, https://bford.info/cachedir/).
const (
	tagName   = "CACHEDIR.TAG"
	signature = "Signature: 8a477f597d28d172789f06886806bc55"
	tag       = signature + "\n# A cache of mabuild. All in it can be removed, best by `mabuild cache prune`.\n"
)

// refuseLinks refuses a cache of which a part leads elsewhere.
func (c *Cache) refuseLinks() error {
	for _, name := range append(slices.Clone(rooms), filepath.Join("blobs", "sha256"), filepath.Join("blobs", "sha512")) {
		if info, err := os.Lstat(filepath.Join(c.dir, name)); err == nil && !info.IsDir() {
			return hint.New(hint.Build, "use another directory, or remove it", "%s in it is a link or not a directory", name) // files would be written and removed elsewhere
		}
	}
	return nil
}

// own writes the tag file, unless it is there. It accepts an empty directory and one that
// has only a cache's directories, lost+found and names that begin with a dot. Anything
// else is a [*ForeignError].
func (c *Cache) own() error {
	file := filepath.Join(c.dir, tagName)
	content, err := os.ReadFile(file)
	if c.tagged() {
		return nil
	}
	begun := err == nil && strings.HasPrefix(tag, string(content)) // cut short by a full disk
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		known := slices.Contains(rooms, name) || name == "lost+found" || strings.HasPrefix(name, ".")
		if !known && (name != tagName || !begun && !c.tagged()) {
			return hint.New(hint.Usage, "use a new or empty directory", "the directory contains %s, which does not belong to a cache", name)
		}
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	c.mark(file)
	return nil
}

// tagged reports whether the tag file is there. Another process may have written it since
// own began, which is why own asks twice.
func (c *Cache) tagged() bool {
	content, err := os.ReadFile(filepath.Join(c.dir, tagName))
	return err == nil && strings.HasPrefix(string(content), signature)
}

// mark writes the tag file, completely or not at all. An error is ignored: a later Open
// writes the file, since it accepts a directory that has only a cache's directories.
func (c *Cache) mark(file string) {
	f, err := outfile.Create(c.dir)
	if err != nil {
		return
	}
	defer f.Cleanup()
	if _, err := f.WriteString(tag); err == nil {
		_ = f.Rename(file, 0o644)
	}
}
