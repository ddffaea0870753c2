package unchanged

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/gocommand"
	"github.com/mabuild/mabuild/internal/intree"
)

// Sources are the files that a program is compiled from, by content. They are found
// without the go command and without a module of the network; see the documentation of
// the package.
type Sources struct {
	Main     crosscompile.Package // as [crosscompile.Go.Find] would find it
	Release  gocommand.Release
	Files    []File            // sorted
	Packages []string          // import paths of the packages that Files are of, sorted
	Sums     map[string]string // the h1 sum of each module that go.sum lists, by "path version"
	Local    bool              // a dependency may be in a directory, and then has no sum

	tags    []string
	known   map[string]bool // paths of Files without links
	state   string          // digest of what identifies the files on this machine; "": unknown
	changed time.Time       // the latest change of a file
	began   time.Time
}

// A File is a file of [Sources].
type File struct {
	Name string `json:"name"` // the import path of its package and its own name
	Sum  string `json:"sum"`  // sha256 in hexadecimal digits
	// From is the module or vendor directory of the package, by its place in go.work and
	// go.mod. Several may have a package of one import path, and the go command uses one.
	From int `json:"from"`
}

// sourcesFormat is increased if the same files can be listed in another way.
const sourcesFormat = 1

// Sources lists the files that the package pkg, as it was written, in dir is compiled from
// with the build tags. Without tags those of GOFLAGS count. An error means that there is no
// such list, and the go command decides.
func (s *Store) Sources(dir, pkg string, tags []string) (*Sources, error) {
	release, err := s.command().Release()
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		tags = release.Tags()
	}
	g := &gatherer{Sources: Sources{Release: release, tags: tags, known: map[string]bool{}, Sums: map[string]string{}, began: time.Now()}, hash: sha256.New(), seen: map[string]bool{}, trusted: map[uint64]bool{}}
	if name, version, ok := strings.Cut(pkg, "@"); ok && !isDir(filepath.Join(dir, pkg)) {
		return g.version(name, version)
	}
	if err := g.find(s.Go, dir, pkg); err != nil {
		return nil, err
	}
	if err := g.modules(); err != nil {
		return nil, err
	}
	if err := g.packages(); err != nil {
		return nil, err
	}
	slices.SortFunc(g.Files, func(a, b File) int { return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.From, b.From)) })
	slices.Sort(g.Packages)
	g.Packages = slices.Compact(g.Packages)
	if g.hash != nil {
		fmt.Fprintf(g.hash, "%v", g.Files)
		g.state = hex.EncodeToString(g.hash.Sum(nil))
	}
	return &g.Sources, nil
}

// Main returns the package pkg, as it was written, in dir, as the go command would find it. That
// it is a main package is not checked, and only files of modules are read.
func (s *Store) Main(dir, pkg string) (crosscompile.Package, error) {
	g := &gatherer{}
	err := g.find(s.Go, dir, pkg)
	return g.Main, err
}

