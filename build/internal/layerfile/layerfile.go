// Package layerfile makes the layers that mabuild adds to a base image, as files.
//
// The same entries always give the same bytes, on every machine. A layer is written in one
// pass, which makes the file and both of its digests, in memory that does not grow with the
// files. With a cache it is written once: another build of the same entries finds the file,
// and a file that is missing or damaged when it is read is written again.
//
// The package knows only entries. Its caller chooses the paths, owners and modes in the
// image, and places the layer in a manifest.
package layerfile

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
)

// FormatVersion must change when the same entries make other bytes, so that layers and
// build records in a cache of an older version are not used.
const FormatVersion = 1

// An Entry is a file, directory or link of a layer.
type Entry struct {
	Name    string // relative to the root, without a slash at its start or end
	Kind    byte   // tar.TypeReg, TypeDir, TypeSymlink or TypeLink
	Mode    int64
	UID     int
	GID     int
	Link    string                        // the target of a link; of a hard link, the name of an entry before it
	Size    int64                         // in bytes
	Content string                        // sha256 of a regular file in hexadecimal digits
	Open    func() (io.ReadCloser, error) // of a regular file; the caller closes the reader
	PAX     map[string]string             // extended header records of tar
}

// Inline returns the entry of a file whose content is in memory.
func Inline(name string, mode int64, b []byte) Entry {
	sum := sha256.Sum256(b)
	return Entry{
		Name: name, Kind: tar.TypeReg, Mode: mode, Size: int64(len(b)), Content: hex.EncodeToString(sum[:]),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

// File returns the entry of a regular file at path, and hashes the file.
func File(name string, mode int64, path string) (Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return Entry{}, err
	}
	return Entry{
		Name: name, Kind: tar.TypeReg, Mode: mode, Size: size, Content: hex.EncodeToString(h.Sum(nil)),
		Open: func() (io.ReadCloser, error) { return os.Open(path) },
	}, nil
}

// Unmade returns the entry of a file that is named by what it is made from, and that nobody
// has made here. Its content is compared with no file.
func Unmade(name string, mode int64, from string) Entry {
	return Entry{Name: name, Kind: tar.TypeReg, Mode: mode, Content: "made from " + from}
}

// unmade reports whether e is an [Unmade] entry.
func unmade(e Entry) bool { return e.Kind == tar.TypeReg && e.Open == nil }

// compressor and compressorVersion are the module that compresses layers, as in go.mod.
const (
	compressor        = "github.com/klauspost/compress"
	compressorVersion = "v1.20.3"
)

// Compressor returns the version of the module that compresses layers. Another version may
// write other bytes. A program that uses this package may have chosen another one.
var Compressor = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == compressor && dep.Replace != nil {
				return dep.Replace.Path + " " + dep.Replace.Version
			} else if dep.Path == compressor {
				return dep.Version
			}
		}
	}
	return compressorVersion // tests have no list of modules
})

// ByName is the order of the entries in a layer.
func ByName(a, b Entry) int { return strings.Compare(a.Name, b.Name) }

// Directory returns the entry of a directory that belongs to root.
func Directory(name string, mode int64) Entry {
	return Entry{Name: name, Kind: tar.TypeDir, Mode: mode}
}
