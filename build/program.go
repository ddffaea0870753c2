package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest/platform"
)

// programEntry returns the entry of a program that is in a file, and hashes the file.
func programEntry(s Spec, p ocispec.Platform, file string) (layerfile.Entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return layerfile.Entry{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return layerfile.Entry{}, err
	}
	return programAt(s, p, hex.EncodeToString(h.Sum(nil)), size, func() (io.ReadCloser, error) { return os.Open(file) }), nil
}

// programAt returns the entry of a program that is identified by its digest. open is
// called only if the layer is not in the cache.
func programAt(s Spec, p ocispec.Platform, content string, size int64, open func() (io.ReadCloser, error)) layerfile.Entry {
	// A layer has slashes and no drive letter, also for Windows.
	at := programPath(s, p)
	if p.OS == "windows" {
		at = strings.ReplaceAll(strings.TrimPrefix(at, "C:"), `\`, "/")
	}
	return layerfile.Entry{Name: rootfs.Clean(at), Kind: tar.TypeReg, Mode: 0o755, Size: size, Content: content, Open: open}
}

// recorded returns the package of s, if s can be built without the go command: its build
// record is valid and has the programs of all platforms. With All the platforms are not
// known yet.
func (s Spec) recorded(record *unchanged.Record) (main crosscompile.Package, ok bool) {
	if main, ok = record.Main(); !ok || s.All {
		return main, false
	}
	// The linker flags may use the version of the module.
	if main.Version != "" {
		s.Vars.Version = main.Version
	}
	for _, p := range s.Platforms {
		how, err := s.settings(p)
		if err != nil {
			return main, false
		}
		if _, ok := record.Program(programKey(p, how)); !ok {
			return main, false
		}
	}
	return main, true
}

// programKey identifies a program among those of one package: its platform without the
// version of the operating system, and its compile settings with templates expanded.
func programKey(p ocispec.Platform, how Compile) string {
	b, err := json.Marshal([]any{platform.Key(target(p)), how})
	if err != nil { // cannot happen: there is nothing that JSON cannot hold
		panic(err)
	}
	return string(b)
}
