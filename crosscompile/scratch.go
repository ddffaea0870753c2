package crosscompile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	sum := sha256.Sum256([]byte(q.Pattern))
	dir := filepath.Join(q.Scratch, hex.EncodeToString(sum[:8]))
	unlock, err := lock(dir)
	if err != nil {
		return Package{}, err
	}
	defer unlock()
	if err := g.require(ctx, dir, pkg, version); err != nil {
		return Package{}, err
	}
	p, err := g.query(ctx, dir, pkg)
	if err != nil {
		return Package{}, err
	}
	if p.Module == nil {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is in no module", Way: "write module/path@version"}
	}
	if q.AsMain {
		return g.asMain(ctx, q, p.Module.Dir, p.Module.Version, pkg, p.Module.Path)
	}
	if err := refuseReplace(p.Module.GoMod, q.Pattern); err != nil {
		return Package{}, err
	}
	found, err := g.list(ctx, dir, pkg, q.Pattern)
	var pe *PackageError
	if errors.As(err, &pe) {
		pe.Way = "name a main package of module " + p.Module.Path
	}
	return found, err
}

// require makes dir a module that requires pkg at version. An exact version that
// is required there already stays; a moving one (latest, a branch) is asked for
// again.
func (g *Go) require(ctx context.Context, dir, pkg, version string) error {
	done := filepath.Join(dir, "complete")
	if _, err := os.Stat(done); err == nil && semver.Canonical(version) == version {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(scratchGoMod), 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "go.sum")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return err
	}
	// The scratch module's own toolchain line may ask for a newer Go than the
	// one found so far: this one command may switch.
	env := append(append([]string{}, tc.env...), "GOTOOLCHAIN="+g.toolchainSetting(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if _, err := run(ctx, process{bin: tc.bin, dir: dir, env: env, args: []string{"get", "--", pkg + "@" + version}}); err != nil {
		var ce *CommandError
		if errors.As(err, &ce) {
			return &PackageError{Pattern: pkg + "@" + version, Reason: strings.TrimPrefix(ce.Error(), "go: "), Way: "is the path right, and does that version exist?"}
		}
		return err
	}
	g.forget(dir) // its go.mod is another now
	return os.WriteFile(done, nil, 0o600)
}

// toolchainSetting is what the person's environment says of toolchains.
func (g *Go) toolchainSetting() string {
	for _, kv := range g.environ() {
		if v, ok := strings.CutPrefix(kv, "GOTOOLCHAIN="); ok && v != "" {
			return v
		}
	}
	return "auto"
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

// asMain copies the module out of the module cache and finds pkg in it as a
// package of the main module.
func (g *Go) asMain(ctx context.Context, q Query, moduleDir, version, pkg, modulePath string) (Package, error) {
	sum := sha256.Sum256([]byte(q.Pattern + "\x00main\x00" + version))
	dir := filepath.Join(q.Scratch, hex.EncodeToString(sum[:8]))
	unlock, err := lock(dir)
	if err != nil {
		return Package{}, err
	}
	defer unlock()
	root := filepath.Join(dir, "src")
	done := filepath.Join(dir, "complete")
	if _, err := os.Stat(done); err != nil {
		if err := os.RemoveAll(root); err != nil {
			return Package{}, err
		}
		if err := copyTree(root, moduleDir); err != nil {
			return Package{}, err
		}
		if err := os.WriteFile(done, nil, 0o600); err != nil {
			return Package{}, err
		}
	}
	found, err := g.list(ctx, root, pkg, q.Pattern)
	found.Module, found.Version = modulePath, version
	return found, err
}

// copyTree copies the files of a module, which are regular ones alone, and lets
// their owner write to them.
func copyTree(dst, src string) error {
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
		return os.WriteFile(filepath.Join(dst, rel), content, 0o600)
	})
}

// lock makes dir and holds it against other processes until unlock.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(dir, "lock"))
}
