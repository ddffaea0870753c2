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
	"slices"
	"strings"
)

// Fingerprint says, without starting it, which go command would run and with
// which settings of the person's: its file, its release, every variable that it
// heeds, and what `go env -w` wrote. Equal fingerprints build equal sources to
// equal programs, as far as the go command itself is concerned.
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
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	root := filepath.Dir(filepath.Dir(path))
	if _, err := os.Stat(filepath.Join(root, "pkg", "tool")); err != nil {
		return "", fmt.Errorf("%s starts another go: %w", path, err) // which one, only running it would tell
	}
	h := sha256.New()
	fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
	heeded := slices.DeleteFunc(slices.Clone(g.environ()), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !strings.HasPrefix(name, "GO") && !slices.Contains([]string{"HOME", "PATH", "XDG_CONFIG_HOME", "USERPROFILE", "APPDATA"}, name)
	})
	slices.Sort(heeded)
	for _, kv := range heeded {
		fmt.Fprintln(h, kv)
	}
	for _, file := range []string{filepath.Join(root, "VERSION"), filepath.Join(root, "go.env"), g.envFile()} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		fmt.Fprintf(h, "%s %v %q\n", file, err == nil, content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// envFile is where `go env -w` writes for this environment.
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

// lookup returns a variable of the environment that the go command will see.
func (g *Go) lookup(name string) string {
	value := ""
	for _, kv := range g.environ() { // the last one holds
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// Work returns the go.work file that the go command would use in dir: "" for
// none, and all the places above dir where one would be, were it there. A module that
// [Go.Find] made uses none, wherever one is.
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
		if _, err := os.Stat(file); err == nil {
			return file, absent
		}
		absent = append(absent, file)
		if at == filepath.Dir(at) {
			return "", absent
		}
	}
}
