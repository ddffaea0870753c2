package unchanged

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"
)

// contentKind is the kind of the records of files that are used as they are.
const contentKind = "content"

// Content returns the content of f, which is open at path. It does not read f if the file
// has not changed since it was read before, by the same rules as for sources: the file
// system is trusted, and the last change of the file was at least granularity before the
// file was read. The offset of f is not changed.
func (s *Store) Content(path string, f *os.File) (p Program, err error) {
	start := time.Now()
	before, changed := stamp(f)
	key := fmt.Sprintf("%q %s", path, before)
	known := before != "" && trusted(path) && !changed.After(start.Add(-granularity))
	if known && s.Cache.Load(contentKind, key, &p) {
		return p, nil
	}
	h := sha256.New()
	if p.Size, err = io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return p, err
	}
	p.Content = hex.EncodeToString(h.Sum(nil))
	if after, _ := stamp(f); known && after == before {
		_ = s.Cache.Store(contentKind, key, p) // lost: it is read again
	}
	return p, nil
}

// stamp returns what identifies the version of an open file, "" if nothing does, and when it
// changed.
func stamp(f *os.File) (identity string, changed time.Time) {
	info, err := f.Stat()
	if err != nil {
		return "", changed
	}
	identity, changed, _, err = identify(info)
	if err != nil {
		return "", changed
	}
	return identity, changed
}