// Key names the program that is compiled from the sources: with equal keys the go command
// makes equal programs, on any machine. settings are the flags and variables of the build.
func (s *Sources) Key(settings ...any) string {
	b, err := json.Marshal([]any{sourcesFormat, s.Release.Text, s.Release.Flags, s.Main.PkgPath, s.Files, settings})
	if err != nil { // cannot happen: there is nothing that JSON cannot hold
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Settled waits until a change of a file would be seen, and returns the list as it is then.
// ok is false if the files are not those of s any more, or if no change would ever be seen.
func (s *Sources) Settled(again func() (*Sources, error)) (now *Sources, ok bool) {
	if wait := granularity - s.began.Sub(s.changed); wait > 0 {
		time.Sleep(min(wait, granularity))
		var err error
		if now, err = again(); err != nil || now.Key() != s.Key() || now.began.Sub(now.changed) < granularity {
			return nil, false
		}
		return now, now.state != ""
	}
	return s, s.state != ""
}

// Same reports whether no file has changed between two lists, not even to be changed back.
func (s *Sources) Same(later *Sources) bool { return s.state != "" && s.state == later.state }

// Has returns an error unless all of the files are among the sources. It is the proof that
// nothing was missed: the go command itself has listed them.
func (s *Sources) Has(files []string) error {
	for _, file := range files {
		real, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			return err
		}
		if file := filepath.Join(real, filepath.Base(file)); !s.known[file] {
			return fmt.Errorf("%s was not foreseen", file)
		}
	}
	return nil
}

// A gatherer finds Sources.
type gatherer struct {
	Sources
	scope   scope
	from    int             // of the files that are added
	todo    []string        // import paths
	seen    map[string]bool // import paths
	hash    hash.Hash       // of the state; nil: unknown
	trusted map[uint64]bool // as in lister
}

// mainPackage returns the directory of an import path in a main module of dir, or "".
func mainPackage(of *crosscompile.Go, dir, name string) string {
	s, err := scopeOf(of, dir)
	if err != nil {
		return ""
	}
	for _, m := range s.modules {
		rest, ok := strings.CutPrefix(name+"/", m.path+"/")
		if at := filepath.Join(m.dir, filepath.FromSlash(rest)); ok && m.main && isDir(at) && !interrupted(m.dir, at) {
			return at
		}
	}
	return ""
}

// version returns the sources of module/path@version. No file has to be read: a version of a
// module never changes, and neither do those that it requires, as the checksum database of
// Go ensures.
func (g *gatherer) version(name, version string) (*Sources, error) {
	if semver.Canonical(version) != version {
		return nil, fmt.Errorf("%s may be another version later", version)
	}
	if !g.Release.Verified {
		return nil, errors.New("GOPRIVATE, GONOSUMDB, GOINSECURE or GOSUMDB excepts modules from the checksum database, so a version may change")
	}
	g.Main = crosscompile.Package{ImportPath: name, PkgPath: name, Name: gocommand.ProgramName(name), Version: version}
	g.Files, g.state = []File{{Name: name + "@" + version}}, "fixed"
	return &g.Sources, nil
}

// isDir reports whether path is a directory.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// find finds the package and the modules around it. It must be in a directory of one of
// these modules.
func (g *gatherer) find(of *crosscompile.Go, dir, pkg string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if pkg == "" {
		pkg = "."
	}
	at := pkg
	if !filepath.IsAbs(at) {
		at = filepath.Join(dir, at)
	}
	imported := ""
	if !isDir(at) {
		imported, at = pkg, mainPackage(of, dir, pkg)
	}
	if at == "" {
		return fmt.Errorf("%s is neither a directory nor a package of a main module", pkg)
	}
	// The go command runs in dir if that is in the same workspace, and else in the
	// directory of the package (Go.Find).
	for _, from := range []string{dir, at} {
		if g.scope, err = scopeOf(of, from); err != nil {
			continue
		}
		root, ok := intree.ModuleRoot(at)
		i := slices.IndexFunc(g.scope.modules, func(m localModule) bool { return ok && m.main && m.dir == root })
		if i < 0 {
			continue
		}
		rel, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		found := crosscompile.Package{Dir: from, ImportPath: ".", PkgPath: path.Join(g.scope.modules[i].path, filepath.ToSlash(rel)), Module: g.scope.modules[i].path}
		switch {
		case imported != "":
			found.ImportPath = imported
		case from == dir && !filepath.IsAbs(pkg):
			found.ImportPath = filepath.ToSlash(filepath.Clean(pkg))
			if found.ImportPath != "." && found.ImportPath != ".." && !strings.HasPrefix(found.ImportPath, "../") {
				found.ImportPath = "./" + found.ImportPath
			}
		default:
			found.Dir = at
		}
		found.Name = gocommand.ProgramName(found.PkgPath)
		g.Main, g.todo = found, []string{found.PkgPath}
		return nil
	}
	return fmt.Errorf("%s is not in a main module", pkg)
}

// modules adds the files that pin the modules that are downloaded.
func (g *gatherer) modules() error {
	if g.scope.work != "" {
		content, err := os.ReadFile(g.scope.work)
		if err != nil {
			return err
		}
		f, err := modfile.ParseWork(g.scope.work, content, nil)
		if err != nil {
			return err
		}
		if err := g.Release.Compiles(f.Go, f.Toolchain); err != nil {
			return err
		}
		g.Local = g.Local || len(f.Use) > 1
		if err := errors.Join(g.pin("go.work", g.scope.work), g.pin("go.work.sum", g.scope.work+".sum")); err != nil {
			return err
		}
	}
	for i, m := range g.scope.modules {
		g.from = i
		file := filepath.Join(m.dir, "go.mod")
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := modfile.Parse(file, content, nil)
		if err != nil {
			return err
		}
		if err := g.Release.Compiles(f.Go, f.Toolchain); err != nil {
			return err
		}
		if err := g.pin(m.path+"/go.mod", file); err != nil {
			return err
		}
		if g.Local = g.Local || !m.main; !m.main {
			continue
		}
		if err := g.pin(m.path+"/go.sum", filepath.Join(m.dir, "go.sum")); err != nil {
			return err
		}
	}
	for _, vendor := range g.scope.vendors {
		g.Local = true
		if err := g.pin("vendor/modules.txt", filepath.Join(vendor, "modules.txt")); err != nil {
			return err
		}
	}
	return nil
}

// pin adds a file that need not exist. It reads the sums of a go.sum.
func (g *gatherer) pin(name, file string) error {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := g.add(name, file, info); err != nil || !strings.HasSuffix(name, ".sum") {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) == 3 && !strings.HasSuffix(f[1], "/go.mod") {
			g.Sums[f[0]+" "+f[1]] = f[2]
		}
	}
	return nil
}

