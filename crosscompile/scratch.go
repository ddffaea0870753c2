package crosscompile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/mabuild/mabuild/internal/claim"
	"github.com/mabuild/mabuild/internal/outfile"
)

// scratchGoMod is the go.mod a scratch module begins with. Its go line is the
// lowest with a pruned module graph: the go command raises it to what the wanted
// module asks for, so that the program gets the language and the GODEBUG
// defaults that `go install` would give it.
const scratchGoMod = "module scratch\n\ngo 1.17\n"

// findVersion makes a module that requires pkg at version and finds pkg in it.
// go.sum is written as the checksum database confirms it.
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
	var m *downloaded
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

// scratch is a place for one module/path@version, and what it is made by.
type scratch struct {
	*Go
	Query
	scratchDir
	pkg, version string
}

// downloaded is what `go mod download -json` says of a module.
type downloaded struct{ Path, Version, GoMod, Dir string }

// pin asks which version a moving one (latest, a branch) stands for at this moment,
// and downloads that.
func (s scratch) pin(ctx context.Context) (*downloaded, error) {
	if err := os.MkdirAll(s.Scratch, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.Scratch, "ask-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the cache is pruned
	s.scratchDir = scratchDir(dir)
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.forget(s.src())
	return s.download(ctx)
}

// fill makes the place a module that requires the wanted one, or a copy of it, unless
// that was done before. m is nil where the module is not yet downloaded.
func (s scratch) fill(ctx context.Context, m *downloaded) error {
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
	if s.filled() { // by who held it meanwhile
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.forget(s.src()) // its go.mod is another in the end
	if m == nil {
		if m, err = s.download(ctx); err != nil {
			return err
		}
	}
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

// download fetches the module that has the package: of those whose path begins
// it, the longest, as the go command has it.
func (s scratch) download(ctx context.Context) (*downloaded, error) {
	tc, err := s.toolchain(ctx, s.src())
	if err != nil {
		return nil, err
	}
	for prefix := s.pkg; prefix != "."; prefix = path.Dir(prefix) {
		out, err := runGo(ctx, process{bin: tc.bin, dir: s.src(), env: tc.env, args: []string{"mod", "download", "-json", prefix + "@" + s.version}})
		if ctx.Err() != nil {
			return nil, err
		}
		var m downloaded
		if err != nil || json.Unmarshal(out, &m) != nil {
			continue
		}
		if isDir(m.Dir, "."+strings.TrimPrefix(s.pkg, prefix)) {
			return &m, nil
		}
	}
	if err := s.require(ctx); err != nil { // which says why not
		return nil, err
	}
	return nil, &PackageError{Pattern: s.Pattern, Reason: "does not belong to a module", Way: "write module/path@version"}
}

// require makes the directory's module require the wanted one.
func (s scratch) require(ctx context.Context) error {
	tc, err := s.toolchain(ctx, s.src())
	if err != nil {
		return err
	}
	// What is required may ask for a newer Go than the one found so far: this
	// one command may switch.
	setting := cmp.Or(s.lookup("GOTOOLCHAIN"), "auto")
	env := append(slices.Clone(tc.env), "GOTOOLCHAIN="+setting)
	_, err = runGo(ctx, process{bin: tc.bin, dir: s.src(), env: env, args: []string{"get", "--", s.pkg + "@" + s.version}})
	var ce *CommandError
	if !errors.As(err, &ce) {
		return err
	}
	reason := withoutDownloads(ce.Error())
	if unknown, err := s.unknown(ctx, tc); err != nil {
		return err
	} else if !unknown {
		return tc.unreachable(s.Pattern, reason)
	}
	return &PackageError{Pattern: s.Pattern, Reason: reason, Way: "check the path, and that this version exists"}
}

// withoutDownloads leaves out of the go command's words what it downloaded.
func withoutDownloads(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "go: downloading ") && !strings.HasPrefix(line, "downloading ") {
			kept = append(kept, strings.TrimPrefix(line, "go: "))
		}
	}
	return strings.TrimSpace(strings.Join(kept, ""))
}

// find finds the package in the place that was filled.
func (s scratch) find(ctx context.Context) (Package, error) {
	var m downloaded
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
	if errors.As(err, &pe) {
		pe.Way = "name a main package of module " + m.Path
	}
	return found, err
}

// refuseReplace refuses a module whose go.mod only holds as the main one.
func refuseReplace(goMod, pattern string) error {
	content, err := os.ReadFile(goMod)
	if err != nil {
		return err
	}
	f, err := modfile.ParseLax(goMod, content, nil)
	if err != nil {
		return err
	}
	// ParseLax leaves out what only a main module heeds; Parse has it.
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

// replaceTree makes dst a copy of the module at src, which has regular files
// alone, and lets their owner write to them.
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
