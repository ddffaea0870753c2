package basefs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// textOf returns what the tree keeps of a file: a list or a version, "" for other files.
func textOf(n rootfs.Node) string {
	text, _ := n.Content.(string)
	return text
}

// isGlibc reports whether a file may be glibc: libc.so.6, or the file libc-2.31.so to
// which it was a link before glibc 2.34.
func isGlibc(file string) bool {
	return file == "libc.so.6" || strings.HasPrefix(file, "libc-2.") && strings.HasSuffix(file, ".so")
}

// A System is the file system of an image without its programs.
type System struct {
	Tree  *rootfs.Tree      // of the base
	Files []layerfile.Entry // that are added to the base
}

// has reports whether a file exists at an absolute path.
func (s System) has(name string) (bool, error) {
	at, err := s.Tree.Resolve(name)
	if err != nil {
		return false, err
	}
	if _, ok := s.Tree.Lookup(at); ok {
		return true, nil
	}
	// The files that are added may have the path as written, or the one it leads to.
	return slices.ContainsFunc(s.Files, func(e layerfile.Entry) bool { return e.Name == at || e.Name == rootfs.Clean(name) }), nil
}

// lacks returns the libraries that no file has the name of. It does not reproduce the
// search path of the loader: a library in any directory counts, so a missing one is
// certain and a found one is not.
func (s System) lacks(libraries []string) []string {
	missing := map[string]bool{}
	for _, name := range libraries {
		missing[name] = true
	}
	for n := range s.Tree.All() {
		delete(missing, n.Name())
	}
	for _, e := range s.Files {
		delete(missing, path.Base(e.Name))
	}
	return slices.DeleteFunc(slices.Clone(libraries), func(name string) bool { return !missing[name] })
}

// glibc returns the version of the newest glibc, "" if there is none.
func (s System) glibc() string {
	newest := ""
	for n := range s.Tree.All() {
		if isGlibc(n.Name()) && elf.CompareGlibc(textOf(n), newest) > 0 {
			newest = textOf(n)
		}
	}
	return newest
}

// maxLoaders is how many loaders an error names. An ordinary base has one or two.
const maxLoaders = 5

// loaders returns the loaders of C libraries in the base for an error, and reports
// whether there are any. It names the first ones by path, in a bounded amount of memory.
func (s System) loaders() (text string, some bool) {
	var list []string // the first by name
	count := 0
	for n := range s.Tree.All() {
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

// isLoader reports whether a file has the name of a loader of glibc or musl.
func isLoader(file string) bool {
	return strings.HasPrefix(file, "ld-linux") || strings.HasPrefix(file, "ld-musl-") || strings.HasPrefix(file, "ld64.so.") || file == "ld.so.1"
}

// A program that does not fit its base has one of these hints.
const (
	wayOfLinkage  = "use a newer base image or one with the same C library, use an older compiler, or link the library statically (cgo: {static: true})"
	wayOfNoLoader = "link the C library statically (--cgo-static, or cgo: {static: true}; for a program that exists, CGO_ENABLED=0 when it is compiled), or use a base image that has it"
)

// Misfit returns the error of a program that requires what its base lacks.
func Misfit(base string, wants ...string) error { return misfit(base, wayOfLinkage, wants...) }

// misfit is Misfit with another hint.
func misfit(base, way string, wants ...string) error {
	return hint.New(hint.Build, way, "base %s: %s", base, strings.Join(wants, "; "))
}

// Suits compares what a program needs with the image: its loader by path, its libraries
// by name and its glibc by version. It returns one error for all that is missing.
// If the loader is missing, the C library is another one and the rest is not compared.
func (s System) Suits(base string, l elf.Linkage) error {
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
	if has := s.glibc(); has != "" && elf.CompareGlibc(l.Glibc, has) > 0 {
		wants = append(wants, fmt.Sprintf("the program requires GLIBC_%s, but the base image has GLIBC_%s", l.Glibc, has))
	}
	if len(wants) > 0 {
		return Misfit(base, wants...)
	}
	return nil
}

// family returns the C library that a loader belongs to.
func family(interpreter string) string {
	if strings.HasPrefix(path.Base(interpreter), "ld-musl-") {
		return "musl"
	}
	return "glibc"
}

// ofMusl reports whether a library is musl itself. The loader of musl is also its C
// library, so no other file needs this name.
func ofMusl(library, interpreter string) bool {
	return family(interpreter) == "musl" && (library == "libc.so" || strings.HasPrefix(library, "libc.musl-"))
}
