package attest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	maxEntries  = 2_000_000 // of a layer; the largest bases have a tenth of it
	maxDatabase = 64 << 20  // of a package database, or of what is kept of a layer
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
// where they come from a [manifest.Source].
func ReadPackages(layers []v1.Layer) (*Packages, error) {
	all := files{}
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if err := all.read(l); err != nil {
			return nil, fmt.Errorf("layer %s: %w", d, err)
		}
	}
	return all.packages()
}

// files is the content of those that matter, by path.
type files map[string][]byte

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
	return name == dpkgStatus || strings.HasPrefix(name, dpkgParts) && path.Ext(name) != ".md5sums" ||
		slices.Contains(apkDBs, name) || slices.Contains(releases, name) || isRPM(name)
}

func isRPM(name string) bool {
	dir, file := path.Split(name)
	return slices.Contains(rpmDBs, dir) && slices.Contains(rpmDBNames, file)
}

// read makes a layer's changes: what it hides goes first, and what it puts in the
// place of a directory.
func (all files) read(l v1.Layer) (err error) {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	found, kept := files{}, int64(0)
	archive := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n >= maxEntries {
			return fmt.Errorf("has more than %d entries", maxEntries)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, file := path.Split(name)
		switch hidden, ok := strings.CutPrefix(file, ".wh."); {
		case file == ".wh..wh..opq":
			all.hide(dir, false)
			continue
		case ok:
			all.hide(dir+hidden, true)
			continue
		}
		if h.Typeflag != tar.TypeDir {
			all.hide(name, true)
		}
		if h.Typeflag != tar.TypeReg || !matters(name) {
			continue
		}
		if kept += h.Size; kept > maxDatabase {
			return fmt.Errorf("has package databases of more than %d MiB", maxDatabase>>20)
		}
		if found[name], err = io.ReadAll(archive); err != nil {
			return err
		}
	}
	maps.Copy(all, found)
	_, err = io.Copy(io.Discard, r)
	return err
}

// hide forgets what is below a path and, with itself, what is at it.
func (all files) hide(name string, itself bool) {
	below := strings.TrimSuffix(name, "/") + "/"
	if below == "/" {
		below = ""
	}
	maps.DeleteFunc(all, func(file string, _ []byte) bool { return itself && file == name || strings.HasPrefix(file, below) })
}

// packages reads what the databases say.
func (all files) packages() (*Packages, error) {
	p := &Packages{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case name == dpkgStatus || strings.HasPrefix(name, dpkgParts):
			p.List = append(p.List, readDpkg(all[name])...)
		case slices.Contains(apkDBs, name):
			p.List = append(p.List, readApk(all[name])...)
		case isRPM(name):
			p.Unread = append(p.Unread, "rpm (/"+name+")")
		case p.Distro == "": // etc before usr/lib, as os-release(5) has it
			p.Distro, p.Release = readRelease(all[name])
		}
	}
	slices.SortFunc(p.List, comparePackages)
	p.List = slices.Compact(p.List)
	return p, nil
}