// packages adds the files of all packages that are imported, until none is new. The main
// package must exist.
func (g *gatherer) packages() error {
	for first := true; len(g.todo) > 0; first = false {
		name := g.todo[len(g.todo)-1]
		g.todo = g.todo[:len(g.todo)-1]
		if g.seen[name] {
			continue
		}
		g.seen[name] = true
		isMain := false
		for _, p := range g.scope.candidates(name) {
			is, err := g.pkg(name, p)
			if err != nil {
				return err
			}
			isMain = isMain || is
		}
		if first && !isMain {
			return fmt.Errorf("%s is not a main package", name)
		}
	}
	return nil
}

// A candidate is a directory in which the package of an import path may be.
type candidate struct {
	root, dir string
	from      int // see File
}

// candidates returns the directories of the scope in which the package may be. Of several
// ones the go command uses one or refuses all, so all of them count. There is none for a
// package of the standard library or of a module that is downloaded.
func (s scope) candidates(name string) []candidate {
	var list []candidate
	for i, m := range s.modules {
		rest, ok := strings.CutPrefix(name+"/", m.path+"/")
		if dir := filepath.Join(m.dir, filepath.FromSlash(rest)); ok && !interrupted(m.dir, dir) {
			list = append(list, candidate{m.dir, dir, i})
		}
	}
	for _, vendor := range s.vendors { // there is one at most
		list = append(list, candidate{vendor, filepath.Join(vendor, filepath.FromSlash(name)), len(s.modules)})
	}
	return list
}

