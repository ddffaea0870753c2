//go:generate go test -run "TestGolden|TestSecurityTable" -update .

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/intree"
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
	// View keeps what a file of the tree says and may not say, for people to look at:
	// [Config.Refused] lists it, and nothing may be built by it. With All only.
	View bool
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

// Load merges flags, environment, the file of the tree, the person's own file and
// defaults, the strongest first.
//
// The tree's file is [FileName] in Options.Dir or the nearest directory above it, up to
// the nearest one that has .git or go.mod; there need not be one. What it may say is
// bounded (SECURITY.md). [UserFile] is the person's. The error joins all that is wrong in
// files, environment and flags, each a [*Problem].
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
	trust := TrustOf(o.Flags, o.Lookup)
	file, err := read(o, trust)
	defer file.close()
	own, userErr := readUser(o, file.stranger())
	env, envErr := environment(fields, o.Lookup)
	flags, flagErr := given(fields, o.Flags)
	if err := errors.Join(err, userErr, envErr, flagErr); err != nil {
		return nil, err
	}
	refused := file.judge(trust, env, flags)
	if o.Keys != All {
		file.drop(refused)
	} else if len(refused) > 0 && !o.View {
		return nil, joined(refused)
	}
	c := &Config{
		File: file.config.File, Dir: file.config.Dir, Ignored: slices.Concat(own.ignored, file.ignored, misspelt(o)),
		Refused: refused, workdir: o.Dir, origins: map[string]Origin{}, within: file.fence.Dirs(), tree: file.stranger(),
	}
	top := sources{defaults: defaults(fields), env: env, flags: flags}
	top.user = inFile(fields, reflect.ValueOf(own.config).Elem(), FromUser, own.config.File, own.lines, "")
	top.file = inFile(fields, reflect.ValueOf(file.config).Elem(), FromFile, c.File, file.lines, "")
	top.merge(fields, reflect.ValueOf(c).Elem(), c.origins, "")
	c.trustPeople(own.config, top)
	if o.Keys != All {
		return c, nil
	}
	if err := c.uniqueIDs(file.lines); err != nil {
		return nil, err
	}
	c.Cgo.imply(c.origins, "")
	c.inherit(top, file.lines)
	for i := range c.Builds {
		c.Builds[i].Cgo.imply(c.origins, fmt.Sprintf("builds[%d].", i))
	}
	return c, nil
}

