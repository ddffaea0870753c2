// Package gocache carries entries of the cache of the go command from one machine to another.
//
// That cache is a directory. An action has a file with the ID of its output (xx/ID-a), and an
// output a file whose name is the sha256 of its content (xx/ID-d), where xx are the first two
// digits of the ID. An ID names all that decides the output of an action, and no path of the
// machine if it compiles with -trimpath.
//
// The go command touches what it uses if it was not touched for an hour. So the age of a file
// says whether a build has used it: [Unpack] makes all files old.
package gocache

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of an archive.
const (
	maxEntries  = 200_000
	maxFile     = 512 << 20 // bytes
	maxUnpacked = 4 << 30   // bytes of all files
	maxEnd      = 1 << 20   // bytes after the last file
)

// hour is the time for which the go command touches a file once, and a little more.
const hour = time.Hour + time.Minute

// A File is a file of the cache.
type File struct {
	Name string // xx/ID-a or xx/ID-d
	Size int64
}

var (
	fileName = regexp.MustCompile(`^[0-9a-f]{2}/[0-9a-f]{64}-[ad]$`)
	action   = regexp.MustCompile(`^v1 ([0-9a-f]{64}) ([0-9a-f]{64}) +[0-9]+ +[0-9]+\n$`)
)

// valid reports whether a name can be one of a file of the cache.
func valid(name string) bool { return fileName.MatchString(name) && name[:2] == name[3:5] }

// Empty reports whether a directory has no entries.
func Empty(dir string) bool {
	actions, _ := filepath.Glob(filepath.Join(dir, "??", "*-a")) // the pattern is valid
	return len(actions) == 0
}

// Used returns the entries that builds since start have used, sorted. An entry that was used
// in the hour before counts, too.
func Used(dir string, start time.Time) ([]File, error) {
	actions, err := filepath.Glob(filepath.Join(dir, "??", "*-a"))
	if err != nil {
		return nil, err
	}
	var list []File
	for _, file := range actions {
		info, err := os.Lstat(file)
		name := path.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
		if err != nil || !valid(name) || !info.Mode().IsRegular() || info.ModTime().Before(start.Add(-hour)) {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			continue // removed meanwhile
		}
		m := action.FindSubmatch(content)
		if m == nil || string(m[1]) != name[3:67] {
			continue
		}
		output := string(m[2][:2]) + "/" + string(m[2]) + "-d"
		// Since Go 1.24 the output may be a directory with a program, which is not carried.
		of, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(output))) //nolint:gosec // two digits and a digest
		if err != nil || !of.Mode().IsRegular() || of.Size() > maxFile {
			continue
		}
		list = append(list, File{name, info.Size()}, File{output, of.Size()})
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(list), nil // several actions may have one output
}

// Pack writes files of a directory to a tar archive.
func Pack(w io.Writer, dir string, files []File) error {
	archive := tar.NewWriter(w)
	for _, f := range files {
		if err := archive.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o644, Size: f.Size}); err != nil {
			return err
		}
		from, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, from)
		if err := errors.Join(err, from.Close()); err != nil {
			return err
		}
	}
	return archive.Close()
}

// Unpack adds the entries of an archive, which may be hostile, to a directory, and returns
// their files. It reads r to its end first: if anything is wrong, an error of r included, no
// entry is added. Each output is compared with its name. That an output belongs to an action
// cannot be checked, so whoever made the archive decides what is compiled.
func Unpack(r io.Reader, dir string, now time.Time) (list []File, err error) {
	staged, err := os.MkdirTemp(dir, "unpack-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(staged) //nolint:errcheck // the go command ignores it
	if list, err = stage(r, staged, now.Add(-2*hour)); err != nil {
		return nil, err
	}
	for _, output := range []bool{true, false} { // outputs before the actions that name them
		for _, f := range list {
			if strings.HasSuffix(f.Name, "-d") != output {
				continue
			}
			to := filepath.Join(dir, filepath.FromSlash(f.Name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(filepath.Join(staged, filepath.Base(to)), to)); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// stage writes all files of an archive to one directory.
func stage(r io.Reader, dir string, used time.Time) (list []File, err error) {
	archive, total := tar.NewReader(r), int64(0)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The end of r checks its digest. A tar archive ends with blocks of zeros.
			if n, err := io.Copy(io.Discard, io.LimitReader(r, maxEnd)); err != nil || n == maxEnd {
				return nil, cmp.Or(err, errors.New("it does not end"))
			}
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		total += header.Size
		switch {
		case header.Typeflag != tar.TypeReg || !valid(header.Name):
			return nil, fmt.Errorf("%.100q is no file of the cache of the go command", header.Name)
		case header.Size > maxFile || total > maxUnpacked || len(list) == maxEntries:
			return nil, errors.New("it is too large")
		}
		if err := write(archive, filepath.Join(dir, path.Base(header.Name)), header); err != nil {
			return nil, err
		}
		if err := os.Chtimes(filepath.Join(dir, path.Base(header.Name)), used, used); err != nil {
			return nil, err
		}
		list = append(list, File{header.Name, header.Size})
	}
}

// write writes and checks one file. A file that exists is an error.
func write(r io.Reader, file string, header *tar.Header) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it has %s twice", header.Name)
	}
	if err != nil {
		return err
	}
	id := header.Name[3:67]
	if strings.HasSuffix(header.Name, "-d") {
		sum := sha256.New()
		_, err := io.Copy(io.MultiWriter(f, sum), r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != id {
			return fmt.Errorf("the content of %s is another one", header.Name)
		}
		return nil
	}
	var content bytes.Buffer
	_, err = io.Copy(&content, io.LimitReader(r, 256))
	if m := action.FindSubmatch(content.Bytes()); err == nil && (m == nil || string(m[1]) != id) {
		err = fmt.Errorf("%s is no action", header.Name)
	}
	_, werr := f.Write(content.Bytes())
	return errors.Join(err, werr, f.Close())
}
