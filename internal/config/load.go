//go:generate go test . ../mirrorfile -run "TestGolden|TestPlan|TestInit|TestSchema|TestSecurityTable" -update

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// FileName is the name of the configuration file in a source tree.
const FileName = ".mabuild.yaml"

// misnamed are names that people give to the file by mistake. Such a file beside no
// [FileName] is an error, since its settings would silently not apply.
var misnamed = []string{".mabuild.yml", "mabuild.yaml", "mabuild.yml"}

// Options say where to look for configuration. The zero value loads the file for the
// working directory, with the process's environment and without flags.
type Options struct {
	// Dir is the directory where the search for the file begins; empty means the working
	// directory.
	Dir string
	// File is read instead of searching, and must exist. Its owner is not checked, since
	// the user names it.
	File string
	// Lookup returns the value of a variable; nil means os.LookupEnv. An empty variable
	// counts as not set.
	Lookup func(string) (string, bool)
	// Environ lists all variables as NAME=VALUE, for warnings about misspelled ones; nil
	// means no warnings.
	Environ func() []string
	// Keys selects what is read.
	Keys Keys
	// View makes Load succeed if a file of the tree sets what it is not allowed to set,
	// so that the result can be shown. [Config.Refused] lists these values; nothing may
	// be built with such a Config. It has an effect only with All.
	View bool
	// Flags are the flags of the command; only those given on the command line count. Nil
	// means none.
	Flags *pflag.FlagSet
}

// Keys select the keys that are read.
type Keys int

const (
	// All is for commands that build.
	All Keys = iota
	// Access is for other commands: it has the keys for connections to registries, the
	// cache, jobs and output. Errors in other keys of the file, or in their variables, do
	// not stop the command: [Config.Ignored] has them.
	Access
	// NoFile is Access without the file of the tree.
	NoFile
)

// Load merges flags, environment, the file of the tree, the user's own file and defaults,
// in decreasing precedence.
//
// The tree's file is [FileName] in Options.Dir or the nearest directory above it, up to
// the nearest one that has .git or go.mod. It is optional, and the values that it may set
// are restricted (SECURITY.md). The user's own file is [UserFile]. The error joins all
// errors in files, environment and flags, each a [*yamlconf.Problem].
//
// The order matters: the file is judged before the merge, but with knowledge of
// environment and flags, since a value that they replace is never used and need not be
// refused.
func Load(o Options) (*Config, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Lookup == nil {
		o.Lookup = os.LookupEnv
	}
	keys := table
	if o.Keys != All {
		keys = table.Only(access)
	}
	trust := TrustOf(o.Flags, o.Lookup)
	file, err := read(o, trust)
	defer file.close()
	// A user's file inside the tree is not trusted, so the tree must be known first.
	own, userErr := readUser(o, file.stranger())
	env, envErr := keys.Environment(people(o.Lookup))
	flags, flagErr := keys.Given(o.Flags)
	if err := errors.Join(err, userErr, envErr, flagErr); err != nil {
		return nil, err
	}
	refused := file.judge(env, flags)
	if o.Keys != All {
		file.drop(refused)
	} else if len(refused) > 0 && !o.View {
		return nil, joined(refused)
	}
	c := &Config{
		File: file.config.File, Dir: file.config.Dir, Ignored: slices.Concat(own.ignored, file.ignored, misspelt(o)),
		Refused: refused, workdir: o.Dir, origins: map[string]yamlconf.Origin{}, within: file.fence.Dirs(), tree: file.stranger(),
	}
	top := yamlconf.Sources{
		yamlconf.FromDefault: keys.Defaults(),
		yamlconf.FromUser:    keys.Layer(own.config, inFile(yamlconf.FromUser, own.config.File, own.lines, "")),
		yamlconf.FromFile:    keys.Layer(file.config, inFile(yamlconf.FromFile, c.File, file.lines, "")),
		yamlconf.FromEnv:     env,
		yamlconf.FromFlag:    flags,
	}
	keys.Merge(top, c, c.origins, "")
	c.trustPeople(own.config, top)
	if o.Keys != All {
		return c, nil
	}
	if err := errors.Join(c.uniqueIDs(file.lines), c.prebuiltKeys(file.lines)); err != nil {
		return nil, err
	}
	// This comes before inherit, so that builds inherit the implied value.
	c.Cgo.imply(c.origins, "")
	c.inherit(top, file.lines)
	for i := range c.Builds {
		c.Builds[i].Cgo.imply(c.origins, fmt.Sprintf("builds[%d].", i))
	}
	return c, nil
}

