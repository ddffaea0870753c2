package crosscompile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/mabuild/mabuild/internal/claim"
	"github.com/mabuild/mabuild/internal/outfile"
)

// scratchGoMod is the first go.mod of a scratch module. Its go line is the lowest one
// with a pruned module graph. The go command raises it to that of the required module, so
// the program gets the language version and the GODEBUG defaults that `go install` would
// use.
const scratchGoMod = "module scratch\n\ngo 1.17\n"

// findVersion makes a module that requires pkg at version, and finds pkg in it. The go
// command writes its go.sum and verifies the checksums with the checksum database. A
// version such as latest is resolved first; the directory belongs to the resolved
// version, so that its content never changes.
func (g *Go) findVersion(ctx context.Context, q Query, pkg, version string) (Package, error) {
	if err := module.CheckImportPath(pkg); err != nil {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is not an import path", Way: "write module/path@version, for example github.com/prometheus/node_exporter@v1.12.1"}
	}
	if version == "" {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "has no version", Way: "write " + pkg + "@latest"}
	}
	var err error
	if q.Scratch, err = filepath.Abs(q.Scratch); err != nil {
		return Package{}, err
	}
	s := scratch{Go: g, Query: q, pkg: pkg, version: version}
	var m *goModule
	if module.CanonicalVersion(version) != version {
		if m, err = s.pin(ctx); err != nil {
			return Package{}, err
		}
		s.version = m.Version
	}
	s.scratchDir = scratchDirOf(q.Scratch, pkg, s.version, q.AsMain)
	if err := s.fill(ctx, m); err != nil {
		return Package{}, err
	}
	return s.find(ctx)
}

// A scratch is the search for one module/path@version.
type scratch struct {
	*Go
	Query
	scratchDir
	pkg, version string
}

// A goModule is a module in the output of the go command.
type goModule struct{ Path, Version, GoMod, Dir string }

// pin resolves a version that can change (latest, a branch) and downloads the module. It
// works in a temporary directory, since the directory of the module has the version in
// its name.
func (s scratch) pin(ctx context.Context) (*goModule, error) {
	if err := os.MkdirAll(s.Scratch, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.Scratch, "ask-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // pruning removes it otherwise
	s.scratchDir = scratchDir(dir)
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.forget(s.src())
	return s.download(ctx)
}

// fill makes src a module that requires the wanted one, or a copy of the wanted one,
// unless that was done before. m is nil if the module was not downloaded yet.
//
// A look under the shared claim is enough in most cases. Otherwise fill takes the
// exclusive claim and looks again, since another process may have filled the directory
// meanwhile. The record is written last and in one step, so a killed process leaves a
// directory that is not filled.
func (s scratch) fill(ctx context.Context, m *goModule) error {
	release, err := claim.Share(ctx, string(s.scratchDir))
	if err != nil {
		return err
	}
	filled := s.filled()
	release()
	if filled {
		return nil
	}
	if release, err = claim.Dir(ctx, string(s.scratchDir)); err != nil {
		return err
	}
	defer release()
	if s.filled() {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.forget(s.src())
	if m == nil {
		if m, err = s.download(ctx); err != nil {
			return err
		}
	}
	// A copy becomes the main module with its own go.mod. Otherwise the module is a
	// requirement, and go.mod lines for the main module would not apply.
	if s.AsMain {
		err = replaceTree(s.src(), m.Dir)
	} else if err = refuseReplace(m.GoMod, s.Pattern); err == nil {
		err = s.require(ctx)
	}
	if err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := outfile.Create(filepath.Dir(s.record()))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Rename(s.record(), 0o600)
}

// download fetches the module that contains the package. As in the go command, this is
// the longest prefix of the import path that is a module with this package.
func (s scratch) download(ctx context.Context) (*goModule, error) {
	tc, err := s.toolchain(ctx, s.src())
	if err != nil {
		return nil, err
	}
	// Each prefix costs a request to the module proxy if it is not a module. A module
	// that does not have the package is skipped: another one with a shorter path may have
	// it.
	for prefix := s.pkg; prefix != "."; prefix = path.Dir(prefix) {
		out, err := tc.run(ctx, s.src(), "mod", "download", "-json", prefix+"@"+s.version)
		if ctx.Err() != nil {
			return nil, err
		}
		var m goModule
		if err != nil || json.Unmarshal(out, &m) != nil {
			continue
		}
		if isDir(m.Dir, "."+strings.TrimPrefix(s.pkg, prefix)) {
			return &m, nil
		}
	}
	if err := s.require(ctx); err != nil { // its error says why
		return nil, err
	}
	return nil, &PackageError{Pattern: s.Pattern, Reason: "does not belong to a module", Way: "write module/path@version"}
}

// require makes the module in src require the wanted one. Its [*PackageError] says whether
// the module does not exist or could not be fetched.
func (s scratch) require(ctx context.Context) error {
	tc, err := s.toolchain(ctx, s.src())
	if err != nil {
		return err
	}
	// The required module may need a newer Go than the one that was chosen for src. Only
	// this command may switch to it: all others run with GOTOOLCHAIN=local.
	setting := cmp.Or(s.lookup("GOTOOLCHAIN"), "auto")
	_, err = tc.with("GOTOOLCHAIN="+setting).run(ctx, s.src(), "get", "--", s.pkg+"@"+s.version)
	var ce *CommandError
	if !errors.As(err, &ce) {
		return err
	}
	reason := withoutDownloads(ce.Error())
	// The text of the error does not tell both cases apart, so the proxies are asked
	// again.
	if unknown, err := s.unknown(ctx, tc); err != nil {
		return err
	} else if !unknown {
		return tc.unreachable(s.Pattern, reason)
	}
	return &PackageError{Pattern: s.Pattern, Reason: reason, Way: "check the path, and that this version exists"}
}

// withoutDownloads removes the lines about downloads from the output of the go command.
func withoutDownloads(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "go: downloading ") && !strings.HasPrefix(line, "downloading ") {
			kept = append(kept, strings.TrimPrefix(line, "go: "))
		}
	}
	return strings.TrimSpace(strings.Join(kept, ""))
}

