package debs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// Place returns the entries of the packages that a base lacks, without the directories above
// them, and these packages. The set must be unpacked.
func (s *Set) Place(t *rootfs.Tree, architecture string) ([]layerfile.Entry, []Package, error) {
	status, err := basefs.Status(t)
	if err != nil {
		return nil, nil, err
	}
	system := &debian.System{}
	if err := system.AddBase(status, architecture); err != nil {
		return nil, nil, err
	}
	l := &layout{tree: t, links: map[string]string{}, owners: map[string]string{}, index: map[string]int{}}
	var added []Package
	var chosen []*unpacked
	for i, p := range s.Packages {
		if !system.Has(p.Name) {
			added, chosen = append(added, p), append(chosen, s.unpacked[i])
		}
	}
	var errs []error
	for i, u := range chosen {
		errs = append(errs, u.CheckScripts(added[i].Name, s.Rules), u.Add(system))
	}
	for _, u := range chosen {
		errs = append(errs, u.Fits(system))
	}
	for _, name := range s.Install {
		if !system.Has(name) {
			errs = append(errs, refuse(name, debian.ChooseAgain, "neither the base image nor mabuild.lock has it"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if err := l.readLinks(added, chosen); err != nil {
		return nil, nil, err
	}
	for i, u := range chosen {
		if err := l.addPackage(added[i].Name, u); err != nil {
			return nil, nil, err
		}
	}
	if err := s.applyRules(l, added, chosen); err != nil {
		return nil, nil, err
	}
	return l.entries, added, nil
}

// refuse returns an error about a package.
func refuse(name, way, format string, args ...any) error {
	return &specerr.Error{Field: "packages", Reason: name + ": " + fmt.Sprintf(format, args...), Way: way}
}

// A layout finds the path of each file of some packages in an image.
type layout struct {
	tree    *rootfs.Tree
	links   map[string]string // targets of the links of packages, by path
	owners  map[string]string // packages, by path
	index   map[string]int    // of entries, by path
	entries []layerfile.Entry
}

// add adds an entry.
func (l *layout) add(e layerfile.Entry) {
	l.index[e.Name] = len(l.entries)
	l.entries = append(l.entries, e)
}

// maxLinks bounds the links that a path leads through, as on Linux.
const maxLinks = 40

// resolve returns the path that a directory leads to through the links of the base and of
// the packages.
func (l *layout) resolve(dir string) (string, error) {
	at, rest := "", strings.Split(rootfs.Clean(dir), "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = rootfs.Clean(path.Dir(at))
			continue
		}
		next := path.Join(at, part)
		target, own := l.links[next]
		if !own {
			real, err := l.tree.Resolve(next)
			if err != nil {
				return "", err
			}
			if real == next {
				at = next
				continue
			}
			target = "/" + real
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s leads through more than %d links", dir, maxLinks)
		}
		if path.IsAbs(target) {
			at = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// place returns the path of a file: its directory is resolved, and its last element is not.
func (l *layout) place(name string) (string, error) {
	dir, err := l.resolve(path.Dir(name))
	return path.Join(dir, path.Base(name)), err
}

// readLinks finds the links of all packages, those above others first.
func (l *layout) readLinks(added []Package, chosen []*unpacked) error {
	type link struct{ owner, path, target string }
	var all []link
	for i, u := range chosen {
		for _, f := range u.files {
			if f.Link != "" {
				all = append(all, link{added[i].Name, f.Path, f.Link})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b link) int { return strings.Count(a.path, "/") - strings.Count(b.path, "/") })
	for _, one := range all {
		at, err := l.place(one.path)
		if err != nil {
			return refuse(one.owner, "", "%v", err)
		}
		if n, ok := l.tree.Lookup(at); ok && n.Kind == tar.TypeSymlink {
			continue // addPackage compares them
		}
		l.links[at] = one.target
	}
	return nil
}

// addPackage adds the files of a package, and what says that it is installed.
func (l *layout) addPackage(name string, u *unpacked) error {
	own := map[string]int{}     // entries of regular files, by their path in the package
	group := map[int][]string{} // paths of hard links, by the entry that they are
	for _, f := range u.files {
		at, err := l.place(f.Path)
		if err != nil {
			return refuse(name, "", "%v", err)
		}
		if f.Mode.IsDir() {
			if at, err = l.resolve(f.Path); err != nil {
				return refuse(name, "", "%v", err)
			}
		}
		if f.Hard != "" {
			i, ok := own[f.Hard]
			if !ok {
				return refuse(name, "", "/%s is a link to /%s, which is not in the package", f.Path, f.Hard)
			}
			if err := l.claim(name, at, layerfile.Entry{Kind: tar.TypeLink}); err != nil {
				return err
			}
			group[i] = append(group[i], at)
			continue
		}
		e := u.entry(f, at)
		if same, err := l.same(name, e); same || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := l.claim(name, at, e); err != nil {
			return err
		}
		if e.Kind == tar.TypeReg {
			own[f.Path] = len(l.entries)
		}
		l.add(e)
	}
	// A layer is sorted by name, and a link must come after the file that it is.
	for i, names := range group {
		names = append(names, l.entries[i].Name)
		slices.Sort(names)
		l.entries[i].Name = names[0]
		for _, at := range names[1:] {
			l.add(layerfile.Entry{Name: at, Kind: tar.TypeLink, Mode: l.entries[i].Mode, Link: names[0]})
		}
	}
	status := debian.StatusDir + "/" + name
	l.add(layerfile.Inline(status, 0o644, []byte(strings.TrimSpace(u.Control)+"\n")))
	if sums := u.sums(); sums != "" {
		l.add(layerfile.Inline(status+".md5sums", 0o644, []byte(sums)))
	}
	return nil
}

// sums returns the list of sums without the files that are left out.
func (u *unpacked) sums() string {
	var b strings.Builder
	for line := range strings.Lines(u.Sums) {
		_, name, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		if !u.dropped[path.Clean(name)] {
			b.WriteString(line)
		}
	}
	return b.String()
}

// same reports whether the image has an entry already: a directory, a link with the same
// target, or a file of another package with the same content.
func (l *layout) same(name string, e layerfile.Entry) (bool, error) {
	if e.Kind == tar.TypeSymlink {
		if n, ok := l.tree.Lookup(e.Name); ok && n.Kind == tar.TypeSymlink && n.Link == e.Link {
			return true, nil
		}
	}
	owner, taken := l.owners[e.Name]
	if !taken {
		return false, nil
	}
	if i, ok := l.index[e.Name]; ok && l.entries[i].Kind == e.Kind && (e.Kind == tar.TypeDir || e.Kind == tar.TypeSymlink && l.entries[i].Link == e.Link || e.Kind == tar.TypeReg && l.entries[i].Content == e.Content) {
		return true, nil
	}
	return false, refuse(name, "install only one of them", "/%s is in %s, too, with another content", e.Name, owner)
}

// claim notes the owner of a path. It is an error if the entry would replace a link or a
// directory of the base by something else.
func (l *layout) claim(name, at string, e layerfile.Entry) error {
	n, ok := l.tree.Lookup(at)
	switch {
	case ok && n.Kind == tar.TypeSymlink:
		return refuse(name, "use another base image, or omit the package", "/%s is a link to %s in the base image, and the package would replace it", at, n.Link)
	case ok && (n.Kind == tar.TypeDir) != (e.Kind == tar.TypeDir):
		return refuse(name, "use another base image, or omit the package", "/%s is a directory either in the base image or in the package", at)
	}
	l.owners[at] = name
	return nil
}

// has reports whether the image has something at a path.
func (l *layout) has(name string) bool {
	at, err := l.place(rootfs.Clean(name))
	if err != nil {
		return false
	}
	_, own := l.owners[at]
	_, base := l.tree.Lookup(at)
	return own || base
}

// applyRules does what the rules declare in place of scripts.
func (s *Set) applyRules(l *layout, added []Package, chosen []*unpacked) error {
	best := map[string]debian.Alternative{} // by name
	by := map[string]string{}               // packages, by name
	bundle := false
	for i, u := range chosen {
		name := added[i].Name
		rule, word, _ := strings.Cut(s.Rules[name], ":")
		switch rule {
		case "", ruleIgnore:
		case ruleCACertificates:
			bundle = true
		case ruleAlternatives:
			list, err := debian.Alternatives(u.Scripts["postinst"])
			if err != nil {
				return refuse(name, "use the rule ignore, and add the links with files", "its script cannot be read: %v", err)
			}
			some := false
			for _, a := range list {
				if !strings.Contains(a.Path, word) || !l.has(a.Path) {
					continue
				}
				some = true
				if b, ok := best[a.Name]; !ok || a.Priority > b.Priority {
					best[a.Name], by[a.Name] = a, name
				}
			}
			if !some {
				return refuse(name, "use another rule", "its script installs no alternative for the rule %s", s.Rules[name])
			}
		default:
			return refuse(name, "use alternatives, alternatives:WORD, ca-certificates or ignore", "unknown rule %q for scripts", s.Rules[name])
		}
	}
	for name, a := range best {
		for i, link := range append([]debian.Slave{{Link: a.Link, Name: a.Name, Path: a.Path}}, a.Slaves...) {
			if i > 0 && !l.has(link.Path) {
				continue // as update-alternatives does
			}
			if err := l.alternative(by[name], link); err != nil {
				return err
			}
		}
	}
	if bundle {
		return l.bundle()
	}
	return nil
}

// alternatives is the directory of update-alternatives.
const alternatives = "etc/alternatives/"

// alternative adds the two links of an alternative, unless the base has them.
func (l *layout) alternative(name string, s debian.Slave) error {
	for _, e := range []layerfile.Entry{
		{Name: alternatives + s.Name, Kind: tar.TypeSymlink, Mode: 0o777, Link: s.Path},
		{Name: rootfs.Clean(s.Link), Kind: tar.TypeSymlink, Mode: 0o777, Link: "/" + alternatives + s.Name},
	} {
		at, err := l.place(e.Name)
		if err != nil {
			return refuse(name, "", "%v", err)
		}
		if n, ok := l.tree.Lookup(at); ok && n.Kind == tar.TypeSymlink {
			continue // the base has chosen
		}
		if owner, taken := l.owners[at]; taken {
			return refuse(name, "use the rule ignore", "/%s, which its script would make, is in %s", at, owner)
		}
		if err := l.claim(name, at, e); err != nil {
			return err
		}
		e.Name = at
		l.add(e)
	}
	return nil
}

// The certificates of packages, and the file that programs read.
const (
	certificates = "usr/share/ca-certificates/"
	bundleFile   = "etc/ssl/certs/ca-certificates.crt"
	maxBundle    = 16 << 20 // bytes
)

// bundle adds the file with all certificates of the packages, sorted by their path.
func (l *layout) bundle() error {
	var list []layerfile.Entry
	for _, e := range l.entries {
		if e.Kind == tar.TypeReg && strings.HasPrefix(e.Name, certificates) && strings.HasSuffix(e.Name, ".crt") {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, layerfile.ByName)
	var all []byte
	for _, e := range list {
		r, err := e.Open()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(r, maxBundle))
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		if all = append(all, text...); len(all) > maxBundle {
			return refuse(ruleCACertificates, "", "the certificates have more than %d bytes", maxBundle)
		}
		if !strings.HasSuffix(string(text), "\n") {
			all = append(all, '\n')
		}
	}
	at, err := l.place(bundleFile)
	if err != nil {
		return refuse(ruleCACertificates, "", "%v", err)
	}
	e := layerfile.Inline(at, 0o644, all)
	if err := l.claim(ruleCACertificates, at, e); err != nil {
		return err
	}
	l.add(e)
	return nil
}
