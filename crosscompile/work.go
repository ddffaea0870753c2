package crosscompile

import (
	"os"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/gocommand"
	"github.com/mabuild/mabuild/internal/intree"
)

// lookup returns a variable of the environment that the go command will get. The last
// value counts, as in os/exec.
func (g *Go) lookup(name string) string {
	return gocommand.Command{Environ: g.Environ}.Lookup(name)
}

// Work returns the go.work file that the go command would use in dir, "" for none. absent
// has the paths above dir where a go.work would be used if it existed; a caller that
// remembers a result has to check them again. A module that [Go.Find] made for
// module/path@version never uses a go.work.
func (g *Go) Work(dir string) (file string, absent []string) {
	if _, alone := scratched(dir); alone {
		return "", nil
	}
	switch set := g.lookup("GOWORK"); set {
	case "":
	case "off":
		return "", nil
	default:
		return set, nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		file := filepath.Join(at, "go.work")
		if _, err := os.Stat(file); err == nil && intree.Owned(file) == nil { // another user's is ignored
			return file, absent
		}
		absent = append(absent, file)
		if at == filepath.Dir(at) {
			return "", absent
		}
	}
}
