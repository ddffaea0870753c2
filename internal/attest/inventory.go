package attest

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	packageurl "github.com/package-url/packageurl-go"
)

// A part is a component of an image in the terms that both formats share. Each format
// takes the fields that it has a place for.
type part struct {
	id      string // unique in a document; letters, digits, dots and dashes only
	name    string
	version string
	purl    string // package URL; empty if there is none
	sha256  string // hexadecimal
	sum     string // the h1: hash as in go.sum
	from    string // source package of a distribution's package
	comment string
}

// An inventory is the content of an image, ready to be written. It is made once and does
// not depend on the format.
type inventory struct {
	image, program part
	settings       []debug.BuildSetting // of the program, sorted by key
	modules        []part               // of the program, including Go's standard library, sorted by name
	base           *part                // nil for scratch
	packages       []part               // of the base, in the order of Packages.List
	added          []part               // packages that were added to the base, in the order of Facts.Packages
	unread         string               // what was not analysed, in sentences; "" if all was
}

// cgo reports whether the program was compiled with cgo, so that it may contain code that
// no module lists. It relies on CGO_ENABLED, which the go command records in every
// binary.
func (inv *inventory) cgo() bool {
	return slices.Contains(inv.settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"})
}

// copied has the keys of the settings that documents include. All of them are short
// values of a closed set, apart from -tags. Free text such as -ldflags or CGO_CFLAGS is
// left out, since it may hold secrets or paths of the host.
var copied = []string{
	"-asan", "-buildmode", "-compiler", "-cover", "-msan", "-race", "-tags", "CGO_ENABLED", "GO386", "GOAMD64", "GOARCH", "GOARM",
	"GOARM64", "GOEXPERIMENT", "GOFIPS140", "GOMIPS", "GOMIPS64", "GOOS", "GOPPC64", "GORISCV64", "GOWASM",
}

// inventoryOf makes the inventory of f's image. Modules and packages get their
// identifiers last, in sorted order, so that equal inventories have equal identifiers.
func inventoryOf(f Facts) (inventory, error) {
	purl, err := imagePURL(f)
	if err != nil {
		return inventory{}, err
	}
	inv := inventory{image: part{id: "Image", name: f.Name, version: f.Image.String(), sha256: f.Image.Hex, purl: purl}}
	var notes []string
	if err := inv.goProgram(f); err != nil {
		return inv, err
	}
	if f.Info == nil {
		notes = append(notes, "The program carries no build information: its modules are not analysed.")
	}
	if inv.cgo() {
		notes = append(notes, "The program is compiled with cgo: C libraries in it are not analysed.")
	}
	if err := inv.onBase(f); err != nil {
		return inv, err
	}
	for _, p := range f.Packages {
		one, err := addedPackage(p)
		if err != nil {
			return inv, err
		}
		inv.added = append(inv.added, one)
	}
	if p := f.Base.Packages; p != nil && len(p.Unread) > 0 {
		notes = append(notes, "Package databases of the base that are not analysed: "+strings.Join(p.Unread, ", ")+".")
	}
	inv.unread = strings.Join(append(notes, f.Unread...), " ")
	ids := map[string]int{}
	for i := range inv.modules {
		inv.modules[i].id = unique(ids, "Go", inv.modules[i])
	}
	for i := range inv.packages {
		inv.packages[i].id = unique(ids, "Base", inv.packages[i])
	}
	for i := range inv.added {
		inv.added[i].id = unique(ids, "Package", inv.added[i])
	}
	return inv, nil
}

// addedPackage describes a package that was added to the base.
func addedPackage(p Package) (part, error) { return (&Packages{}).part(p) }

// imagePURL returns the package URL of the image, of type oci. It has no repository_url:
// the same image may be pushed to several repositories, and the document is about all of
// them.
func imagePURL(f Facts) (string, error) {
	qualifiers := map[string]string{"arch": f.Platform.Architecture, "os": f.Platform.OS}
	if f.Platform.Variant != "" {
		qualifiers["variant"] = f.Platform.Variant
	}
	return purlOf(packageurl.TypeOCI, "", f.Name, f.Image.String(), qualifiers)
}

// goProgram adds the program, its modules and Go's standard library. Without build
// information it adds the program alone.
func (inv *inventory) goProgram(f Facts) (err error) {
	inv.program = part{id: "Program", name: f.Name, version: f.Version, sha256: f.Program.Hex}
	if f.Program.Hex != "" {
		if inv.program.purl, err = purlOf(packageurl.TypeGeneric, "", f.Name, f.Version, map[string]string{"checksum": f.Program.String()}); err != nil {
			return err
		}
	}
	if f.Info == nil {
		return nil
	}
	main, deps := programModule(f.Info)
	inv.program.name, inv.program.sum = cmp.Or(f.Info.Path, f.Name), main.Sum
	inv.program.version = cmp.Or(released(main.Version), f.Version)
	if main.Path != "" {
		below := strings.TrimPrefix(strings.TrimPrefix(f.Info.Path, main.Path), "/")
		if inv.program.purl, err = GoPURL(main.Path, inv.program.version, below); err != nil {
			return err
		}
	}
	for _, s := range f.Info.Settings {
		if slices.Contains(copied, s.Key) && s.Value != "" {
			inv.settings = append(inv.settings, s)
		}
	}
	slices.SortFunc(inv.settings, func(a, b debug.BuildSetting) int { return cmp.Compare(a.Key, b.Key) })
	version, experiments, _ := strings.Cut(strings.TrimPrefix(f.Info.GoVersion, "go"), " ")
	std := part{name: "stdlib", version: version, comment: experiments}
	if std.purl, err = GoPURL("stdlib", version, ""); err != nil {
		return err
	}
	inv.modules = append(inv.modules, std)
	for _, m := range deps {
		p, err := module(m)
		if err != nil {
			return err
		}
		inv.modules = append(inv.modules, p)
	}
	slices.SortStableFunc(inv.modules, byName)
	return nil
}

// byName orders parts by name and version.
func byName(a, b part) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
}

