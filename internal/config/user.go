package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// UserFile returns the path of the user's own file, which sets what no file of a tree
// may: registries and their trust, and the location of the cache. It is
// mabuild/config.yaml below $XDG_CONFIG_HOME if that is an absolute path, else below
// %APPDATA% on Windows, else below ~/.config. Without a home directory it is "". lookup
// works like os.LookupEnv.
func UserFile(lookup func(string) (string, bool)) string {
	value := func(name string) string { v, _ := lookup(name); return v }
	dir := value("XDG_CONFIG_HOME")
	switch home := value("HOME"); {
	case filepath.IsAbs(dir):
	case runtime.GOOS == "windows" && value("APPDATA") != "":
		dir = value("APPDATA")
	case home != "":
		dir = filepath.Join(home, ".config")
	default:
		return ""
	}
	return filepath.Join(dir, "mabuild", "config.yaml")
}

// userFileName is the name of the file in hints.
func userFileName() string { return "~/.config/mabuild/config.yaml" }

// readUser reads the user's own file, if there is one. tree is the directory of the
// source tree, or "". A file inside the tree, with links resolved, is ignored with a
// warning: it belongs to the tree, since HOME may be a checkout. A file that another user
// may have put there is an error. Settings of programs are errors too, so that a build
// does not depend on who runs it.
func readUser(o Options, tree string) (*inputFile, error) {
	none := &inputFile{config: &Config{}}
	path := UserFile(o.Lookup)
	if path == "" {
		return none, nil
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return none, nil
	}
	fail := func(err error) (*inputFile, error) {
		return none, &yamlconf.Problem{Origin: yamlconf.Origin{Kind: yamlconf.FromUser, Name: path}, Err: bare(err)}
	}
	if err != nil {
		return fail(err)
	}
	if rel, err := filepath.Rel(tree, real); tree != "" && err == nil && filepath.IsLocal(rel) {
		none.ignored = []error{fmt.Errorf("%s is ignored: it is inside the source tree %s, which you may not control", path, tree)}
		return none, nil
	}
	if err := intree.Owned(real); err != nil {
		return fail(err)
	}
	info, err := os.Stat(real)
	if err == nil && !info.Mode().IsRegular() {
		err = intree.ErrIrregular
	}
	if err != nil {
		return fail(err)
	}
	data, err := os.ReadFile(real)
	if err != nil {
		return fail(err)
	}
	c, lines, problems := table.Decode(path, data)
	for key, line := range lines {
		if top := topOf(key); !access(key) && top == key {
			problems = append(problems, &yamlconf.Problem{
				Origin: yamlconf.Origin{Kind: yamlconf.FromUser, Name: path, Line: line}, Key: key, Err: errors.New("is a setting of programs; move it to " + FileName),
			})
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err := yamlconf.Join(path, problems); err != nil {
		return none, err
	}
	c.File = path
	table.Anchor(c, filepath.Dir(path))
	return &inputFile{config: c, lines: lines}, nil
}
