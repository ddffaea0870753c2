package build

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/crosscompile"
)

// Bounds of what is read of a base's files, each ten times the largest in use.
const (
	maxAccounts = 1 << 20
	maxLibc     = 32 << 20
)

// read keeps of a regular file what matters later: who there is, and how old the
// C library is.
func (n *node) read(name string, h *tar.Header, r io.Reader) error {
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	switch {
	case (name == passwdFile || name == groupFile) && h.Size <= maxAccounts:
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		n.Text = string(text)
	case isGlibc(path.Base(name)) && h.Size <= maxLibc:
		library, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		// A linker script or something broken is no library of a version.
		n.Glibc, _ = crosscompile.GlibcOf(bytes.NewReader(library))
	}
	return nil
}

// isGlibc reports whether a file may be glibc: libc.so.6, or libc-2.31.so that it
// was a link to until 2.34.
func isGlibc(file string) bool {
	return file == "libc.so.6" || strings.HasPrefix(file, "libc-2.") && strings.HasSuffix(file, ".so")
}

// A system is what a program finds in an image beside itself.
type system struct {
	tree  tree
	files []entry // that mabuild adds
}

// has reports whether there is something at an absolute path.
func (s system) has(name string) (bool, error) {
	at, err := s.tree.resolve(name)
	if err != nil {
		return false, err
	}
	if _, ok := s.tree[at]; ok {
		return true, nil
	}
	return slices.ContainsFunc(s.files, func(e entry) bool { return e.name == at || e.name == clean(name) }), nil
}

// names returns the base names of everything, that of a library among them
// wherever the loader would look for it.
func (s system) names() map[string]bool {
	all := map[string]bool{}
	for name := range s.tree {
		all[path.Base(name)] = true
	}
	for _, e := range s.files {
		all[path.Base(e.name)] = true
	}
	return all
}

// glibc returns the version of the newest glibc, "" where there is none.
func (s system) glibc() string {
	newest := ""
	for _, n := range s.tree {
		if crosscompile.CompareGlibc(n.Glibc, newest) > 0 {
			newest = n.Glibc
		}
	}
	return newest
}

// loaders names the loaders of C libraries there are.
func (s system) loaders() string {
	var list []string
	for name := range s.tree {
		if isLoader(path.Base(name)) {
			list = append(list, "/"+name)
		}
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "no loader at all"
	}
	return strings.Join(list, ", ")
}

// isLoader reports whether a file is called as loaders of glibc and musl are.
func isLoader(file string) bool {
	return strings.HasPrefix(file, "ld-linux") || strings.HasPrefix(file, "ld-musl-") || strings.HasPrefix(file, "ld64.so.") || file == "ld.so.1"
}

// A LinkageError says what a program wants of its base that the base has not.
type LinkageError struct {
	Base   string
	Wants  []string
	Static bool // the base has no C library
}

func (e *LinkageError) Error() string {
	return fmt.Sprintf("base %s: %s", e.Base, strings.Join(e.Wants, "; "))
}

// Hint returns the way out.
func (e *LinkageError) Hint() string {
	if e.Static {
		return "link the C library in (cgo: {static: true}), or take a base that has it"
	}
	return "take a newer base or one with the same C library, or an older compiler, or link the library in (cgo: {static: true})"
}

// suits checks what a program wants against what it finds: its loader, its
// libraries and the version of glibc, all by name.
func (s system) suits(base string, l crosscompile.Linkage) error {
	e := &LinkageError{Base: base}
	has, err := s.has(l.Interpreter)
	if err != nil {
		return err
	}
	if !has {
		e.Static = !slices.ContainsFunc(keysOfTree(s.tree), func(name string) bool { return isLoader(path.Base(name)) })
		e.Wants = append(e.Wants, fmt.Sprintf("the program wants the loader %s (%s), and the base has %s", l.Interpreter, family(l.Interpreter), s.loaders()))
		return e // which the rest would only say again
	}
	names := s.names()
	for _, library := range l.Libraries {
		if !names[library] && !ofMusl(library, l.Interpreter) {
			e.Wants = append(e.Wants, fmt.Sprintf("the program wants the library %s, which the base has not", library))
		}
	}
	if has := s.glibc(); has != "" && crosscompile.CompareGlibc(l.Glibc, has) > 0 {
		e.Wants = append(e.Wants, fmt.Sprintf("the program wants GLIBC_%s, and the base's glibc is of GLIBC_%s", l.Glibc, has))
	}
	if len(e.Wants) > 0 {
		return e
	}
	return nil
}

func keysOfTree(t tree) []string {
	list := make([]string, 0, len(t))
	for name := range t {
		list = append(list, name)
	}
	return list
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