// interrupted reports whether another module begins between the directories of a module
// and of a package.
func interrupted(root, dir string) bool {
	for ; dir != root && len(dir) > len(root); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// compiled are the extensions of the files that Go reads in the directory of a package.
var compiled = []string{".go", ".s", ".S", ".sx", ".h", ".hh", ".hpp", ".hxx", ".c", ".cc", ".cpp", ".cxx", ".m", ".f", ".F", ".for", ".f90", ".syso", ".swig", ".swigcxx"}

// Compiled reports whether Go reads files of this extension in the directory of a package.
func Compiled(extension string) bool { return slices.Contains(compiled, extension) }

// pkg adds the files of the package in a directory, for any platform, and its imports to
// those that are left. It reports whether it is a main package. A directory that does not
// exist, or has no files of Go, has no package.
func (g *gatherer) pkg(name string, at candidate) (isMain bool, err error) {
	root, err := filepath.EvalSymlinks(at.root)
	if err != nil {
		return false, err
	}
	dir, err := filepath.EvalSymlinks(at.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// A link in the path must not leave the module.
	if rel, err := filepath.Rel(root, dir); err != nil || !filepath.IsLocal(rel) || slices.Contains(strings.Split(filepath.ToSlash(rel), "/"), ".git") {
		return false, fmt.Errorf("the link %s leaves its module", at.dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, nil //nolint:nilerr // a file, or unreadable: the go command says so
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".go" }) {
		return false, nil
	}
	// A go.mod above the package would make it part of another module.
	for above := dir; above != root; above = filepath.Dir(above) {
		if err := g.identify(above); err != nil {
			return false, err
		}
	}
	if err := g.identify(dir); err != nil {
		return false, err
	}
	g.from = at.from
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		profile := e.Name() == "default.pgo" && name == g.Main.PkgPath
		if e.IsDir() || strings.HasPrefix(e.Name(), "_") || strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "_test.go") || !Compiled(ext) && !profile {
			continue
		}
		is, err := g.file(name, root, filepath.Join(dir, e.Name()), e)
		if err != nil {
			return false, err
		}
		isMain = isMain || is
	}
	g.Packages = append(g.Packages, name)
	return isMain, nil
}

// file adds one file of a package, and what it imports, embeds and includes. A file that
// is built for no platform is left out.
func (g *gatherer) file(name, root, file string, e fs.DirEntry) (isMain bool, err error) {
	if e.Type() == fs.ModeSymlink {
		if _, err := inside(root, file); err != nil {
			return false, fmt.Errorf("the link %s leaves its module", file)
		}
		if err := g.identify(file); err != nil {
			return false, err
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return false, err
	}
	label := path.Join(name, e.Name())
	switch filepath.Ext(file) {
	case ".go":
		content, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		return g.goFile(name, file, content, info)
	case ".s", ".S", ".sx", ".h":
		content, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		if err := g.includes(name, filepath.Dir(file), content); err != nil {
			return false, err
		}
	}
	return false, g.add(label, file, info)
}

// goFile adds a file of Go, unless its build constraint is false for every platform.
func (g *gatherer) goFile(name, file string, content []byte, info fs.FileInfo) (isMain bool, err error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, content, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return false, err // the go command says what is wrong, if it reads the file
	}
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			if c.Pos() >= parsed.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				return false, err
			}
			if !possible(expr, true, g.tags) {
				return false, nil
			}
		}
	}
	embeds := false
	var imports []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return false, err
		}
		if imported == "C" { // not built without cgo
			return false, nil
		}
		embeds = embeds || imported == "embed"
		imports = append(imports, imported)
	}
	g.todo = append(g.todo, imports...)
	if embeds {
		if err := g.embedded(name, filepath.Dir(file), content); err != nil {
			return false, err
		}
	}
	return parsed.Name.Name == "main", g.add(path.Join(name, filepath.Base(file)), file, info)
}

// platformTags are the build tags that the go command itself may set without cgo. One that
// is missing here makes no wrong key: [Sources.Has] finds what was missed.
var platformTags = []string{
	"aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd", "plan9", "solaris", "unix", "wasip1", "windows", "zos",
	"386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le", "mips64p32", "mips64p32le",
	"ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm", "gc", "gccgo", "boringcrypto",
}

// possible reports whether a build constraint can have a value on any platform. The tags of
// platforms and releases can be true or false; any other tag is true only if it is set.
func possible(x constraint.Expr, value bool, tags []string) bool {
	switch x := x.(type) {
	case *constraint.NotExpr:
		return possible(x.X, !value, tags)
	case *constraint.AndExpr:
		if value {
			return possible(x.X, true, tags) && possible(x.Y, true, tags)
		}
		return possible(x.X, false, tags) || possible(x.Y, false, tags)
	case *constraint.OrExpr:
		if value {
			return possible(x.X, true, tags) || possible(x.Y, true, tags)
		}
		return possible(x.X, false, tags) && possible(x.Y, false, tags)
	case *constraint.TagExpr:
		if slices.Contains(tags, x.Tag) {
			return value
		}
		// Tags with a dot are those of releases (go1.26), experiments and variants.
		return !value || strings.Contains(x.Tag, ".") || slices.Contains(platformTags, x.Tag)
	}
	return true
}

