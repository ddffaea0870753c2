// Package gocommand says what can be known of the go command without running it: which one
// would run, its release, and the settings that it reads.
package gocommand

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A Command is the go command as a user would start it.
type Command struct {
	Name    string   // "": go
	Environ []string // nil: the environment of this process
}

// root returns the path of the go command and the directory of its installation. It is an
// error if the command may start another one (a wrapper script, or GOROOT), since only
// running it shows which.
func (c Command) root() (command, root string, err error) {
	if command = c.Name; command == "" {
		command = "go"
	}
	if command, err = exec.LookPath(command); err != nil {
		return "", "", err
	}
	if command, err = filepath.EvalSymlinks(command); err != nil {
		return "", "", err
	}
	root = filepath.Dir(filepath.Dir(command))
	// With another GOROOT the go command uses the compiler from there.
	if set := c.Lookup("GOROOT"); set != "" {
		if set, err = filepath.EvalSymlinks(set); err != nil || set != root {
			return "", "", fmt.Errorf("%s is not the go of GOROOT=%s", command, c.Lookup("GOROOT"))
		}
	}
	// A wrapper script is not in a directory with the tools of Go. Which go it starts is
	// not known.
	if len(toolsOf(root)) == 0 {
		return "", "", fmt.Errorf("%s starts another go", command)
	}
	return command, root, nil
}

// toolsOf returns the files of the compiler, the linker and the other tools.
func toolsOf(root string) []string {
	tools, _ := filepath.Glob(filepath.Join(root, "pkg", "tool", runtime.GOOS+"_*", "*")) // the pattern is valid
	return tools
}

// A Release is what the go command and its settings put into every program, besides the
// flags of the build. It is the same on all machines.
type Release struct {
	Version string   // go1.26.8
	Text    string   // of the file VERSION, which identifies the release
	Flags   []string // of GOFLAGS that are kept and that change the result: -mod and -tags

	// Verified says that the checksum database of Go pins each version of each module, since no
	// setting excepts any.
	Verified bool

	local bool // the go command never starts another one
}

// Release returns the release that the go command belongs to. It is an error if the
// settings name another one.
func (c Command) Release() (Release, error) {
	_, root, err := c.root()
	if err != nil {
		return Release{}, err
	}
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return Release{}, err
	}
	r := Release{Text: strings.TrimSpace(string(text))}
	r.Version, _, _ = strings.Cut(r.Text, "\n")
	if !version.IsValid(r.Version) {
		return r, fmt.Errorf("%q is no release of Go", r.Version)
	}
	settings, err := c.settings(root)
	if err != nil {
		return r, err
	}
	if settings("GOROOT") != "" && c.Lookup("GOROOT") == "" || settings("GOWORK") != c.Lookup("GOWORK") {
		return r, errors.New("go env -w has set GOROOT or GOWORK")
	}
	switch choice := settings("GOTOOLCHAIN"); choice {
	case "local":
		r.local = true
	case "", "auto", "path", "local+auto", "local+path":
	default:
		return r, fmt.Errorf("GOTOOLCHAIN=%s starts another go", choice)
	}
	r.Verified = slices.Contains([]string{"", "sum.golang.org"}, settings("GOSUMDB"))
	for _, name := range []string{"GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GONOSUMCHECK"} {
		r.Verified = r.Verified && settings(name) == ""
	}
	kept, _ := KeepFlags(settings("GOFLAGS"))
	for _, flag := range strings.Fields(kept) {
		switch name, value, _ := strings.Cut(strings.TrimLeft(flag, "-"), "="); {
		case name == "mod" && value == "mod":
			return r, errors.New("GOFLAGS=-mod=mod lets the go command change go.sum")
		case name == "p":
		default:
			r.Flags = append(r.Flags, "-"+strings.TrimLeft(flag, "-"))
		}
	}
	return r, nil
}

// Tags returns the build tags of GOFLAGS. The flag -tags of a build replaces them.
func (r Release) Tags() []string {
	var tags []string
	for _, flag := range r.Flags {
		if list, ok := strings.CutPrefix(flag, "-tags="); ok {
			tags = strings.Split(list, ",")
		}
	}
	return tags
}