// programModule returns the module that contains the program, and all other modules. It
// is not always the main module: module/path@version is built from a temporary module
// that requires it. Among modules whose paths are prefixes of each other, the longest
// contains the package. If no module does, the first result is empty.
func programModule(info *debug.BuildInfo) (debug.Module, []*debug.Module) {
	owns := func(m *debug.Module) bool { return info.Path == m.Path || strings.HasPrefix(info.Path, m.Path+"/") }
	if owns(&info.Main) {
		return info.Main, info.Deps
	}
	best := -1
	for i, m := range info.Deps {
		if owns(m) && (best < 0 || len(m.Path) > len(info.Deps[best].Path)) {
			best = i
		}
	}
	if best < 0 {
		return debug.Module{}, info.Deps
	}
	return *info.Deps[best], slices.Concat(info.Deps[:best], info.Deps[best+1:])
}

// released returns the version of a module, or "" for "(devel)", which identifies
// nothing.
func released(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}

// module describes the code that was compiled under a module's path: its replacement if
// it has one. The path of a replacing directory is omitted, since it belongs to the host
// and would make the document differ between machines.
func module(m *debug.Module) (part, error) {
	p := part{name: m.Path, version: released(m.Version), sum: m.Sum}
	if r := m.Replace; r != nil {
		was := strings.TrimSuffix(m.Path+"@"+p.version, "@")
		p.version, p.sum = released(r.Version), r.Sum
		if p.version == "" {
			p.comment = "a local directory in place of " + was
		} else {
			p.name, p.comment = r.Path, "in place of "+was
		}
	}
	// The hash in go.sum is a SHA-256 of the list of the module's files and their hashes
	// (dirhash.Hash1), not of an archive. CycloneDX and SPDX take it as the module's
	// checksum.
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.sum, "h1:")); err == nil && len(raw) > 0 {
		p.sha256 = hex.EncodeToString(raw)
	}
	var err error
	p.purl, err = GoPURL(p.name, p.version, "")
	return p, err
}

// onBase adds the base image and its packages. Scratch has neither. A base without a name
// is called "base", since a component must have a name.
func (inv *inventory) onBase(f Facts) error {
	b := f.Base
	if b.Digest.Hex == "" {
		return nil
	}
	base := &part{id: "Base", name: b.Name, version: b.Digest.String(), sha256: b.Digest.Hex}
	inv.base = base
	if b.BuiltIn {
		base.comment = "Built into mabuild: CA certificates, time zones and users."
		return nil
	}
	var err error
	if base.name, base.purl, err = b.purl(f.Platform.Architecture); err != nil {
		return err
	}
	if b.Packages == nil {
		return nil
	}
	for _, p := range b.Packages.List {
		one, err := b.Packages.part(p)
		if err != nil {
			return err
		}
		inv.packages = append(inv.packages, one)
	}
	return nil
}

// purl returns the full name of the base image and its package URL.
func (b Base) purl(arch string) (full, purl string, err error) {
	full, last, qualifiers := "base", "base", map[string]string{"arch": arch}
	if r, err := name.ParseReference(b.Name); err == nil && b.Name != "" {
		full, last = r.Name(), path.Base(r.Context().RepositoryStr())
		qualifiers["repository_url"] = r.Context().Name()
		if t, ok := r.(name.Tag); ok {
			qualifiers["tag"] = t.TagStr()
		}
	}
	purl, err = purlOf(packageurl.TypeOCI, "", last, b.Digest.String(), qualifiers)
	return full, purl, err
}

// GoPURL returns the package URL of a package, with below as its path within the module.
func GoPURL(module, version, below string) (string, error) {
	dir, last := path.Split(module)
	u := packageurl.PackageURL{Type: packageurl.TypeGolang, Namespace: strings.TrimSuffix(dir, "/"), Name: last, Version: version, Subpath: below}
	if err := u.Normalize(); err != nil {
		return "", fmt.Errorf("package URL of %s: %w", module, err)
	}
	return u.ToString(), nil
}

// purlOf returns a package URL in its canonical form. It fails if the type requires a
// part that is missing.
func purlOf(kind, namespace, name, version string, qualifiers map[string]string) (string, error) {
	u := packageurl.PackageURL{Type: kind, Namespace: namespace, Name: name, Version: version, Qualifiers: packageurl.QualifiersFromMap(qualifiers)}
	if err := u.Normalize(); err != nil {
		return "", fmt.Errorf("package URL of %s: %w", name, err)
	}
	return u.ToString(), nil
}

// noID matches what is replaced by a dash in identifiers. SPDX allows letters, digits,
// dots and dashes.
var noID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// unique returns an identifier for p and counts it in taken. If two parts have the same
// one, the later gets a number after two dashes; an identifier without a number never has
// two dashes, so it cannot collide.
func unique(taken map[string]int, kind string, p part) string {
	id := strings.Trim(noID.ReplaceAllString(kind+"-"+p.name+"-"+p.version, "-"), "-")
	taken[id]++
	if n := taken[id]; n > 1 {
		id = fmt.Sprintf("%s--%d", id, n) // no other has two dashes
	}
	return id
}
