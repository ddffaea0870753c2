package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/archive"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// unpackedKind is the kind of the records of archives in the cache, and unpackedVersion the
// version of what they hold and of how a program is checked.
const (
	unpackedKind    = "unpacked"
	unpackedVersion = 1
)

// An unpacked says what was taken out of an archive for a platform. It is stored as JSON in the
// cache, so that an unchanged build does not unpack the archive again.
type unpacked struct {
	Program unchanged.Program
	Linkage elf.Linkage
	Info    string         // of Go, as debug.ParseBuildInfo reads it; "": none
	Files   []unpackedFile // in the order of the globs
}

// An unpackedFile is a file beside the program.
type unpackedFile struct {
	unchanged.Program
	Mode int64
}

// A container is a file that may be an archive, with its content.
type container struct {
	sum  string // sha256 in hexadecimal digits
	open func() (*os.File, error)
	same func(*os.File) error // whether a file that open returned has the content
}

// unpackFile takes the program out of the open file f.
func (m *prebuiltMaker) unpackFile(f *os.File, p ocispec.Platform, program *prebuiltProgram) error {
	path := program.path
	is, err := m.records.Content(path, f)
	if err != nil {
		return err
	}
	return m.unpack(container{is.Content, func() (*os.File, error) { return m.of.open(path) }, func(f *os.File) error {
		if now, err := m.records.Content(path, f); err != nil || now != is {
			return errors.Join(errors.New("it changed during the build"), err)
		}
		return nil
	}}, p, program)
}

// downloaded takes the program out of a download, which is made if the program is not known.
func (m *prebuiltMaker) downloaded(ctx context.Context, p ocispec.Platform) (*prebuiltProgram, error) {
	var url, sum string
	for _, key := range slices.Backward(keys(p)) { // the most specific last
		if found, ok := m.of.Downloads[key]; ok {
			url, sum = found, m.of.SHA256[key]
		}
	}
	if sum == "" {
		return nil, &SpecError{Field: "prebuilt", Reason: platform.Key(p) + ": has no download", Way: "run mabuild lock"}
	}
	program := &prebuiltProgram{shown: url}
	var refused error // of the download, which names the URL itself
	from := container{sum, func() (*os.File, error) {
		if m.Download == nil {
			return nil, errors.New("this Builder downloads nothing")
		}
		path, err := m.Download(ctx, url, sum)
		if err != nil {
			refused = err
			return nil, err
		}
		return os.Open(path)
	}, func(*os.File) error { return nil }}
	err := m.unpack(from, p, program)
	if refused != nil {
		return nil, fmt.Errorf("prebuilt: %s: %w", platform.Key(p), refused)
	}
	return program, prebuiltError(p, url, err)
}

// unpack takes the program and the further files out of a container. One that is known is not
// opened.
func (m *prebuiltMaker) unpack(from container, p ocispec.Platform, program *prebuiltProgram) (err error) {
	globs := slices.Sorted(maps.Keys(m.of.Files))
	key := fmt.Sprintf("%d %s %q %q %s", unpackedVersion, from.sum, m.of.Program, globs, platform.Key(target(p)))
	extract := sync.OnceValues(func() (string, error) { return m.extract(from, key, globs) })
	var known unpacked
	if !m.cache.Load(unpackedKind, key, &known) || len(known.Files) != len(globs) {
		if known, err = m.examine(extract, p, globs); err != nil {
			return err
		}
		_ = m.cache.Store(unpackedKind, key, known) // lost: it is unpacked again
	}
	if known.Info != "" {
		if program.info, err = debug.ParseBuildInfo(known.Info); err != nil {
			return err
		}
	}
	program.linkage = known.Linkage
	program.entry = programFile(m.spec, p, known.Program, opener(extract, 0))
	for i, glob := range globs {
		file := known.Files[i]
		program.files = append(program.files, layerfile.Entry{
			Name: strings.TrimPrefix(m.of.Files[glob], "/"), Kind: tar.TypeReg, Mode: file.Mode,
			Size: file.Size, Content: file.Content, Open: opener(extract, i+1),
		})
	}
	return nil
}

// opener returns a function that opens a file of an archive, which it extracts if needed.
func opener(extract func() (string, error), i int) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		dir, err := extract()
		if err != nil {
			return nil, err
		}
		return os.Open(filepath.Join(dir, strconv.Itoa(i)))
	}
}

// examine extracts the files, checks the program and describes all of them.
func (m *prebuiltMaker) examine(extract func() (string, error), p ocispec.Platform, globs []string) (unpacked, error) {
	var is unpacked
	dir, err := extract()
	if err != nil {
		return is, err
	}
	f, err := os.Open(filepath.Join(dir, "0"))
	if err != nil {
		return is, err
	}
	defer f.Close() //nolint:errcheck // only read
	var program prebuiltProgram
	if err := program.read(f, p); err != nil {
		return is, err
	}
	is.Linkage = program.linkage
	if program.info != nil {
		is.Info = program.info.String()
	}
	for i := range len(globs) + 1 {
		name := filepath.Join(dir, strconv.Itoa(i))
		e, err := layerfile.File("", 0o644, name)
		if err != nil {
			return is, err
		}
		content := unchanged.Program{Content: e.Content, Size: e.Size}
		if i == 0 {
			is.Program = content
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return is, err
		}
		if info.Mode()&0o100 != 0 {
			e.Mode = 0o755
		}
		is.Files = append(is.Files, unpackedFile{content, e.Mode})
	}
	return is, nil
}

// extract writes the program as 0, and the further files from 1 on, into a directory of the
// work directory, and returns the directory. A file that the owner may execute in the archive
// may be executed there, too.
func (m *prebuiltMaker) extract(from container, key string, globs []string) (dir string, err error) {
	sum := sha256.Sum256([]byte(key))
	dir = filepath.Join(m.Work, "unpacked", hex.EncodeToString(sum[:16]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // another maker of this Builder has done it
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(m.Work, "unpack-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // the caller removes the work directory
	f, err := from.open()
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := guard.Do(func() error {
		return archive.Extract(f, info.Size(), append([]string{m.of.Program}, globs...), func(i int, file archive.File, content io.Reader) error {
			return writeFile(filepath.Join(scratch, strconv.Itoa(i)), file.Mode, content)
		})
	}); err != nil {
		return "", err
	}
	if err := from.same(f); err != nil {
		return "", err
	}
	if err := os.Rename(scratch, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, nil
}

// writeFile writes a new file that its owner may execute if mode says so.
func writeFile(name string, mode fs.FileMode, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|mode&0o100)
	if err != nil {
		return err
	}
	size, err := io.Copy(f, content)
	if err == nil && size == 0 && filepath.Base(name) == "0" {
		err = errors.New("the program in it is empty")
	}
	return errors.Join(err, f.Close())
}
