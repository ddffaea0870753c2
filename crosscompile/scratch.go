package crosscompile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
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
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is no import path", Way: "write module/path@version, for example github.com/prometheus/node_exporter@v1.12.1"}
	}
	if version == "" {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "has no version", Way: "write " + pkg + "@latest"}
	}
	s := scratch{Go: g, Query: q, pkg: pkg, version: version}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%v", q.Pattern, q.AsMain))
	s.dir = filepath.Join(q.Scratch, hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return Package{}, err
	}
	lock := flock.New(filepath.Join(s.dir, ".lock"))
	if _, err := lock.TryLockContext(ctx, 25*time.Millisecond); err != nil {
		return Package{}, err
	}
	defer lock.Close() //nolint:errcheck // the end of the process would do
	if err := s.fill(ctx); err != nil {
		return Package{}, err
	}
	return s.find(ctx)
}

// scratch is a directory made for one module/path@version.
type scratch struct {
	*Go
	Query
	pkg, version, dir string
}

// downloaded is what `go mod download -json` says of a module.
type downloaded struct{ Path, Version, GoMod, Dir string }

// record is the file that says that the directory is filled, with what.
func (s scratch) record() string { return filepath.Join(s.dir, "complete") }

// fill makes the directory a module that requires the wanted one, or a copy of
// it. What an exact version filled stays; a moving one (latest, a branch) is
// asked for again.
func (s scratch) fill(ctx context.Context) error {
	if _, err := os.Stat(s.record()); err == nil && semver.Canonical(s.version) == s.version {
		return nil
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go.mod"), []byte(scratchGoMod), 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.dir, "go.sum")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m, err := s.download(ctx)
	switch {
	case err != nil:
		return err
	case s.AsMain:
		err = replaceTree(filepath.Join(s.dir, "src"), m.Dir)
	default:
		if err = refuseReplace(m.GoMod, s.Pattern); err == nil {
			err = s.require(ctx)
		}
	}
	if err != nil {
		return err
	}
	s.forget(s.dir) // its go.mod is another now
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(s.record(), b, 0o600)
}

// download fetches the module that has the package: of those whose path begins
// it, the longest, as the go command has it.
func (s scratch) download(ctx context.Context) (downloaded, error) {
	tc, err := s.toolchain(ctx, s.dir)
	if err != nil {
		return downloaded{}, err
	}
	for prefix := s.pkg; prefix != "."; prefix = path.Dir(prefix) {
		out, err := run(ctx, process{bin: tc.bin, dir: s.dir, env: tc.env, args: []string{"mod", "download", "-json", prefix + "@" + s.version}})
		if ctx.Err() != nil {
			return downloaded{}, err
		}
		var m downloaded
		if err != nil || json.Unmarshal(out, &m) != nil {
			continue
		}
		if isDir(m.Dir, "."+strings.TrimPrefix(s.pkg, prefix)) {
			return m, nil
		}
	}
	if err := s.require(ctx); err != nil { // which says why not
		return downloaded{}, err
	}
	return downloaded{}, &PackageError{Pattern: s.Pattern, Reason: "is in no module", Way: "write module/path@version"}
}

// require makes the directory's module require the wanted one.
func (s scratch) require(ctx context.Context) error {
	tc, err := s.toolchain(ctx, s.dir)
	if err != nil {
		return err
	}
	// What is required may ask for a newer Go than the one found so far: this
	// one command may switch.
	setting := cmp.Or(s.lookup("GOTOOLCHAIN"), "auto")
	env := append(slices.Clone(tc.env), "GOTOOLCHAIN="+setting, "GOWORK=off", "GOFLAGS=-mod=mod")
	_, err = run(ctx, process{bin: tc.bin, dir: s.dir, env: env, args: []string{"get", "--", s.pkg + "@" + s.version}})
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
	return &PackageError{Pattern: s.Pattern, Reason: reason, Way: "is the path right, and does that version exist?"}
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

// find finds the package in the directory that was filled.
func (s scratch) find(ctx context.Context) (Package, error) {
	var m downloaded
	b, err := os.ReadFile(s.record())
	if err != nil {
		return Package{}, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Package{}, fmt.Errorf("%s: %w", s.record(), err)
	}
	dir := s.dir
	if s.AsMain {
		dir = filepath.Join(dir, "src")
	}
	if err := s.alone(ctx, dir); err != nil {
		return Package{}, err
	}
	found, err := s.list(ctx, s.Query, dir, s.pkg)
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
		Reason:  fmt.Sprintf("its go.mod has %s lines, which hold only in the main module", strings.Join(kinds, " and ")),
		Way:     "--as-main builds the module as the main one",
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
