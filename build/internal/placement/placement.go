// Package placement places what a build adds to a base image: it finds the path of each
// entry through the links of the base, adds the directories above it, and gives the layers
// of Windows their form.
package placement

import (
	"archive/tar"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// ownDir is the directory in the image that mabuild makes. It is assumed to be in no base
// image, so that a program below it can be added without reading the base.
const ownDir = "mabuild"

// A Part is a layer that mabuild adds to a base image.
type Part struct {
	Comment string // in the history of the image
	Entries []layerfile.Entry
	Layer   v1.Layer // of the entries; [Layers] sets it, unless there are none
	// OwnNames says that no entry may have the path of a link in the base, since it would
	// replace what the link leads to.
	OwnNames bool
}

// Layers makes the layers that are added for p to a base that has the layers base: one
// of the files, which all platforms share, and one for each program. It returns the parts
// with their layers. A part without entries keeps the layer that it has, and is left out if
// it has none.
//
// The layers of the base are read only if an entry is outside ownDir, since only then can
// a link or a file of the base matter. Windows bases are never read.
func Layers(fs *basefs.Reader, w *layerfile.Writer, p ocispec.Platform, base []v1.Layer, parts []Part) (added []Part, err error) {
	for _, part := range parts {
		for _, e := range part.Entries {
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
	if p.OS != "windows" && slices.ContainsFunc(parts, func(part Part) bool { return slices.ContainsFunc(part.Entries, outside) }) {
		err = fs.Read(base, place)
	} else {
		err = place(&rootfs.Tree{})
	}
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		entries := placed[i]
		if len(part.Entries) == 0 {
			if part.Layer != nil {
				added = append(added, part)
			}
			continue
		}
		if p.OS == "windows" {
			entries = windowsEntries(entries)
		}
		if part.Layer, err = w.Layer(entries); err != nil {
			return nil, err
		}
		added = append(added, part)
	}
	return added, nil
}

// Complete returns entries, whose paths lead through no link of the base, with the directories
// above them.
func Complete(t *rootfs.Tree, entries []layerfile.Entry) ([]layerfile.Entry, error) {
	for _, e := range entries {
		if err := holdable(e.Name, false); err != nil {
			return nil, err
		}
	}
	return resolvePaths(t, entries)
}

// placeParts resolves the entries of each part in the base. It resolves all of them
// together first, to find paths that two parts write. Each part then gets the directories
// above its entries, since each becomes a layer.
func placeParts(t *rootfs.Tree, parts []Part) ([][]layerfile.Entry, error) {
	var all []layerfile.Entry
	for _, part := range parts {
		all = append(all, part.Entries...)
	}
	if _, err := resolvePaths(t, all); err != nil {
		return nil, err
	}
	placed := make([][]layerfile.Entry, len(parts))
	for i, part := range parts {
		if err := part.overLink(t); err != nil {
			return nil, err
		}
		var err error
		if placed[i], err = resolvePaths(t, part.Entries); err != nil {
			return nil, err
		}
	}
	return placed, nil
}

// overLink returns an error for an entry of a part with OwnNames that has the path of a link.
func (part Part) overLink(t *rootfs.Tree) error {
	for _, e := range part.Entries {
		dir, err := t.Resolve(path.Dir(e.Name))
		if err != nil {
			return err
		}
		if n, ok := t.Lookup(path.Join(dir, path.Base(e.Name))); part.OwnNames && ok && n.Kind == tar.TypeSymlink {
			return &specerr.Error{Field: "path", Reason: fmt.Sprintf("/%s is a link to %s in the base image, and the %s would replace that", e.Name, n.Link, part.Comment), Way: "use another path"}
		}
	}
	return nil
}

// resolvePaths returns the entries with the paths that their names lead to in the base,
// and with the directories above them. Links of the base are followed, so that a file
// below /var/run, say, does not replace the link by a directory.
//
// A directory that the base has keeps its owner and mode: a container runtime may use
// those of the upper layer. Other directories belong to root and have mode 0755. The
// result is not sorted.
func resolvePaths(t *rootfs.Tree, entries []layerfile.Entry) ([]layerfile.Entry, error) {
	placed := map[string]layerfile.Entry{}
	for _, e := range entries {
		name, err := t.Resolve(e.Name)
		if err != nil {
			return nil, err
		}
		there, exists := t.Lookup(name)
		switch {
		case exists && there.Kind == tar.TypeDir && e.Kind == tar.TypeDir:
			e.Mode, e.UID, e.GID = there.Mode, there.UID, there.GID
		case exists && there.Kind == tar.TypeDir:
			return nil, &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s is a directory in the base image", name)}
		}
		e.Name = name
		if other, twice := placed[name]; twice && (other.Kind != tar.TypeDir || e.Kind != tar.TypeDir) {
			return nil, &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s is written twice", name)}
		}
		placed[name] = e
		// The layer gets an entry for each directory above its files.
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if other, ok := placed[dir]; ok {
				if other.Kind != tar.TypeDir {
					return nil, &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s is inside /%s, which is not a directory", name, dir)}
				}
				continue
			}
			parent := layerfile.Directory(dir, 0o755)
			if n, ok := t.Lookup(dir); ok && n.Kind != tar.TypeDir {
				return nil, &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s is not a directory in the base image", dir)}
			} else if ok {
				parent.Mode, parent.UID, parent.GID = n.Mode, n.UID, n.GID
			}
			placed[dir] = parent
		}
	}
	for name, e := range placed { // a file may come after an entry below it
		if parent, ok := placed[path.Dir(name)]; ok && parent.Kind != tar.TypeDir {
			return nil, &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s is inside /%s, which is not a directory", e.Name, parent.Name)}
		}
	}
	list := make([]layerfile.Entry, 0, len(placed))
	for _, e := range placed {
		list = append(list, e)
	}
	return list, nil
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
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("/%s: ", strings.ToValidUTF8(name, "\ufffd")) + fmt.Sprintf(format, args...), Way: "rename it"}
	}
	if len(name) > maxPath {
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("a path has %d bytes, more than the limit of %d", len(name), maxPath), Way: "rename it"}
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
