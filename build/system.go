package build

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// maxAccounts bounds a list of users or groups, in bytes.
const maxAccounts = 1 << 20

// newTree makes the tree of a base that keeps what matters of its files: who there
// is, and how old the C library is.
func newTree() *rootfs.Tree {
	return &rootfs.Tree{
		Wants: func(name string) bool { return name == passwdFile || name == groupFile || isGlibc(path.Base(name)) },
		Content: func(name string, r io.Reader, room int64) (any, int64, error) {
			if name != passwdFile && name != groupFile {
				version, err := crosscompile.GlibcOf(r)
				return version, int64(len(version)), err
			}
			text, err := io.ReadAll(io.LimitReader(r, maxAccounts+1))
			switch {
			case err != nil:
				return nil, 0, err
			case len(text) > maxAccounts:
				return nil, 0, fmt.Errorf("/%s has more than %d bytes", name, maxAccounts)
			case int64(len(text)) > room:
				return nil, 0, rootfs.ErrBudget
			}
			return string(text), int64(len(text)), nil
		},
	}
}

// textOf returns what the tree kept of a file.
func textOf(n rootfs.Node) string {
	text, _ := n.Content.(string)
	return text
}

// isGlibc reports whether a file may be glibc: libc.so.6, or libc-2.31.so that it
// was a link to until 2.34.
func isGlibc(file string) bool {
	return file == "libc.so.6" || strings.HasPrefix(file, "libc-2.") && strings.HasSuffix(file, ".so")
}

// A system is what a program finds in an image beside itself.
type system struct {
	tree  *rootfs.Tree
	files []entry // that mabuild adds
}

// has reports whether there is something at an absolute path.
func (s system) has(name string) (bool, error) {
	at, err := s.tree.Resolve(name)
	if err != nil {
		return false, err
	}
	if _, ok := s.tree.Lookup(at); ok {
		return true, nil
	}
	return slices.ContainsFunc(s.files, func(e entry) bool { return e.name == at || e.name == clean(name) }), nil
}

// lacks returns those of the libraries that nothing has the name of, anywhere: a
// library is found wherever the loader would look for it.
func (s system) lacks(libraries []string) []string {
	missing := map[string]bool{}
	for _, name := range libraries {
		missing[name] = true
	}
	for n := range s.tree.All() {
		delete(missing, n.Name())
	}
	for _, e := range s.files {
		delete(missing, path.Base(e.name))
	}
	return slices.DeleteFunc(slices.Clone(libraries), func(name string) bool { return !missing[name] })
}

// glibc returns the version of the newest glibc, "" where there is none.
func (s system) glibc() string {
	newest := ""
	for n := range s.tree.All() {
		if isGlibc(n.Name()) && crosscompile.CompareGlibc(textOf(n), newest) > 0 {
			newest = textOf(n)
		}
	}
	return newest
}

// maxLoaders is how many loaders an error names; the usual base has one or two.
const maxLoaders = 5

// loaders names the loaders of C libraries there are, and reports whether there are
// any.
func (s system) loaders() (text string, some bool) {
	var list []string // the first by name
	count := 0
	for n := range s.tree.All() {
		if !isLoader(n.Name()) {
			continue
		}
		count++
		name := "/" + n.Path()
		at, _ := slices.BinarySearch(list, name)
		list = slices.Insert(list, at, name)
		list = list[:min(len(list), maxLoaders)]
	}
	switch {
	case count == 0:
		return "no loader", false
	case count > len(list):
		return fmt.Sprintf("%s and %d more", strings.Join(list, ", "), count-len(list)), true
	}
	return strings.Join(list, ", "), true
}

// isLoader reports whether a file is called as loaders of glibc and musl are.
func isLoader(file string) bool {
	return strings.HasPrefix(file, "ld-linux") || strings.HasPrefix(file, "ld-musl-") || strings.HasPrefix(file, "ld64.so.") || file == "ld.so.1"
}

// A program that does not fit its base has one of these hints.
const (
	wayOfLinkage  = "use a newer base image or one with the same C library, use an older compiler, or link the library statically (cgo: {static: true})"
	wayOfNoLoader = "link the C library statically (cgo: {static: true}), or use a base image that has it"
)

// misfit says what a program requires of its base that the base lacks.
func misfit(base, way string, wants ...string) error {
	return hint.New(hint.Build, way, "base %s: %s", base, strings.Join(wants, "; "))
}

// suits checks what a program wants against what it finds: its loader, its
// libraries and the version of glibc, all by name.
func (s system) suits(base string, l crosscompile.Linkage) error {
	has, err := s.has(l.Interpreter)
	if err != nil {
		return err
	}
	if !has {
		loaders, some := s.loaders()
		way := wayOfLinkage
		if !some {
			way = wayOfNoLoader
		}
		// The rest would only repeat this.
		return misfit(base, way, fmt.Sprintf("the program requires the loader %s (%s), but the base image has %s", l.Interpreter, family(l.Interpreter), loaders))
	}
	var wants []string
	for _, library := range s.lacks(l.Libraries) {
		if !ofMusl(library, l.Interpreter) {
			wants = append(wants, fmt.Sprintf("the program requires the library %s, which the base image lacks", library))
		}
	}
	if has := s.glibc(); has != "" && crosscompile.CompareGlibc(l.Glibc, has) > 0 {
		wants = append(wants, fmt.Sprintf("the program requires GLIBC_%s, but the base image has GLIBC_%s", l.Glibc, has))
	}
	if len(wants) > 0 {
		return misfit(base, wayOfLinkage, wants...)
	}
	return nil
}

// family names the C library that a loader belongs to.
func family(interpreter string) string {
	if strings.HasPrefix(path.Base(interpreter), "ld-musl-") {
		return "musl"
	}
	return "glibc"
}

// ofMusl reports whether a library is musl's own, which its loader is.
func ofMusl(library, interpreter string) bool {
	return family(interpreter) == "musl" && (library == "libc.so" || strings.HasPrefix(library, "libc.musl-"))
}
