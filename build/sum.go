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

// sumName is the file beside a program that holds its digest. The go command
// takes a program for up to date by the build ID that the file claims, whatever
// became of the rest of it.
const sumName = ".sha256"

// writeSum notes that the program at file is the one with this digest, as it was
// compiled. Where that cannot be noted the program is linked again the next time.
func (b *Builder) writeSum(file, digest string) {
	_ = os.WriteFile(filepath.Join(filepath.Dir(file), sumName), []byte(b.sumOf(file, digest)), 0o600)
}

// sumOf is what stands in the file: the digest and, where the cache asks for one, a proof.
func (b *Builder) sumOf(file, digest string) string {
	return digest + b.cache.Proof("program", filepath.Base(filepath.Dir(file)), filepath.Base(file), digest)
}

// checkSum removes what is at file unless its sum is the one that was noted.
func (b *Builder) checkSum(file string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		want, err := os.ReadFile(filepath.Join(filepath.Dir(file), sumName))
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
