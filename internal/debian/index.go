package debian

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxPackages bounds the packages of an index.
const maxPackages = 500_000

// A Package is a package of an archive.
type Package struct {
	Name, Version string
	Architecture  string // Debian's name, or all
	Path          string // in the archive
	SHA256        string // in hexadecimal digits

	depends, provides, conflicts string
	priority                     int
}

// An Index lists the packages of an archive for an architecture.
type Index struct {
	Architecture string
	From         string // the archive, for errors

	packages  map[string][]*Package // by name
	providers map[string][]*Package // by the names that they provide
}

// priorities are the values of Priority, the most important first (Debian Policy, section
// 2.5).
var priorities = []string{"required", "important", "standard", "optional", "extra"}

// indexKeys are the fields of an index that are read, in the order of the constants below.
var indexKeys = []string{"package", "version", "architecture", "filename", "sha256", "pre-depends", "depends", "provides", "conflicts", "breaks", "priority"}

// add reads the packages of a file named Packages into the index.
func (x *Index) add(r io.Reader) error {
	if x.packages == nil {
		x.packages, x.providers = map[string][]*Package{}, map[string][]*Package{}
	}
	count := 0
	return paragraphs(r, indexKeys, func(f []string) error {
		p := &Package{
			Name: f[0], Version: f[1], Architecture: f[2], Path: f[3], SHA256: f[4],
			depends: joined(f[5], f[6]), provides: f[7], conflicts: joined(f[8], f[9]), priority: slices.Index(priorities, f[10]),
		}
		if err := p.check(); err != nil {
			return err
		}
		if p.Architecture != x.Architecture && p.Architecture != "all" {
			return nil
		}
		if count++; count > maxPackages {
			return fmt.Errorf("more than %d packages", maxPackages)
		}
		x.packages[p.Name] = append(x.packages[p.Name], p)
		if p.provides == "" {
			return nil
		}
		provided, err := relations(p.provides)
		if err != nil {
			return fmt.Errorf("%s: Provides: %w", p.Name, err)
		}
		for _, group := range provided {
			x.providers[group[0].name] = append(x.providers[group[0].name], p)
		}
		return nil
	})
}

// joined returns two lists as one.
func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

// check returns an error unless the fields of a package have the form that they must have.
func (p *Package) check() error {
	if !IsName(p.Name) {
		return fmt.Errorf("%.100q is not the name of a package", p.Name)
	}
	if err := errorsOf(checkVersion(p.Version), CheckPath(p.Path), checkSum(p.SHA256)); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	if !IsName(p.Architecture) {
		return fmt.Errorf("%s: %.100q is not an architecture", p.Name, p.Architecture)
	}
	return nil
}

// errorsOf returns the first error.
func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckPath returns an error unless text is a path of a package below the URL of an archive.
func CheckPath(text string) error {
	if text == "" || len(text) > 1024 || strings.HasPrefix(text, "/") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`?#\`, r) }) ||
		slices.ContainsFunc(strings.Split(text, "/"), func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return fmt.Errorf("%.200q is not a path in an archive", text)
	}
	return nil
}

// checkSum returns an error unless text is a sha256 in hexadecimal digits.
func checkSum(text string) error {
	if len(text) != 64 || strings.Trim(text, "0123456789abcdef") != "" {
		return fmt.Errorf("%.100q is not a sha256", text)
	}
	return nil
}

// newest returns the newest package of a name that a relation allows, nil if there is none.
func (x *Index) newest(r relation) *Package {
	var best *Package
	for _, p := range x.packages[r.name] {
		if r.allows(p.Version) && (best == nil || Compare(p.Version, best.Version) > 0) {
			best = p
		}
	}
	return best
}

// provider returns the package that provides what a relation names: the one with the most
// important priority, and of these the first by name. It is nil if there is none.
func (x *Index) provider(r relation) *Package {
	var found []*Package
	for _, p := range x.providers[r.name] {
		if provides(p.provides, r) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MinFunc(found, func(a, b *Package) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.Name, b.Name), Compare(b.Version, a.Version))
	})
}

// provides reports whether the field Provides has what a relation names. A relation with a
// version needs one there, too.
func provides(field string, r relation) bool {
	groups, err := relations(field)
	return err == nil && slices.ContainsFunc(groups, func(group []relation) bool {
		p := group[0]
		return p.name == r.name && (r.op == "" || p.op == "=" && r.allows(p.version))
	})
}
