package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest/platform"
)

// ownDir is the directory in the image that mabuild makes. It is assumed to be in no base
// image, so that a program below it can be added without reading the base.
const ownDir = "mabuild"

// A part is a layer that mabuild adds to a base image.
type part struct {
	comment string // in the history of the image
	entries []layerfile.Entry
	layer   v1.Layer // of the entries; addedLayers sets it
}

// addedLayers makes the layers that are added to f for p: one of the files, which all
// platforms share, and one for each program. It returns the parts with their layers; an
// empty part makes no layer and is left out.
//
// The layers of the base are read only if an entry is outside ownDir, since only then can
// a link or a file of the base matter. Windows bases are never read.
func addedLayers(trees *treeReader, w *layerfile.Writer, p ocispec.Platform, f baseImage, parts []part) (added []part, err error) {
	for _, part := range parts {
		for _, e := range part.entries {
			if err := holdable(e.Name, p.OS == "windows"); err != nil {
				return nil, err
			}
		}
	}
	var placed [][]layerfile.Entry
	place := func(t *rootfs.Tree) (err error) {
		placed, err = placeParts(t, parts)
		return err
	}
	// The condition is described above; a tree without layers resolves paths to
	// themselves.
	if p.OS != "windows" && slices.ContainsFunc(parts, func(part part) bool { return slices.ContainsFunc(part.entries, outside) }) {
		err = trees.read(f.layers, place)
	} else {
		err = place(&rootfs.Tree{})
	}
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		entries := placed[i]
		if len(part.entries) == 0 {
			continue
		}
		if p.OS == "windows" {
			entries = windowsEntries(entries)
		}
		if part.layer, err = w.Layer(entries); err != nil {
			return nil, err
		}
		added = append(added, part)
	}
	return added, nil
}

// placeParts resolves the entries of each part in the base. It resolves all of them
// together first, to find paths that two parts write. Each part then gets the directories
// above its entries, since each becomes a layer.
func placeParts(t *rootfs.Tree, parts []part) ([][]layerfile.Entry, error) {
	var all []layerfile.Entry
	for _, part := range parts {
		all = append(all, part.entries...)
	}
	if _, err := resolvePaths(t, all); err != nil {
		return nil, err
	}
	placed := make([][]layerfile.Entry, len(parts))
	for i, part := range parts {
		var err error
		if placed[i], err = resolvePaths(t, part.entries); err != nil {
			return nil, err
		}
	}
	return placed, nil
}

// The limits of Linux for a name and for a path, in bytes.
const (
	maxElement = 255
	maxPath    = 4096
)

// holdable returns an error for a name that a layer cannot hold: a whiteout, which would
// delete a file of the base (image-spec, layer.md, Whiteouts), a name that file systems
// refuse, or one that tar cannot store.
func holdable(name string, windows bool) error {
	refuse := func(format string, args ...any) error {
		return &SpecError{Field: "files", Reason: fmt.Sprintf("/%s: ", strings.ToValidUTF8(name, "\ufffd")) + fmt.Sprintf(format, args...), Way: "rename it"}
	}
	if len(name) > maxPath {
		return &SpecError{Field: "files", Reason: fmt.Sprintf("a path has %d bytes, more than the limit of %d", len(name), maxPath), Way: "rename it"}
	}
	if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return refuse("the name is not valid UTF-8")
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case strings.HasPrefix(element, ".wh."):
			return refuse("names that begin with .wh. are reserved: they delete files of the base image")
		case len(element) > maxElement:
			return refuse("a name has %d bytes, more than the limit of %d", len(element), maxElement)
		case windows && (strings.ContainsAny(element, `<>:"|?*\`) || strings.HasSuffix(element, ".") || strings.HasSuffix(element, " ")):
			return refuse("Windows does not allow this name")
		}
	}
	return nil
}

// outside reports whether an entry is outside ownDir.
func outside(e layerfile.Entry) bool {
	return e.Name != ownDir && !strings.HasPrefix(e.Name, ownDir+"/")
}

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
	return layerfile.Entry{Name: clean(at), Kind: tar.TypeReg, Mode: 0o755, Size: size, Content: content, Open: open}
}

// windowsEntries returns entries as Windows layers have them: below Files, beside an
// empty directory Hives, with the extended header records that Windows needs to unpack a
// layer. Modes and owners have no meaning there.
func windowsEntries(entries []layerfile.Entry) []layerfile.Entry {
	all := []layerfile.Entry{layerfile.Directory("Files", 0o755), layerfile.Directory("Hives", 0o755)}
	for _, e := range entries {
		e.Name = path.Join("Files", e.Name)
		all = append(all, e)
	}
	for i := range all {
		attributes := "32" // FILE_ATTRIBUTE_ARCHIVE
		if all[i].Kind == tar.TypeDir {
			attributes = "16" // FILE_ATTRIBUTE_DIRECTORY
		}
		all[i].UID, all[i].GID = 0, 0
		all[i].PAX = map[string]string{"MSWINDOWS.fileattr": attributes, "MSWINDOWS.rawsd": securityDescriptor}
	}
	return all
}

// securityDescriptor makes BUILTIN\Users the owner and group of a file. It is a
// self-relative security descriptor (MS-DTYP, section 2.4.6) in base64.
var securityDescriptor = func() string {
	users := []byte{1, 2, 0, 0, 0, 0, 0, 5} // S-1-5 with two sub-authorities
	users = binary.LittleEndian.AppendUint32(users, 32)
	users = binary.LittleEndian.AppendUint32(users, 545)
	const header = 20
	d := []byte{1, 0}                               // revision
	d = binary.LittleEndian.AppendUint16(d, 0x8000) // self-relative
	d = binary.LittleEndian.AppendUint32(d, header) // owner
	d = binary.LittleEndian.AppendUint32(d, uint32(header+len(users)))
	d = binary.LittleEndian.AppendUint64(d, 0) // neither SACL nor DACL
	return base64.StdEncoding.EncodeToString(slices.Concat(d, users, users))
}()

// recorded returns the package of s, if s can be built without the go command: the build
// record is valid and has the programs of all platforms. With All the platforms are not
// known yet.
func (s Spec) recorded() (main crosscompile.Package, ok bool) {
	if main, ok = s.record.Main(); !ok || s.All {
		return main, false
	}
	// The linker flags may use the version of the module.
	if main.Version != "" {
		s.Vars.Version = main.Version
	}
	for _, p := range s.Platforms {
		how, err := s.compile(p).expand(s.Vars)
		if err != nil {
			return main, false
		}
		if _, ok := s.record.Program(programKey(p, how)); !ok {
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
