package crosscompile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/claim"
)

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
