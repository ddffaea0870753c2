package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// ownDir is the directory that mabuild makes, which no base has.
const ownDir = "mabuild"

// A part is what becomes one layer.
type part struct {
	comment string // in the image's history
	entries []entry
}

// addedLayers makes the layers for p: one of the files, which platforms share, and
// one of each program. None is made that would be empty.
func addedLayers(w *layers, p ocispec.Platform, f baseImage, parts []part) (added []addedLayer, err error) {
	for _, part := range parts {
		for _, e := range part.entries {
			if err := holdable(e.name, p.OS == "windows"); err != nil {
				return nil, err
			}
		}
	}
	var placed [][]entry
	place := func(t *rootfs.Tree) (err error) {
		placed, err = placeParts(t, parts)
		return err
	}
	// What the base has is read only if it matters.
	if p.OS != "windows" && slices.ContainsFunc(parts, func(part part) bool { return slices.ContainsFunc(part.entries, outside) }) {
		err = w.tree(f.layers, place)
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
		l, err := w.layer(entries)
		if err != nil {
			return nil, err
		}
		added = append(added, addedLayer{layer: l, comment: part.comment})
	}
	return added, nil
}

// placeParts places the entries of each part. Together first: none may stand in
// another's way.
func placeParts(t *rootfs.Tree, parts []part) ([][]entry, error) {
	var all []entry
	for _, part := range parts {
		all = append(all, part.entries...)
	}
	if _, err := resolvePaths(t, all); err != nil {
		return nil, err
	}
	placed := make([][]entry, len(parts))
	for i, part := range parts {
		var err error
		if placed[i], err = resolvePaths(t, part.entries); err != nil {
			return nil, err
		}
	}
	return placed, nil
}

// Bounds of a name that a file system takes.
const (
	maxElement = 255
	maxPath    = 4096
)

// holdable refuses names that a layer cannot hold: those that hide something of the
// layers below (image-spec, layer.md, Whiteouts), that file systems do not take, and that
// an archive cannot write.
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

// outside reports whether an entry leaves the directory that is mabuild's own.
func outside(e entry) bool { return e.name != ownDir && !strings.HasPrefix(e.name, ownDir+"/") }

// programEntry is the entry of a program that lies in a file, hashed.
func programEntry(s Spec, p ocispec.Platform, file string) (entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return entry{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return entry{}, err
	}
	return programAt(s, p, hex.EncodeToString(h.Sum(nil)), size, func() (io.ReadCloser, error) { return os.Open(file) }), nil
}

// programAt is the entry of a program that is known by its digest.
func programAt(s Spec, p ocispec.Platform, content string, size int64, open func() (io.ReadCloser, error)) entry {
	at := programPath(s, p)
	if p.OS == "windows" {
		at = strings.ReplaceAll(strings.TrimPrefix(at, "C:"), `\`, "/")
	}
	return entry{name: clean(at), kind: tar.TypeReg, mode: 0o755, size: size, content: content, open: open}
}

// windowsEntries puts entries where Windows layers have them, below Files beside
// an empty Hives, with the records that its unpacking wants. Modes and owners
// mean nothing there.
func windowsEntries(entries []entry) []entry {
	all := []entry{directory("Files", 0o755), directory("Hives", 0o755)}
	for _, e := range entries {
		e.name = path.Join("Files", e.name)
		all = append(all, e)
	}
	for i := range all {
		attributes := "32" // FILE_ATTRIBUTE_ARCHIVE
		if all[i].kind == tar.TypeDir {
			attributes = "16" // FILE_ATTRIBUTE_DIRECTORY
		}
		all[i].uid, all[i].gid = 0, 0
		all[i].pax = map[string]string{"MSWINDOWS.fileattr": attributes, "MSWINDOWS.rawsd": securityDescriptor}
	}
	return all
}

// securityDescriptor makes BUILTIN\Users owner and group, in the self-relative
// form of MS-DTYP 2.4.6, base64.
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
