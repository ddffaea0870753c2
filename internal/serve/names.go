package serve

import (
	"fmt"
	"math/big"
	"net/http"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The names of the distribution specification, "Pulling manifests".
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// maxRepositoryName is the length in bytes that the specification recommends for a
// repository name.
const maxRepositoryName = 255

// checkRepository refuses names that the specification does not allow, and names that are
// not local paths on this system, such as NUL on Windows.
func checkRepository(name string) error {
	if len(name) > maxRepositoryName || !repositoryName.MatchString(name) || !filepath.IsLocal(filepath.FromSlash(name)) {
		return nameInvalid(name)
	}
	return nil
}

// parseDigest returns a sha256 or sha512 digest and refuses all other algorithms. Its
// parts are safe as file names.
func parseDigest(text string) (digest.Digest, error) {
	d := digest.Digest(text)
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", refuse(http.StatusBadRequest, "DIGEST_INVALID", "%.200q is not a sha256 or sha512 digest", text)
	}
	return d, nil
}

// parseReference returns the digest if text is one, or "" if it is a valid tag.
func parseReference(text string) (digest.Digest, error) {
	switch {
	case strings.Contains(text, ":"):
		return parseDigest(text)
	case tagName.MatchString(text):
		return "", nil
	}
	return "", refuse(http.StatusBadRequest, "TAG_INVALID", "%.200q is not a tag", text)
}

// The directories of the store. Those within a repository begin with "_": no element of a
// repository name does, so they cannot collide with a repository below it.
const (
	blobsDir        = "blobs"
	repositoriesDir = "repositories"
	uploadsDir      = "uploads"
	manifestsDir    = "_manifests"
	tagsDir         = "_tags"
	referrersDir    = "_referrers"
)

// The functions below return paths in the store. Their arguments have been checked.
func blobFile(d digest.Digest) string {
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded())
}

func manifestFile(repository string, d digest.Digest) string {
	return path.Join(repositoriesDir, repository, manifestsDir, d.Algorithm().String(), d.Encoded())
}

// tagFile is the file with the digest that a tag names.
func tagFile(repository, tag string) string {
	return path.Join(repositoriesDir, repository, tagsDir, tagToFile(tag))
}

// referrerDir is the directory with one descriptor for each referrer of a subject. The
// subject itself need not exist.
func referrerDir(repository string, subject digest.Digest) string {
	return path.Join(repositoriesDir, repository, referrersDir, subject.Algorithm().String(), subject.Encoded())
}

func referrerFile(repository string, subject, d digest.Digest) string {
	return path.Join(referrerDir(repository, subject), d.Algorithm().String()+"-"+d.Encoded())
}

// tagToFile returns the file name of a tag. That is the tag itself, unless a file system
// that ignores case, or Windows, could take it for another name. Then it is "=", a
// hexadecimal number whose bit i is set if letter i is in upper case, "=", and the tag in
// lower case, with "=" in place of a final dot. A tag cannot contain "=", so the two
// forms do not collide.
func tagToFile(tag string) string {
	lower := strings.ToLower(tag)
	if lower == tag && !strings.HasSuffix(tag, ".") && filepath.IsLocal(tag) {
		return tag
	}
	bits := new(big.Int)
	for i := range len(tag) {
		if tag[i] != lower[i] {
			bits.SetBit(bits, i, 1)
		}
	}
	if strings.HasSuffix(lower, ".") {
		lower = lower[:len(lower)-1] + "="
	}
	return fmt.Sprintf("=%x=%s", bits, lower)
}

// fileToTag is the reverse of [tagToFile]. ok is false for a file that tagToFile does not
// return for any tag.
func fileToTag(file string) (tag string, ok bool) {
	tag = file
	if encoded, found := strings.CutPrefix(file, "="); found {
		number, lower, _ := strings.Cut(encoded, "=")
		bits, valid := new(big.Int).SetString(number, 16)
		if !valid {
			return "", false
		}
		name := []byte(lower)
		for i := range name {
			switch {
			case bits.Bit(i) == 1 && 'a' <= name[i] && name[i] <= 'z':
				name[i] -= 'a' - 'A'
			case i == len(name)-1 && name[i] == '=':
				name[i] = '.'
			}
		}
		tag = string(name)
	}
	return tag, tagName.MatchString(tag) && tagToFile(tag) == file
}
