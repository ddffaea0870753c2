// Package debs makes the entries of a layer of Debian packages. It unpacks the packages and
// runs nothing of them: rules that the caller declares replace the scripts that dpkg would
// run.
//
// A [Maker] unpacks each package once, whichever images it is for. A [Set] places the packages
// of an image on its base: packages that the base has are left out, links of the base are
// followed, and nothing is written over one. Files of packages belong to root.
package debs

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/internal/stream"
)

// FormatVersion must change when the same packages make other entries, so that a layer in a
// cache of an older version is not used.
const FormatVersion = 1

// maxAtOnce bounds the packages that are unpacked at once: a decompressor may need 64 MiB, and
// usually needs 8.
const maxAtOnce = 2

// A Package is a package of the lock.
type Package struct {
	Name, Version, Architecture string // Architecture is Debian's name
	URL                         string
	SHA256                      string // in hexadecimal digits
}

// The rules that replace scripts.
const (
	ruleIgnore         = "ignore"
	ruleAlternatives   = "alternatives"
	ruleCACertificates = "ca-certificates"
)

// A Maker unpacks packages. It is safe for concurrent use; its fields must not change after
// the first call.
type Maker struct {
	Work string // an existing directory, which the caller removes
	// Download returns the path of a file with the content of a URL, which has this sha256.
	Download func(ctx context.Context, url, sha256 string) (path string, err error)

	once     sync.Once
	slots    chan struct{}
	unpacked once.Memo[string, *unpacked] // by sha256 and whether documentation is kept
}

// An unpacked is a package whose files are in one file, one after another.
type unpacked struct {
	debian.Deb
	files   []unpackedFile
	dropped map[string]bool // paths of documentation that is left out
	spool   string          // the file
}

// An unpackedFile is a file of a package.
type unpackedFile struct {
	debian.File
	content string // sha256 of a regular file
	at      int64  // where its content begins
}

// A Set is the packages of an image.
type Set struct {
	Packages []Package
	Install  []string          // names that the base or Packages must have
	Rules    map[string]string // for scripts, by package
	Docs     bool              // keep documentation

	unpacked []*unpacked // of Packages
}

// Unpack downloads and unpacks the packages of a set. Several sets share the work.
func (m *Maker) Unpack(ctx context.Context, s *Set) error {
	m.once.Do(func() { m.slots = make(chan struct{}, maxAtOnce) })
	s.unpacked = make([]*unpacked, len(s.Packages))
	errs := make([]error, len(s.Packages))
	var wg sync.WaitGroup
	for i, p := range s.Packages {
		wg.Go(func() { s.unpacked[i], errs[i] = m.get(ctx, p, s.Docs) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// get returns an unpacked package.
func (m *Maker) get(ctx context.Context, p Package, docs bool) (*unpacked, error) {
	return m.unpacked.Do(ctx, fmt.Sprint(p.SHA256, docs), func() (*unpacked, error) {
		if m.Download == nil {
			return nil, errors.New("this Builder downloads nothing")
		}
		select {
		case m.slots <- struct{}{}:
			defer func() { <-m.slots }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		file, err := m.Download(ctx, p.URL, p.SHA256)
		if err != nil {
			if hint.KindOf(err) == hint.Build {
				return nil, hint.New(hint.Build, "if the archive does not have this version any more, run mabuild lock --update, or use a snapshot", "package %s %s: %w", p.Name, p.Version, err)
			}
			return nil, fmt.Errorf("package %s %s: %w", p.Name, p.Version, err)
		}
		u, err := m.unpack(ctx, file, docs)
		if err == nil {
			err = u.Is(p.Name, p.Version, p.Architecture)
		}
		if err != nil {
			return nil, hint.New(hint.Content, "", "package %s %s: %s: %w", p.Name, p.Version, p.URL, err)
		}
		return u, nil
	})
}

// unpack unpacks the package in a file.
func (m *Maker) unpack(ctx context.Context, file string, docs bool) (u *unpacked, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	spool, err := os.CreateTemp(m.Work, "package-*")
	if err != nil {
		return nil, err
	}
	u = &unpacked{dropped: map[string]bool{}, spool: spool.Name()}
	var at int64
	buffer := make([]byte, 64<<10)
	err = debian.Read(stream.ReadAlive(ctx, f), func(d *debian.Deb) error {
		u.Deb = *d
		return nil
	}, func(one debian.File, content io.Reader) error {
		if !docs && isDocumentation(one) {
			u.dropped[one.Path] = true
			return nil
		}
		e := unpackedFile{File: one, at: at}
		if one.Mode.IsRegular() && one.Hard == "" {
			h := sha256.New()
			n, err := io.CopyBuffer(io.MultiWriter(spool, h), content, buffer)
			if err != nil {
				return err
			}
			at += n
			e.content = hex.EncodeToString(h.Sum(nil))
		}
		u.files = append(u.files, e)
		return nil
	})
	if err = errors.Join(err, spool.Close()); err != nil {
		return nil, err
	}
	return u, nil
}

// documentation has the directories of which only licences are kept.
var documentation = []string{"doc", "groff", "info", "linda", "lintian", "locale", "man"}

// isDocumentation reports whether a file is a manual page, a translation or documentation. The
// licence of a package is not.
func isDocumentation(f debian.File) bool {
	rest, below := strings.CutPrefix(f.Path, "usr/share/")
	if !below {
		return false
	}
	kind, name, below := strings.Cut(rest, "/")
	for _, one := range documentation {
		if kind != one {
			continue
		}
		if !below { // the directory of all
			return f.Mode.IsDir()
		}
		// The directory of a package may be a link to that of another one.
		licence := kind == "doc" && (path.Base(name) == "copyright" || f.Mode&fs.ModeSymlink != 0 && !strings.Contains(name, "/"))
		return !licence
	}
	return false
}

// entry returns the entry of a file under another path.
func (u *unpacked) entry(f unpackedFile, name string) layerfile.Entry {
	e := layerfile.Entry{Name: name, Mode: f.Bits}
	switch {
	case f.Mode.IsDir():
		e.Kind = tar.TypeDir
	case f.Mode&fs.ModeSymlink != 0:
		e.Kind, e.Link, e.Mode = tar.TypeSymlink, f.Link, 0o777
	default:
		e.Kind, e.Size, e.Content = tar.TypeReg, f.Size, f.content
		e.Open = func() (io.ReadCloser, error) {
			spool, err := os.Open(u.spool)
			if err != nil {
				return nil, err
			}
			return stream.WithClose(io.NewSectionReader(spool, f.at, f.Size), spool.Close), nil
		}
	}
	return e
}