// find finds the package in a directory that is filled. Module and version come from the
// record.
func (s scratch) find(ctx context.Context) (Package, error) {
	var m goModule
	b, err := os.ReadFile(s.record())
	if err != nil {
		return Package{}, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Package{}, fmt.Errorf("%s: %w", s.record(), err)
	}
	found, err := s.list(ctx, s.Query, s.src(), s.pkg)
	found.Module, found.Version = m.Path, m.Version
	var pe *PackageError
	if errors.As(err, &pe) && !pe.Unreachable {
		pe.Way = "name a main package of module " + m.Path
	}
	return found, err
}

// refuseReplace returns an error if the go.mod of a module has lines that apply only to
// the main module. As a requirement the module would be built without them, perhaps with
// code that its authors never tested.
func refuseReplace(goMod, pattern string) error {
	content, err := os.ReadFile(goMod)
	if err != nil {
		return err
	}
	f, err := modfile.ParseLax(goMod, content, nil)
	if err != nil {
		return err
	}
	// ParseLax leaves out what applies only to a main module. Parse has it, but fails on
	// lines of newer versions of Go.
	if full, err := modfile.Parse(goMod, content, nil); err == nil {
		f = full
	}
	var kinds []string
	if len(f.Replace) > 0 {
		kinds = append(kinds, "replace")
	}
	if len(f.Exclude) > 0 {
		kinds = append(kinds, "exclude")
	}
	if len(kinds) == 0 {
		return nil
	}
	return &PackageError{
		Pattern: pattern,
		Reason:  fmt.Sprintf("its go.mod has %s lines, which apply only to the main module", strings.Join(kinds, " and ")),
		Ignored: kinds,
	}
}

// replaceTree makes dst a copy of the module at src and makes the copy writable. A module
// in the module cache has only regular files.
func replaceTree(dst, src string) error {
	if err := os.RemoveAll(dst); err != nil {
		return err
	}
	return filepath.WalkDir(src, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), 0o750)
		}
		content, err := os.ReadFile(path) //nolint:gosec // a file of the module cache, found by walking it
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), content, 0o600) //nolint:gosec // below dst, as rel is below src
	})
}

// A scratchDir is a directory with the module for one module/path@version. Once it is
// filled it never changes, so any number of processes can build in it at the same time. A
// process that fills or removes it holds an exclusive claim (package claim); others share
// the claim only while they look at it. It contains
//
//	mabuild-scratch  a text that says what the directory is; written first
//	src              the module in which the go command runs
//	complete         the module that src was filled with, in JSON; written last
//
// A go.work above src and the user's settings of -mod must not apply to src. The file
// mabuild-scratch marks it, so that every run can see this without a record elsewhere. A
// directory without the file complete was not filled to the end and is filled again.
type scratchDir string

// scratchDirOf returns the directory below scratch for a package at a version.
func scratchDirOf(scratch, pkg, version string, asMain bool) scratchDir {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%v", pkg, version, asMain))
	return scratchDir(filepath.Join(scratch, hex.EncodeToString(sum[:8])))
}

// The files of the directory; see scratchDir.
func (p scratchDir) mark() string   { return filepath.Join(string(p), "mabuild-scratch") }
func (p scratchDir) src() string    { return filepath.Join(string(p), "src") }
func (p scratchDir) record() string { return filepath.Join(string(p), "complete") }

// begin empties the directory and makes src a module without requirements. The mark is
// written first, so that src is recognised from its first moment on.
func (p scratchDir) begin() error {
	if err := os.MkdirAll(string(p), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(p.mark(), []byte("mabuild made this directory and may remove it.\n"), 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(p.src()); err != nil {
		return err
	}
	if err := os.Mkdir(p.src(), 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.src(), "go.mod"), []byte(scratchGoMod), 0o600)
}

// filled reports whether the directory was filled to its end. A full disk can leave an
// empty record.
func (p scratchDir) filled() bool {
	info, err := os.Stat(p.record())
	return err == nil && info.Size() > 0
}

// scratched reports whether dir is the src of a scratchDir, and returns that.
func scratched(dir string) (scratchDir, bool) {
	abs, err := filepath.Abs(dir)
	if err != nil || filepath.Base(abs) != "src" {
		return "", false
	}
	p := scratchDir(filepath.Dir(abs))
	_, err = os.Stat(p.mark())
	return p, err == nil
}

// Use marks the module that [Go.Find] made for module/path@version as used, which protects
// it from pruning. It returns fs.ErrNotExist if the module was removed; the caller then
// has to find it again. For a package in any other directory it does nothing.
func (p Package) Use(ctx context.Context) error {
	if filepath.Base(p.Dir) != "src" {
		return nil
	}
	s, made := scratched(p.Dir)
	if !made {
		if _, err := os.Stat(p.Dir); errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist
		}
		return nil
	}
	release, err := claim.Share(ctx, string(s))
	if err != nil {
		return err
	}
	defer release()
	if !s.filled() {
		return fs.ErrNotExist
	}
	return nil
}
