package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// sumName is the name of the file beside a program that holds the digest of the program.
// The go command finds a program up to date by the build ID in it, and does not notice if
// the rest of the file is damaged or replaced. So the digest is compared before the go
// command may find the program up to date.
const sumName = ".sha256"

// writeSum stores the digest of a program that was just compiled. Without a stored digest
// the program is linked again in the next build, so an error is ignored.
func (b *Builder) writeSum(file, digest string) {
	_ = os.WriteFile(filepath.Join(filepath.Dir(file), sumName), []byte(b.sumOf(file, digest)), 0o600)
}

// sumOf returns the content of the file: the digest and, in a sealed cache, a proof that
// only a Builder with the key of the cache can make.
func (b *Builder) sumOf(file, digest string) string {
	return digest + b.cache.Proof("program", filepath.Base(filepath.Dir(file)), filepath.Base(file), digest)
}

// checkSum removes the file unless it is a regular file with the stored digest. It fails
// if the file cannot be removed. The caller holds the lock of the path.
func (b *Builder) checkSum(file string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		want, err := os.ReadFile(filepath.Join(filepath.Dir(file), sumName))
		// The proof contains the path and the digest, so a proof for another program does
		// not count.
		if is, herr := digestOfFile(file); err == nil && herr == nil && b.sumOf(file, is) == string(want) {
			return nil
		}
	}
	return os.RemoveAll(file)
}

// digestOfFile returns the sha256 of a file in hexadecimal digits.
func digestOfFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