// trustPeople adds what the person's own file says of registries to what the tree's file
// may say of those that are private: for one host the person's word holds.
func (c *Config) trustPeople(own *Config, top sources) {
	if c.Registries == nil && len(own.Registries) > 0 {
		c.Registries = map[string]Registry{}
	}
	maps.Copy(c.Registries, own.Registries)
	if _, said := top.file["insecure_registries"]; said && c.origins["insecure_registries"].Kind == FromFile {
		c.InsecureRegistries = slices.Concat(c.InsecureRegistries, own.InsecureRegistries)
	}
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

// A treeFile is a file of the tree as it was read, with what it may name.
type treeFile struct {
	config  *Config
	lines   map[string]int
	ignored []error // what is wrong with it and does not matter
	fence   *Fence
}

func (f *treeFile) close() {
	if f.fence != nil {
		f.fence.Close()
	}
}

// tree returns the directory of the tree, "" where there is none.
func (f *treeFile) tree() string {
	if dirs := f.fence.Dirs(); len(dirs) > 0 {
		return dirs[0]
	}
	return ""
}

// stranger returns the directory of the tree if there is one at all, "" where nothing
// marks one and no file was found: the working directory may be the home.
func (f *treeFile) stranger() string {
	tree := f.tree()
	if marked, err := intree.Marked(tree); f.config.File == "" && (err != nil || !marked) {
		return ""
	}
	return tree
}

// read reads the tree's file, if there is one. The result is to be closed, also where
// there is an error.
func read(o Options, t Trust) (file *treeFile, err error) {
	file = &treeFile{config: &Config{Dir: o.Dir}}
	path := o.File
	if path == "" && o.Keys != NoFile {
		if path, err = find(o.Dir); err != nil {
			return file, err
		}
	}
	if o.Keys == NoFile {
		path = ""
	}
	at := o.Dir
	if path != "" {
		at = filepath.Dir(path)
	}
	if file.fence, err = newFence(at, t); err != nil || path == "" {
		return file, err
	}
	data, err := file.fence.read(path, o.File != "")
	if err != nil {
		return file, &Problem{Origin: Origin{Kind: FromFile, Name: path}, Err: err}
	}
	c, lines, d := decodeSome[Config](path, data)
	if o.Keys != All {
		d.problems = slices.DeleteFunc(d.problems, func(err error) bool {
			p := (*Problem)(nil)
			beside := errors.As(err, &p) && p.Key != "" && !access(p.Key)
			if beside {
				file.ignored = append(file.ignored, err)
			}
			return beside
		})
	}
	if err := d.err(); err != nil {
		return file, err
	}
	c.File, c.Dir = path, filepath.Dir(path)
	anchor(describe(reflect.TypeFor[Config]()), reflect.ValueOf(c).Elem(), c.Dir)
	anchorPlaces(c)
	file.config, file.lines = c, lines
	return file, nil
}

// read reads a file of the tree: one that its links do not lead out of it and that, unless
// a person named it, no other user has put there. It reads one byte more than such a file may have, and no
// more.
func (f *Fence) read(path string, named bool) (_ []byte, err error) {
	if err := intree.Owned(path); err != nil && !named {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return os.Open(path) } // in /dev, as a shell's <(…) is
	if len(f.trees) > 0 {
		open = func() (io.ReadCloser, error) { return f.open(path) }
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil, intree.ErrIrregular
		}
	}
	r, err := open()
	if err != nil {
		return nil, bare(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	return data, bare(err)
}

// ReadFile reads a file that a person names, at most a byte more than a megabyte: in a
// tree, links do not lead out of it but to what t allows.
func ReadFile(path string, t Trust) ([]byte, error) {
	fence, err := newFence(filepath.Dir(path), t)
	if err != nil {
		return nil, err
	}
	defer fence.Close()
	return fence.read(path, true)
}

// open opens a file below the first directory that it leads into.
func (f *Fence) open(path string) (io.ReadCloser, error) {
	var first error
	for _, t := range f.trees {
		file, err := t.Open(path)
		if err == nil {
			return file, nil
		}
		if first == nil {
			first = err
		}
	}
	if errors.Is(first, intree.ErrOutside) || errors.Is(first, intree.ErrGit) {
		return nil, outside(path, bare(first))
	}
	return nil, first
}

var ofBuild = regexp.MustCompile(`^(builds\[\d+\]\.(overrides\[[^\]]*\]\.)?)?$`)

// judge returns what the file may not say, unless environment or flags say it in its
// place, in the order of the file.
func (f *treeFile) judge(t Trust, env, flags layer) (refused []*Problem) {
	if f.config.File == "" {
		return nil
	}
	refuse := func(key string, err error) {
		refused = append(refused, &Problem{Origin{FromFile, f.config.File, f.lines[key]}, key, err})
	}
	j := judge{fence: f.fence, trust: t, dir: ".", said: f.lines, refuse: refuse, cgo: f.cgo(env, flags), unsaid: func(prefix string, of *field) bool {
		_, inEnv := env[of.path]
		_, byFlag := flags[of.path]
		return (inEnv || byFlag) && of.kind != perPlatform && ofBuild.MatchString(prefix)
	}}
	j.fields(describe(reflect.TypeFor[Config]()), reflect.ValueOf(f.config).Elem(), "", "")
	for i, b := range f.config.Builds {
		dir := cmp.Or(b.Dir, f.config.Dir)
		key := fmt.Sprintf("builds[%d].main", i)
		if isLocal(b.Main) && !strings.Contains(b.Main, "...") && !filepath.IsAbs(b.Main) {
			if err := f.fence.Check(filepath.Join(dir, b.Main)); err != nil {
				refuse(key, err)
			}
		}
	}
	slices.SortStableFunc(refused, func(a, b *Problem) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
	return refused
}

// cgo returns what says whether cgo is on for the build that a key is of.
func (f *treeFile) cgo(env, flags layer) func(prefix string) bool {
	const key = "cgo.enabled"
	return func(prefix string) bool {
		for _, l := range []layer{flags, env} {
			if one, said := l[key]; said {
				return one.value.(bool)
			}
		}
		for i, b := range f.config.Builds {
			build := fmt.Sprintf("builds[%d].", i)
			if _, said := f.lines[build+key]; said && strings.HasPrefix(prefix, build) {
				return b.Cgo.Enabled
			}
		}
		return f.config.Cgo.Enabled
	}
}

// drop forgets what the file may not say, and says so.
func (f *treeFile) drop(refused []*Problem) {
	for _, p := range refused {
		if !access(p.Key) {
			continue
		}
		f.ignored = append(f.ignored, p)
		delete(f.lines, p.Key)
		if host, ok := strings.CutPrefix(p.Key, "registries["); ok {
			host, _, _ = strings.Cut(host, "].")
			delete(f.config.Registries, host)
		}
	}
	for host, r := range f.config.Registries {
		r.Mirrors = nil // are for the bases of a build
		f.config.Registries[host] = r
	}
}

// joined joins problems, most of them.
func joined(list []*Problem) error {
	d := decoder{file: list[0].Origin.Name}
	for _, p := range list {
		d.problems = append(d.problems, p)
	}
	return d.err()
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
	root, err := intree.Nearest(abs)
	if err != nil {
		return "", err
	}
	for at, up := dir, abs; ; at, up = filepath.Join(at, ".."), filepath.Dir(up) {
		path := filepath.Join(at, FileName)
		if _, err := os.Lstat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", &Problem{Origin: Origin{Kind: FromFile, Name: path}, Err: bare(err)}
		}
		if up == root || up == filepath.Dir(up) {
			return "", nil
		}
	}
}