// Compiles returns an error if a go.mod or go.work makes the go command start a newer one.
func (r Release) Compiles(line *modfile.Go, toolchain *modfile.Toolchain) error {
	if line != nil && version.Compare("go"+line.Version, r.Version) > 0 {
		return fmt.Errorf("go %s is required, and this is %s", line.Version, r.Version)
	}
	if !r.local && toolchain != nil && toolchain.Name != "default" && version.Compare(toolchain.Name, r.Version) > 0 {
		return fmt.Errorf("toolchain %s is named, and this is %s", toolchain.Name, r.Version)
	}
	return nil
}

// settings returns a function for the value of a setting: of the environment, of `go env
// -w`, or of the installation, in this order.
func (c Command) settings(root string) (func(name string) string, error) {
	var files []string
	for _, file := range []string{c.envFile(), filepath.Join(root, "go.env")} {
		content, err := os.ReadFile(file)
		if err != nil && file != "" && file != "off" && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		files = append(files, string(content))
	}
	return func(name string) string {
		if value := c.Lookup(name); value != "" {
			return value
		}
		for _, content := range files {
			for line := range strings.Lines(content) {
				if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
					return value
				}
			}
		}
		return ""
	}, nil
}

// KeepFlags returns the flags in GOFLAGS that say how to build. It drops those that
// change the program or run other programs, and returns them for a warning, except those
// that mabuild sets in any case.
func KeepFlags(goflags string) (kept string, dropped []string) {
	var keep []string
	for _, flag := range strings.Fields(goflags) {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		switch name {
		case "mod", "tags", "p":
			keep = append(keep, flag)
		case "trimpath", "buildvcs", "modcacherw":
		default:
			dropped = append(dropped, flag)
		}
	}
	return strings.Join(keep, " "), dropped
}

// ProgramName returns the name that the go command gives a program: the last element of
// its import path, or the one before if the last is a major version such as v2.
func ProgramName(importPath string) string {
	name := path.Base(importPath)
	// SplitPathVersion also accepts the suffix of gopkg.in, such as .v3.
	if prefix, major, ok := module.SplitPathVersion(importPath); ok && major != "" && prefix != "" {
		name = path.Base(prefix)
	}
	return name
}

// Fingerprint identifies the go command that would run, and its settings, without running
// it: the files of the go command, the compiler and the linker, the release, all
// variables that it reads, and what `go env -w` has stored. Files are identified by path,
// size, time and mode, not by content.
//
// With equal fingerprints the go command compiles equal sources to equal programs. It is
// an error if the go command may start another one. The toolchain line of a go.mod is not part of the
// fingerprint; the caller compares the sources.
func (c Command) Fingerprint() (string, error) {
	path, root, err := c.root()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, file := range append(toolsOf(root), path) {
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, file, info.Size(), info.ModTime().UnixNano(), info.Mode())
	}
	heeded := slices.DeleteFunc(slices.Clone(c.environ()), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !heeds(name)
	})
	slices.Sort(heeded)
	for _, kv := range heeded {
		fmt.Fprintln(h, kv)
	}
	// The content of a settings file counts, and so does its absence.
	settings := c.envFile()
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
func (c Command) envFile() string {
	if file := c.Lookup("GOENV"); file != "" {
		return file
	}
	for _, at := range [][]string{{"XDG_CONFIG_HOME"}, {"HOME", ".config"}, {"APPDATA"}} {
		if dir := c.Lookup(at[0]); dir != "" {
			return filepath.Join(append(append([]string{dir}, at[1:]...), "go", "env")...)
		}
	}
	return ""
}

// Lookup returns a variable of the environment that the go command will get. The last
// value counts, as in os/exec.
func (c Command) Lookup(name string) string {
	value := ""
	for _, kv := range c.environ() {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// environ returns the environment of the command.
func (c Command) environ() []string {
	if c.Environ != nil {
		return c.Environ
	}
	return os.Environ()
}
