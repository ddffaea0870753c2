package crosscompile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/intree"
)

// Fingerprint identifies the go command that would run, and its settings, without running
// it: the files of the go command, the compiler and the linker, the release, all
// variables that it reads, and what `go env -w` has stored. Files are identified by path,
// size, time and mode, not by content.
//
// With equal fingerprints the go command compiles equal sources to equal programs. It is
// an error if the go command may start another one (a wrapper script, or GOROOT), since
// only running it shows which. The toolchain line of a go.mod is not part of the
// fingerprint; the caller compares the sources.
func (g *Go) Fingerprint() (string, error) {
	command := g.Command
	if command == "" {
		command = "go"
	}
	found, err := exec.LookPath(command)
	if err != nil {
		return "", &noGo{err}
	}
	path, err := filepath.EvalSymlinks(found)
	if err != nil {
		return "", err
	}
	root := filepath.Dir(filepath.Dir(path))
	// With another GOROOT the go command uses the compiler from there.
	if set := g.lookup("GOROOT"); set != "" {
		if set, err = filepath.EvalSymlinks(set); err != nil || set != root {
			return "", fmt.Errorf("%s is not the go of GOROOT=%s", path, g.lookup("GOROOT"))
		}
	}
	h := sha256.New()
	// A wrapper script is not in a directory with the tools of Go. Which go it starts is
	// not known.
	tools, err := filepath.Glob(filepath.Join(root, "pkg", "tool", runtime.GOOS+"_*", "*"))
	if err != nil || len(tools) == 0 {
		return "", fmt.Errorf("%s starts another go", path)
	}
	for _, file := range append(tools, path) {
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, file, info.Size(), info.ModTime().UnixNano(), info.Mode())
	}
	heeded := slices.DeleteFunc(slices.Clone(g.environ()), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !heeds(name)
	})
	slices.Sort(heeded)
	for _, kv := range heeded {
		fmt.Fprintln(h, kv)
	}
	// The content of a settings file counts, and so does its absence.
	settings := g.envFile()
	for _, file := range []string{filepath.Join(root, "VERSION"), filepath.Join(root, "go.env"), settings} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if file == settings && strings.Contains("\n"+string(content), "\nGOROOT=") {
			return "", fmt.Errorf("%s may name another go", settings)
		}
		fmt.Fprintf(h, "%s %v %q\n", file, err == nil, content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// heeds reports whether the go command may read a variable, or finds its settings or
// another toolchain by it. The variables of Google's tools also begin with GO, and some
// of them change with each run.
func heeds(name string) bool {
	return strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "GOOGLE") ||
		slices.Contains([]string{"HOME", "PATH", "XDG_CONFIG_HOME", "USERPROFILE", "APPDATA"}, name)
}

// envFile returns the file in which `go env -w` stores settings, "" if it is unknown.
func (g *Go) envFile() string {
	if file := g.lookup("GOENV"); file != "" {
		return file
	}
	for _, at := range [][]string{{"XDG_CONFIG_HOME"}, {"HOME", ".config"}, {"APPDATA"}} {
		if dir := g.lookup(at[0]); dir != "" {
			return filepath.Join(append(append([]string{dir}, at[1:]...), "go", "env")...)
		}
	}
	return ""
}

// lookup returns a variable of the environment that the go command will get. The last
// value counts, as in os/exec.
func (g *Go) lookup(name string) string {
	value := ""
	for _, kv := range g.environ() {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
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