// inFile returns the origins of the settings in a file, whose lines are below prefix.
func inFile(kind yamlconf.OriginKind, file string, lines map[string]int, prefix string) func(path string) (yamlconf.Origin, bool) {
	return func(path string) (yamlconf.Origin, bool) {
		line, said := lines[prefix+path]
		return yamlconf.Origin{Kind: kind, Name: file, Line: line}, said
	}
}

// trustPeople adds the registries of the user's own file to those of the tree's file,
// which can only be private ones. Unlike other keys these are merged, host by host, and
// for one host the user's settings hold: otherwise a file of the tree could remove a
// mirror or a certificate that the user has set.
func (c *Config) trustPeople(own *Config, top yamlconf.Sources) {
	if c.Registries == nil && len(own.Registries) > 0 {
		c.Registries = map[string]Registry{}
	}
	maps.Copy(c.Registries, own.Registries)
	if _, said := top[yamlconf.FromFile]["insecure_registries"]; said && c.origins["insecure_registries"].Kind == yamlconf.FromFile {
		c.InsecureRegistries = slices.Concat(c.InsecureRegistries, own.InsecureRegistries)
	}
}

// access reports whether the key at a path belongs to [Access].
func access(path string) bool {
	top := topOf(path)
	return slices.Contains([]string{"cache", "jobs", "registries", "check"}, top) || slices.Contains(global, top)
}

// topOf returns the top-level key of a path.
func topOf(path string) string {
	if at := strings.IndexAny(path, ".["); at >= 0 {
		return path[:at]
	}
	return path
}

// An inputFile is a file as it was read: that of the tree, or the user's own. Without a
// file, config is empty. The caller of read closes the file of the tree, which releases
// the fence; the user's own file has none.
type inputFile struct {
	config  *Config
	lines   map[string]int
	ignored []error // errors that do not stop the command
	fence   *Fence
}

// close releases the fence. It is safe to call after read has failed.
func (f *inputFile) close() {
	if f.fence != nil {
		f.fence.Close()
	}
}

// tree returns the directory of the tree, or "" if there is none.
func (f *inputFile) tree() string {
	if dirs := f.fence.Dirs(); len(dirs) > 0 {
		return dirs[0]
	}
	return ""
}

// stranger returns the directory of the tree if its content may be untrusted. It returns
// "" if nothing marks a tree and no file was found: the working directory may be the
// user's home then, whose own files are trusted.
func (f *inputFile) stranger() string {
	tree := f.tree()
	if marked, err := intree.Marked(tree); f.config.File == "" && (err != nil || !marked) {
		return ""
	}
	return tree
}

// read finds and reads the tree's file, if there is one. The caller closes the result,
// even if there is an error. With other keys than All, problems in keys that the command
// does not use are moved to ignored. Problems without a key, such as invalid YAML, remain
// errors.
func read(o Options, t Trust) (file *inputFile, err error) {
	file = &inputFile{config: &Config{Dir: o.Dir}}
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
	if file.fence, err = NewFence(at, t); err != nil || path == "" {
		return file, err
	}
	data, err := file.fence.Read(path, o.File != "")
	if err != nil {
		return file, yamlconf.InFile(path, 0, "", err)
	}
	c, lines, problems := table.Decode(path, data)
	if o.Keys != All {
		problems = slices.DeleteFunc(problems, func(err error) bool {
			p := (*yamlconf.Problem)(nil)
			beside := errors.As(err, &p) && p.Key != "" && !access(p.Key)
			if beside {
				file.ignored = append(file.ignored, err)
			}
			return beside
		})
	}
	if err := yamlconf.Join(path, problems); err != nil {
		return file, err
	}
	c.File, c.Dir = path, filepath.Dir(path)
	table.Anchor(c, c.Dir)
	anchorPlaces(c)
	file.config, file.lines = c, lines
	return file, nil
}

