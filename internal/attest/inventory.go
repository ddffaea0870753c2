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

// A part is one thing that an image is made of, as both formats have it.
type part struct {
	id      string // unique in a document; letters, digits, dots and dashes
	name    string
	version string
	purl    string
	sha256  string // hexadecimal
	sum     string // as go.sum has it
	from    string // what a distribution built it from
	comment string
}

// An inventory is what an image is made of.
type inventory struct {
	image, program part
	settings       []setting // of the program
	modules        []part    // of the program, Go's standard library among them
	base           *part     // nil: none
	packages       []part    // of the base
	unread         string    // what is not here, in sentences
}

// cgo reports whether the program may hold what no module brought.
func (inv *inventory) cgo() bool { return slices.Contains(inv.settings, setting{"CGO_ENABLED", "1"}) }

// A setting is something that the program says of how it was built.
type setting struct{ key, value string }

// copied are the settings that are: what the compiler was told in a word. Flags
// are free texts, and may hold what is nobody's business.
var copied = []string{
	"-asan", "-buildmode", "-compiler", "-cover", "-msan", "-race", "-tags", "CGO_ENABLED", "GO386", "GOAMD64", "GOARCH", "GOARM",
	"GOARM64", "GOEXPERIMENT", "GOFIPS140", "GOMIPS", "GOMIPS64", "GOOS", "GOPPC64", "GORISCV64", "GOWASM",
}

// inventoryOf makes the inventory of f's image.
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
	return inv, nil
}

func imagePURL(f Facts) (string, error) {
	qualifiers := map[string]string{"arch": f.Platform.Architecture, "os": f.Platform.OS}
	if f.Platform.Variant != "" {
		qualifiers["variant"] = f.Platform.Variant
	}
	return purlOf(packageurl.TypeOCI, "", f.Name, f.Image.String(), qualifiers)
}

// goProgram adds the program with its modules and Go's standard library.
func (inv *inventory) goProgram(f Facts) (err error) {
	inv.program = part{id: "Program", name: f.Name, version: f.Version}
	if f.Info == nil {
		return nil
	}
	main, deps := programModule(f.Info)
	inv.program.name, inv.program.sum = cmp.Or(f.Info.Path, f.Name), main.Sum
	inv.program.version = cmp.Or(released(main.Version), f.Version)
	if main.Path != "" {
		below := strings.TrimPrefix(strings.TrimPrefix(f.Info.Path, main.Path), "/")
		if inv.program.purl, err = goPURL(main.Path, inv.program.version, below); err != nil {
			return err
		}
	}
	for _, s := range f.Info.Settings {
		if slices.Contains(copied, s.Key) && s.Value != "" {
			inv.settings = append(inv.settings, setting{s.Key, s.Value})
		}
	}
	slices.SortFunc(inv.settings, func(a, b setting) int { return cmp.Compare(a.key, b.key) })
	version, experiments, _ := strings.Cut(strings.TrimPrefix(f.Info.GoVersion, "go"), " ")
	std := part{name: "stdlib", version: version, comment: experiments}
	if std.purl, err = goPURL("stdlib", version, ""); err != nil {
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

func byName(a, b part) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
}

// programModule returns the module that the program is of and the others. It is not
// always the main one: module/path@version is built from a module that requires it.
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

// released is a version that says something.
func released(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}

// module describes what was compiled under a module's path: what replaces it, if
// anything does. The path of a directory is the host's, and left out.
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
	// go.sum's hash is a SHA-256, of a list of the module's files.
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.sum, "h1:")); err == nil && len(raw) > 0 {
		p.sha256 = hex.EncodeToString(raw)
	}
	var err error
	p.purl, err = goPURL(p.name, p.version, "")
	return p, err
}

// onBase adds the base and its packages.
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
	purlName, qualifiers := "base", map[string]string{"arch": f.Platform.Architecture}
	if r, err := name.ParseReference(b.Name); err == nil && b.Name != "" {
		base.name = r.Name()
		purlName = path.Base(r.Context().RepositoryStr())
		qualifiers["repository_url"] = r.Context().Name()
		if t, ok := r.(name.Tag); ok {
			qualifiers["tag"] = t.TagStr()
		}
	} else {
		base.name = "base"
	}
	var err error
	if base.purl, err = purlOf(packageurl.TypeOCI, "", purlName, b.Digest.String(), qualifiers); err != nil {
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

// goPURL is the package URL of a package below a module.
func goPURL(module, version, below string) (string, error) {
	dir, last := path.Split(module)
	u := packageurl.PackageURL{Type: packageurl.TypeGolang, Namespace: strings.TrimSuffix(dir, "/"), Name: last, Version: version, Subpath: below}
	if err := u.Normalize(); err != nil {
		return "", fmt.Errorf("package URL of %s: %w", module, err)
	}
	return u.ToString(), nil
}

func purlOf(kind, namespace, name, version string, qualifiers map[string]string) (string, error) {
	u := packageurl.PackageURL{Type: kind, Namespace: namespace, Name: name, Version: version, Qualifiers: packageurl.QualifiersFromMap(qualifiers)}
	if err := u.Normalize(); err != nil {
		return "", fmt.Errorf("package URL of %s: %w", name, err)
	}
	return u.ToString(), nil
}

// noID is what the identifiers of SPDX may not have in them.
var noID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// unique gives a part an identifier that no other has.
func unique(taken map[string]int, kind string, p part) string {
	id := strings.Trim(noID.ReplaceAllString(kind+"-"+p.name+"-"+p.version, "-"), "-")
	taken[id]++
	if n := taken[id]; n > 1 {
		id = fmt.Sprintf("%s--%d", id, n) // no other has two dashes
	}
	return id
}
