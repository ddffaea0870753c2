package attest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// comparePackages orders packages by all fields except Kind, so that the list does not
// depend on the order in which the databases are read.
func comparePackages(a, b Package) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Source, b.Source))
}

// part describes a package. The package URL has the distribution as its
// namespace, from os-release(5) or else the usual one of the package manager, and the
// release as the qualifier distro; scanners look up advisories by these.
func (p *Packages) part(one Package) (part, error) {
	qualifiers := map[string]string{}
	if one.Arch != "" {
		qualifiers["arch"] = one.Arch
	}
	namespace := cmp.Or(p.Distro, map[string]string{"deb": "debian", "apk": "alpine"}[one.Kind])
	if p.Distro != "" && p.Release != "" {
		qualifiers["distro"] = p.Distro + "-" + p.Release
	}
	purl, err := purlOf(one.Kind, namespace, one.Name, one.Version, qualifiers)
	return part{name: one.Name, version: one.Version, purl: purl, from: one.Source, sha256: one.SHA256}, err
}

// Each package takes part of the budget of a base: packageCost bytes, and byteCost for
// each byte of its texts. This is more than the database takes, since each text occurs
// several times in the lists and documents that are made of it.
const (
	packageCost = 2048
	byteCost    = 16
)

// maxLine is the longest line of a database whose value is used, in bytes. Longer lines
// of other keys, such as descriptions, are skipped.
const maxLine = 4096

// lines calls each with every line, without its end, in constant memory. A line of more
// than maxLine bytes is cut there, reported as long, and its rest is skipped. The slice
// is valid until each returns. An error of each ends the reading and is returned.
func lines(r io.Reader, each func(line []byte, long bool) error) error {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, long, err := in.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(line, long); err != nil {
			return err
		}
		for long && err == nil {
			_, long, err = in.ReadLine()
		}
	}
}

// readDpkg reads the paragraphs of deb-control(5). The files of distroless images in
// status.d have no Status; a package with one counts only if it ends with "installed".
// Source is "NAME" or "NAME (VERSION)"; without it, name and version are those of the
// package.
func readDpkg(r io.Reader, room int64) ([]Package, int64, error) {
	keys := []string{"Package", "Version", "Architecture", "Source", "Status"}
	return packagesOf(r, room, keys, func(f []string) (Package, bool) {
		name, version, arch, source, status := f[0], f[1], f[2], f[3], f[4]
		if name == "" || version == "" || status != "" && !strings.HasSuffix(status, " installed") {
			// The files of the package are removed or not yet unpacked.
			return Package{}, false
		}
		from, at, _ := strings.Cut(cmp.Or(source, name), " (")
		at = cmp.Or(strings.TrimSuffix(at, ")"), version)
		return Package{Kind: packageurl.TypeDebian, Name: name, Version: version, Arch: arch, Source: from + " " + at}, true
	})
}

// readApk reads the installed database of apk, whose keys are single letters (apk(5)):
// name, version, architecture and origin.
func readApk(r io.Reader, room int64) ([]Package, int64, error) {
	return packagesOf(r, room, []string{"P", "V", "A", "o"}, func(f []string) (Package, bool) {
		p := Package{Kind: packageurl.TypeApk, Name: f[0], Version: f[1], Arch: f[2]}
		if f[3] != "" {
			p.Source = f[3] + " " + f[1]
		}
		return p, p.Name != "" && p.Version != ""
	})
}

// packagesOf reads the packages of a database and returns them with their cost. A
// database has paragraphs of KEY: VALUE lines, separated by empty lines. read makes a
// package of the values in the order of keys, "" for a missing one; values of other keys
// are skipped. It returns false for a paragraph that does not describe an installed
// package.
//
// packagesOf fails with [rootfs.ErrBudget] as soon as the cost exceeds room, before the
// list grows beyond it. The last paragraph counts even if no empty line follows.
func packagesOf(r io.Reader, room int64, keys []string, read func(values []string) (Package, bool)) (list []Package, cost int64, err error) {
	values := make([]string, len(keys))
	end := func() error {
		if p, ok := read(values); ok {
			cost += packageCost + byteCost*int64(len(p.Name)+len(p.Version)+len(p.Arch)+len(p.Source))
			if cost > room {
				return rootfs.ErrBudget
			}
			list = append(list, p)
		}
		clear(values)
		return nil
	}
	err = lines(r, func(line []byte, long bool) error {
		if len(line) == 0 {
			return end()
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		// A continuation line begins with a space, so its key is not in keys.
		if at := slices.Index(keys, string(key)); ok && at >= 0 {
			if long {
				return fmt.Errorf("a package database with a line of more than %d bytes", maxLine)
			}
			values[at] = string(bytes.TrimSpace(value))
		}
		return nil
	})
	if err == nil {
		err = end()
	}
	return list, cost, err
}

// maxRelease is the longest ID or VERSION_ID, in bytes: each package URL has both.
const maxRelease = 64

// readRelease reads ID and VERSION_ID of os-release(5), which identify the distribution,
// into Distro and Release. Quotes around a value are removed; escapes, which the two
// values do not need, are not interpreted.
func readRelease(r io.Reader) (is Packages, err error) {
	err = lines(r, func(line []byte, _ bool) error {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		value = strings.Trim(value, `"'`)
		if (key == "ID" || key == "VERSION_ID") && len(value) > maxRelease {
			return fmt.Errorf("an os-release file whose %s has more than %d bytes", key, maxRelease)
		}
		switch key {
		case "ID":
			is.Distro = value
		case "VERSION_ID":
			is.Release = value
		}
		return nil
	})
	return is, err
}