// embedded adds the files that a file of Go embeds: those that the patterns match, and all
// below directories that they match.
func (g *gatherer) embedded(name, dir string, content []byte) error {
	for line := range strings.Lines(string(content)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "//go:embed")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}
		for _, pattern := range patterns(rest) {
			matches, err := fs.Glob(os.DirFS(dir), strings.TrimPrefix(pattern, "all:"))
			if err != nil {
				return err
			}
			for _, match := range matches {
				if err := g.below(name, dir, filepath.FromSlash(match)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// patterns returns the patterns of a go:embed directive: words, or quoted as in Go.
func patterns(text string) (list []string) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if quoted, err := strconv.QuotedPrefix(text); err == nil {
			if pattern, err := strconv.Unquote(quoted); err == nil {
				list = append(list, pattern)
			}
			text = text[len(quoted):]
			continue
		}
		end := strings.IndexAny(text, " \t")
		if end < 0 {
			end = len(text)
		}
		list, text = append(list, text[:end]), text[end:]
	}
	return list
}

// below adds a regular file, or all regular files below a directory. Go embeds no links.
func (g *gatherer) below(name, dir, match string) error {
	return filepath.WalkDir(filepath.Join(dir, match), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" {
				return filepath.SkipDir
			}
			return g.identify(file)
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return g.add(path.Join(name, filepath.ToSlash(rel)), file, info)
	})
}

// includes adds the files that an assembly file includes from the directory of its package.
// One with a directory in its name may be anywhere.
func (g *gatherer) includes(name, dir string, content []byte) error {
	for _, included := range Includes(content) {
		if strings.ContainsAny(included, `/\`) {
			return fmt.Errorf("an assembly file of %s includes %s, which has a directory in its name", name, included)
		}
		file := filepath.Join(dir, included)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) { // in Go's own include directory
			continue
		}
		if err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !g.known[file] { // ends loops
			if err := errors.Join(g.add(path.Join(name, included), file, info), g.includes(name, dir, content)); err != nil {
				return err
			}
		}
	}
	return nil
}

// included matches an #include as the assembler reads it, with blanks, comments and
// continued lines between its parts. It also matches one inside a comment, which is then
// counted without need.
var included = regexp.MustCompile(`#` + blanks + `include` + blanks + `("(?:[^"\\\n]|\\.)*")`)

// blanks matches what the assembler skips: spaces, continued lines and comments.
const blanks = `(?:\s|\\\r?\n|/\*(?s:.*?)\*/)*`

// Includes returns the names that an assembly file includes. One that cannot be read is left
// out: the assembler refuses it, too.
func Includes(content []byte) (names []string) {
	for _, m := range included.FindAllSubmatch(content, -1) {
		if name, err := strconv.Unquote(string(m[1])); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// add adds a file by content. A file that is embedded in two ways is added once.
func (g *gatherer) add(name, file string, info fs.FileInfo) error {
	if g.known[file] {
		return nil
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	g.known[file] = true
	g.Files = append(g.Files, File{name, hex.EncodeToString(sum.Sum(nil)), g.from})
	return g.identify(file)
}

// identify adds to the state what identifies a file or directory, and what it leads to. If
// the file system has no reliable times, the state is unknown from then on.
func (g *gatherer) identify(file string) error {
	for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		info, err := stat(file)
		if err != nil || g.hash == nil {
			return err
		}
		identity, changed, device, err := identify(info)
		if _, known := g.trusted[device]; err == nil && !known {
			g.trusted[device] = trusted(file)
		}
		if err != nil || !g.trusted[device] {
			g.hash = nil
			return nil
		}
		if changed.After(g.changed) {
			g.changed = changed
		}
		fmt.Fprintf(g.hash, "%q %s\n", file, identity)
	}
	return nil
}