// ofBuild matches the prefix of a build's keys, or of an override's, or "" for the top
// level.
var ofBuild = regexp.MustCompile(`^(builds\[\d+\]\.(overrides\[[^\]]*\]\.)?)?$`)

// judge returns the values that the file is not allowed to set, in the order of the file.
// A value that environment or flags replace is not used and not refused. This does not
// hold for fields per platform, of which they may replace only a part.
func (f *inputFile) judge(env, flags yamlconf.Layer) (refused []*yamlconf.Problem) {
	if f.config.File == "" {
		return nil
	}
	refuse := func(key string, err error) {
		refused = append(refused, yamlconf.InFile(f.config.File, f.lines[key], key, err))
	}
	replaced := func(prefix string, of *yamlconf.Field) bool {
		_, inEnv := env[of.Path]
		_, byFlag := flags[of.Path]
		return (inEnv || byFlag) && !of.Partial() && ofBuild.MatchString(prefix)
	}
	cgo := f.cgo(env, flags)
	table.Each(f.config, f.lines, func(of *yamlconf.Field, list []string, prefix, host string) {
		if replaced(prefix, of) {
			return
		}
		if err := f.fence.Judge(of, list, ".", host, func() bool { return cgo(prefix) }); err != nil {
			refuse(prefix+of.Path, err)
		}
	})
	for i, b := range f.config.Builds {
		dir := cmp.Or(b.Dir, f.config.Dir)
		key := fmt.Sprintf("builds[%d].main", i)
		if IsLocal(b.Main) && !strings.Contains(b.Main, "...") && !filepath.IsAbs(b.Main) {
			if err := f.fence.Check(filepath.Join(dir, b.Main)); err != nil {
				refuse(key, err)
			}
		}
	}
	slices.SortStableFunc(refused, func(a, b *yamlconf.Problem) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
	return refused
}

// cgo returns a function that reports whether cgo is on for the build that a key belongs
// to, with the precedence of the later merge.
func (f *inputFile) cgo(env, flags yamlconf.Layer) func(prefix string) bool {
	const key = "cgo.enabled"
	return func(prefix string) bool {
		for _, l := range []yamlconf.Layer{flags, env} {
			if one, said := l[key]; said {
				return one.Value.(bool)
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

// drop removes refused values from the file and adds them to ignored, for commands that
// do not build. A registry with a refused setting is removed as a whole.
func (f *inputFile) drop(refused []*yamlconf.Problem) {
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
		// Mirrors of the file apply only to the base images of its builds.
		r.Mirrors = nil
		f.config.Registries[host] = r
	}
}

// joined joins problems into one error, with the bound of the decoder.
func joined(list []*yamlconf.Problem) error {
	var errs []error
	for _, p := range list {
		errs = append(errs, p)
	}
	return yamlconf.Join(list[0].Origin.Name, errs)
}

// find returns the path of the file for dir, or "" if there is none. The path is relative
// if dir is, so that messages show ../.mabuild.yaml. Lstat makes a dangling link an error
// at reading, instead of continuing the search above it.
func find(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	root, err := intree.Nearest(abs)
	if err != nil {
		return "", err
	}
	// at is the path for messages, relative like dir; up is the absolute path that ends
	// the loop.
	for at, up := dir, abs; ; at, up = filepath.Join(at, ".."), filepath.Dir(up) {
		path := filepath.Join(at, FileName)
		if _, err := os.Lstat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", yamlconf.InFile(path, 0, "", bare(err))
		}
		for _, wrong := range misnamed {
			wrong := filepath.Join(at, wrong)
			if _, err := os.Lstat(wrong); err == nil {
				return "", yamlconf.InFile(wrong, 0, "", errors.New("is not read: rename it to "+FileName))
			}
		}
		if up == root || up == filepath.Dir(up) {
			return "", nil
		}
	}
}
