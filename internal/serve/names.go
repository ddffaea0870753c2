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

// The names of the distribution specification, "Pulling manifests". 255 bytes is the
// bound that it recommends for a repository name.
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

const maxRepositoryName = 255

func checkRepository(name string) error {
	if len(name) > maxRepositoryName || !repositoryName.MatchString(name) || !filepath.IsLocal(filepath.FromSlash(name)) {
		return nameInvalid(name)
	}
	return nil
}

func parseDigest(text string) (digest.Digest, error) {
	d := digest.Digest(text)
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", refuse(http.StatusBadRequest, "DIGEST_INVALID", "%.200q is not a sha256 or sha512 digest", text)
	}
	return d, nil
}

// parseReference returns the digest that a reference is, or "" for a tag.
func parseReference(text string) (digest.Digest, error) {
	switch {
	case strings.Contains(text, ":"):
		return parseDigest(text)
	case tagName.MatchString(text):
		return "", nil
	}
	return "", refuse(http.StatusBadRequest, "TAG_INVALID", "%.200q is not a tag", text)
}

// The directories of the store. Those of one repository begin with "_", as no
// component of a repository name does.
const (
	blobsDir        = "blobs"
	repositoriesDir = "repositories"
	uploadsDir      = "uploads"
	manifestsDir    = "_manifests"
	tagsDir         = "_tags"
	referrersDir    = "_referrers"
)

func blobFile(d digest.Digest) string {
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded())
}

func manifestFile(repository string, d digest.Digest) string {
	return path.Join(repositoriesDir, repository, manifestsDir, d.Algorithm().String(), d.Encoded())
}

func tagFile(repository, tag string) string {
	return path.Join(repositoriesDir, repository, tagsDir, tagToFile(tag))
}

func referrerDir(repository string, subject digest.Digest) string {
	return path.Join(repositoriesDir, repository, referrersDir, subject.Algorithm().String(), subject.Encoded())
}

func referrerFile(repository string, subject, d digest.Digest) string {
	return path.Join(referrerDir(repository, subject), d.Algorithm().String()+"-"+d.Encoded())
}

// tagToFile returns the name of a tag's file: the tag itself, unless a file system that
// ignores case, or Windows, would take it for another. Then it is "=", a number whose
// bits are the letters in upper case, "=", and the tag in lower case, with "=" in place
// of a dot at the end.
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

// fileToTag is the reverse of tagToFile. ok is false for a file that is not a tag's.
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
