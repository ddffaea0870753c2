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

// A scratchDir is a directory that is made for one module/path@version. Once it is filled
// it never changes, so that any number of processes build in it at once; who fills it
// or removes it holds it alone (package claim). In it are
//
//	mabuild-scratch  which says what the directory is, from the first moment on
//	src              the module that the go command runs in
//	complete         what src was filled with, written last
//
// That src stands by itself, whatever go.work is above it and whatever the person's
// settings are, follows from the first of them, not from anything that a run would
// have to remember.
type scratchDir string

// scratchDirOf is where a package at a version is built.
func scratchDirOf(scratch, pkg, version string, asMain bool) scratchDir {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%v", pkg, version, asMain))
	return scratchDir(filepath.Join(scratch, hex.EncodeToString(sum[:8])))
}

func (p scratchDir) mark() string   { return filepath.Join(string(p), "mabuild-scratch") }
func (p scratchDir) src() string    { return filepath.Join(string(p), "src") }
func (p scratchDir) record() string { return filepath.Join(string(p), "complete") }

// begin empties the place and makes src a module that requires nothing.
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

// filled reports whether the place is filled. An empty record is of a disk that was
// full.
func (p scratchDir) filled() bool {
	info, err := os.Stat(p.record())
	return err == nil && info.Size() > 0
}

// scratched returns the place whose src dir is.
func scratched(dir string) (scratchDir, bool) {
	abs, err := filepath.Abs(dir)
	if err != nil || filepath.Base(abs) != "src" {
		return "", false
	}
	p := scratchDir(filepath.Dir(abs))
	_, err = os.Stat(p.mark())
	return p, err == nil
}

// Use marks the module that dir is as used, if [Go.Find] made it for
// module/path@version; of any other directory it says nothing. It returns
// fs.ErrNotExist if somebody has removed the module: it has to be found again.
func Use(ctx context.Context, dir string) error {
	if filepath.Base(dir) != "src" {
		return nil
	}
	p, made := scratched(dir)
	if !made {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist
		}
		return nil
	}
	release, err := claim.Share(ctx, string(p))
	if err != nil {
		return err
	}
	defer release()
	if !p.filled() {
		return fs.ErrNotExist
	}
	return nil
}
