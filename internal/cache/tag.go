package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// A ForeignError says that a directory has something that is none of a cache's.
type ForeignError struct{ Name string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("it holds %s, which is no part of a cache", e.Name)
}

// Hint returns the way out.
func (e *ForeignError) Hint() string { return "name a directory that is new or empty" }

// own marks the directory as a cache: one that is marked already, or has nothing but
// a cache's directories and what begins with a dot.
func (c *Cache) own() error {
	if content, err := os.ReadFile(filepath.Join(c.dir, tagName)); err == nil && strings.HasPrefix(string(content), signature) {
		return nil
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); !slices.Contains(rooms, name) && name != "lost+found" && !strings.HasPrefix(name, ".") {
			return &ForeignError{name}
		}
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, tagName), []byte(tag), 0o644)
}
