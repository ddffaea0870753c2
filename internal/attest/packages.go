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

// Packages is what the package managers of a base say is installed.
type Packages struct {
	Distro  string    `json:"distro,omitempty"`  // ID of os-release(5)
	Release string    `json:"release,omitempty"` // VERSION_ID
	List    []Package `json:"list,omitempty"`    // sorted
	Unread  []string  `json:"unread,omitempty"`  // databases that cannot be read
}

// A Package is one that is installed.
type Package struct {
	Kind    string `json:"kind"` // of package URLs: deb or apk
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch,omitempty"`
	Source  string `json:"source,omitempty"` // name and perhaps version of what it was built from
}

// ReadPackages reads the databases of dpkg, also as distroless images have them, and
// of apk, in the state that the topmost layer leaves them in. Of rpm it only sees that
// there is one. All layers are read to their ends, whose digests are thereby checked
// where they come from a [manifest.Source]. The packages cost of [rootfs.Budget] what
// a document of them costs, so that it holds about 20,000; more of them, or a layer
// that is broken, are a [*rootfs.LayerError].
func ReadPackages(layers []v1.Layer) (*Packages, error) {
	t := &rootfs.Tree{Wants: matters, Content: readDatabase, OnlyWanted: true}
	for _, l := range layers {
		if err := t.Add(l, nil); err != nil {
			return nil, err
		}
	}
	return packages(t), nil
}

const (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgParts  = "var/lib/dpkg/status.d/"
	apkDB      = "lib/apk/db/installed"
)

var (
	apkDBs     = []string{apkDB, "usr/" + apkDB}
	releases   = []string{"etc/os-release", "usr/lib/os-release"}
	rpmDBs     = []string{"var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"}
	rpmDBNames = []string{"Packages", "Packages.db", "rpmdb.sqlite"}
)

func matters(name string) bool {
	return isDpkg(name) || slices.Contains(apkDBs, name) || slices.Contains(releases, name) || isRPM(name)
}

func isDpkg(name string) bool {
	return name == dpkgStatus || strings.HasPrefix(name, dpkgParts) && path.Ext(name) != ".md5sums"
}

func isRPM(name string) bool {
	dir, file := path.Split(name)
	return slices.Contains(rpmDBs, dir) && slices.Contains(rpmDBNames, file)
}

// A release is what os-release(5) says.
type release struct{ id, version string }

// readDatabase reads what a file says in constant memory beside what is kept of it.
func readDatabase(name string, r io.Reader, room int64) (any, int64, error) {
	switch {
	case isDpkg(name):
		return packagesOf(r, dpkg, room)
	case slices.Contains(apkDBs, name):
		return packagesOf(r, apk, room)
	case slices.Contains(releases, name):
		is, err := readRelease(r)
		return is, int64(len(is.id) + len(is.version)), err
	}
	return nil, 0, nil
}

// packages collects what the databases say.
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
		case release:
			if p.Distro == "" { // etc before usr/lib, as os-release(5) has it
				p.Distro, p.Release = said.id, said.version
			}
		default:
			p.Unread = append(p.Unread, "rpm (/"+name+")")
		}
	}
	slices.SortFunc(p.List, comparePackages)
	p.List = slices.Compact(p.List)
	return p
}
