//go:generate go test -run TestGolden -update .

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// FileName is the name of the file that is looked for.
const FileName = ".mabuild.yaml"

// Options say where to look.
type Options struct {
	// Dir is where the search for the file begins; empty is the working
	// directory.
	Dir string
	// File is read instead of searching, and must exist.
	File string
	// Lookup returns the value of a variable; nil is os.LookupEnv. A variable
	// that is set to nothing counts as not set.
	Lookup func(string) (string, bool)
	// Environ lists all variables, NAME=VALUE, to warn of those that are misspelt; nil
	// warns of none.
	Environ func() []string
	// Keys says what is read.
	Keys Keys
	// Flags are asked for the flags that have a key; only those that were given
	// on the command line count.
	Flags *pflag.FlagSet
}

// Keys say which keys are read.
type Keys int

const (
	// All are those of a program that builds.
	All Keys = iota
	// Access are those that say how registries are reached, what may be kept and how
	// people are talked to. What is wrong with the file's others, or with their
	// variables, stops nothing: [Config.Ignored] has it.
	Access
	// NoFile are those of Access; no file is read.
	NoFile
)

// Load merges flags, environment, file and defaults.
//
// The file is [FileName] in Options.Dir or the nearest directory above it, up to
// the repository's root (the directory that has .git) or else the module's (the
// one that has go.mod); there need not be one. The error joins all that is wrong
// in the file, in the environment and in flags, each a [*Problem].
func Load(o Options) (*Config, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Lookup == nil {
		o.Lookup = os.LookupEnv
	}
	fields := describe(reflect.TypeFor[Config]())
	if o.Keys != All {
		fields = slices.DeleteFunc(slices.Clone(fields), func(f *field) bool { return !access(f.path) })
	}
	fromFile, lines, ignored, err := read(o)
	env, envErr := environment(fields, o.Lookup)
	flags, flagErr := given(fields, o.Flags)
	if err := errors.Join(err, envErr, flagErr); err != nil {
		return nil, err
	}
	c := &Config{File: fromFile.File, Dir: fromFile.Dir, Ignored: append(ignored, misspelt(o)...), workdir: o.Dir, origins: map[string]Origin{}}
	top := sources{defaults: defaults(fields), env: env, flags: flags}
	top.file = inFile(fields, reflect.ValueOf(fromFile).Elem(), c.File, lines, "")
	top.merge(fields, reflect.ValueOf(c).Elem(), c.origins, "")
	if o.Keys != All {
		return c, nil
	}
	if err := c.uniqueIDs(lines); err != nil {
		return nil, err
	}
	c.Cgo.imply(c.origins, "")
	c.inherit(top, lines)
	for i := range c.Builds {
		c.Builds[i].Cgo.imply(c.origins, fmt.Sprintf("builds[%d].", i))
	}
	if permitted(o) {
		return c, nil
	}
	if err := c.refuseUnsafe(); err != nil {
		return nil, err
	}
	return c, nil
}

// access reports whether the key at a path is one of [Access].
func access(path string) bool {
	top := topOf(path)
	return slices.Contains([]string{"cache", "jobs", "registries"}, top) || slices.Contains(global, top)
}

// topOf returns the key of the top level that a path begins with.
func topOf(path string) string {
	if at := strings.IndexAny(path, ".["); at >= 0 {
		return path[:at]
	}
	return path
}

// read reads the file, if there is one. What is wrong with it and does not matter to
// o is in ignored.
func read(o Options) (c *Config, lines map[string]int, ignored []error, err error) {
	path := o.File
	if path == "" && o.Keys != NoFile {
		if path, err = find(o.Dir); err != nil {
			return nil, nil, nil, err
		}
	}
	if path == "" || o.Keys == NoFile {
		return &Config{Dir: o.Dir}, nil, nil, nil
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, nil, nil, &Problem{Origin: Origin{Kind: FromFile, Name: path}, Err: err}
	}
	c, lines, d := decodeSome[Config](path, data)
	if o.Keys != All {
		d.problems = slices.DeleteFunc(d.problems, func(err error) bool {
			p := (*Problem)(nil)
			beside := errors.As(err, &p) && p.Key != "" && !access(p.Key)
			if beside {
				ignored = append(ignored, err)
			}
			return beside
		})
	}
	if err := d.err(); err != nil {
		return nil, nil, nil, err
	}
	c.File, c.Dir = path, filepath.Dir(path)
	anchor(describe(reflect.TypeFor[Config]()), reflect.ValueOf(c).Elem(), c.Dir)
	return c, lines, ignored, nil
}

// readBounded reads one byte more than a file may have, and no more.
func readBounded(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, bare(err)
}

// bare leaves out operation and path, which the caller tells.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// find returns the path of the file for dir, empty for none.
func find(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	root := rootOf(abs)
	for at, up := dir, abs; ; at, up = filepath.Join(at, ".."), filepath.Dir(up) {
		path := filepath.Join(at, FileName)
		info, err := os.Stat(path)
		switch {
		case err == nil && !info.Mode().IsRegular():
			return "", &Problem{Origin: Origin{Kind: FromFile, Name: path}, Err: errors.New("is not a regular file")}
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", &Problem{Origin: Origin{Kind: FromFile, Name: path}, Err: bare(err)}
		}
		if up == root || up == filepath.Dir(up) {
			return "", nil
		}
	}
}

// rootOf returns the directory at which the search ends: what somebody else put
// above the repository is not ours to read.
func rootOf(dir string) string {
	for _, mark := range []string{".git", "go.mod"} {
		for up := dir; ; up = filepath.Dir(up) {
			if _, err := os.Lstat(filepath.Join(up, mark)); err == nil {
				return up
			}
			if up == filepath.Dir(up) {
				break
			}
		}
	}
	return dir
}
