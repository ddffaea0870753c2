package attest

import (
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// Packages lists what the package managers of a base image record as installed. It is
// stored as JSON in the cache, so the names of its keys are a format.
type Packages struct {
	Distro  string    `json:"distro,omitempty"`  // ID of os-release(5)
	Release string    `json:"release,omitempty"` // VERSION_ID
	List    []Package `json:"list,omitempty"`    // sorted, without duplicates
	Unread  []string  `json:"unread,omitempty"`  // databases whose format is not supported
}

// A Package is one installed package of a distribution.
type Package struct {
	Kind    string `json:"kind"` // the type of its package URL: deb or apk
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch,omitempty"`
	Source  string `json:"source,omitempty"` // name and, if known, version of its source package
	SHA256  string `json:"sha256,omitempty"` // of the file of the package, if known
}

// ReadPackages reads the databases of dpkg (including those of distroless images) and of
// apk in the state that the topmost layer leaves them in. layers are in the order of the
// manifest, lowest first. A database of rpm is only reported as unread.
//
// All layers are read to their ends. If they come from a [manifest.Source], their digests
// are thereby verified. The cost of the packages is charged to [rootfs.Budget], which is
// enough for about 20,000. More packages, or a broken layer, are a [*rootfs.LayerError].
func ReadPackages(layers []v1.Layer) (*Packages, error) {
	t := &rootfs.Tree{Wants: matters, Content: readDatabase, OnlyWanted: true}
	for _, l := range layers {
		if err := t.Add(l, nil); err != nil {
			return nil, err
		}
	}
	return packages(t), nil
}

// The paths of databases in an image, without a leading slash as in layers. dpkgParts is
// a directory with one file for each package, in images that are built without dpkg.
const (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgParts  = "var/lib/dpkg/status.d/"
	apkDB      = "lib/apk/db/installed"
)

// The directories and names of databases, as paths in a layer. Distributions moved some
// of them below usr, so both places are known.
var (
	apkDBs     = []string{apkDB, "usr/" + apkDB}
	releases   = []string{"etc/os-release", "usr/lib/os-release"}
	rpmDBs     = []string{"var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"}
	rpmDBNames = []string{"Packages", "Packages.db", "rpmdb.sqlite"}
)

// matters reports whether the content of a file in a layer is read.
func matters(name string) bool {
	return isDpkg(name) || slices.Contains(apkDBs, name) || slices.Contains(releases, name) || isRPM(name)
}

// isDpkg reports whether name is a database of dpkg. The checksums beside the files in
// status.d are not.
func isDpkg(name string) bool {
	return name == dpkgStatus || strings.HasPrefix(name, dpkgParts) && path.Ext(name) != ".md5sums"
}

// isRPM reports whether name is a database of rpm in any of its three formats.
func isRPM(name string) bool {
	dir, file := path.Split(name)
	return slices.Contains(rpmDBs, dir) && slices.Contains(rpmDBNames, file)
}

// readDatabase parses a file that matters while the layer is read, and returns the result
// with its cost. It needs constant memory apart from the result. A database of rpm has no
// result: its presence is enough.
func readDatabase(name string, r io.Reader, room int64) (any, int64, error) {
	switch {
	case isDpkg(name):
		return readDpkg(r, room)
	case slices.Contains(apkDBs, name):
		return readApk(r, room)
	case slices.Contains(releases, name):
		is, err := readRelease(r)
		return is, int64(len(is.Distro) + len(is.Release)), err
	}
	return nil, 0, nil
}

// packages merges the databases of the final tree into one sorted list.
func packages(t *rootfs.Tree) *Packages {
	found := map[string]any{}
	for n := range t.All() {
		found[n.Path()] = n.Content
	}
	p := &Packages{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		switch said := found[name].(type) {
		case []Package:
			p.List = append(p.List, said...)
		case Packages:
			// The paths are sorted, so etc/os-release comes before usr/lib/os-release and
			// takes precedence, as os-release(5) requires.
			if p.Distro == "" {
				p.Distro, p.Release = said.Distro, said.Release
			}
		default:
			p.Unread = append(p.Unread, "rpm (/"+name+")")
		}
	}
	slices.SortFunc(p.List, comparePackages)
	p.List = slices.Compact(p.List)
	return p
}
