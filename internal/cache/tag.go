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

// rooms are the names of a cache's directories.
var rooms = []string{"blobs", "modules", "programs", "records", "runs", "tmp"}

// tagName is the file that marks a directory as a cache, to us and to programs that
// back up (Cache Directory Tagging Specification, https://bford.info/cachedir/).
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

// own marks the directory as a cache: one that is marked already, or has nothing but
// a cache's directories and what begins with a dot.
func (c *Cache) own() error {
	file := filepath.Join(c.dir, tagName)
	content, err := os.ReadFile(file)
	if c.tagged() {
		return nil
	}
	begun := err == nil && strings.HasPrefix(tag, string(content)) // on a disk that was full
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

// tagged reports whether the mark is there by now: another process may just have made
// it.
func (c *Cache) tagged() bool {
	content, err := os.ReadFile(filepath.Join(c.dir, tagName))
	return err == nil && strings.HasPrefix(string(content), signature)
}

// mark makes the mark, whole or not at all. Where there is no room for it the next one
// makes it: the directory has nothing else.
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
