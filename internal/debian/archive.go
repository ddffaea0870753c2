package debian

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mabuild/mabuild/internal/decompress"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
)

// The bounds of the decompressors.
const (
	maxIndexWindow   = 64 << 20 // bytes that the decompressor of an index may look back
	maxPackageWindow = 64 << 20 // the same for a package
	maxIndex         = 1 << 30  // bytes of an index, uncompressed
)

// An Archive is a suite of an archive on a web server. Its fields must not be changed after
// the first call. It is safe for concurrent use.
type Archive struct {
	URL        string // without a slash at its end; that of a snapshot has its time
	Suite      string
	Components []string
	Snapshot   time.Time // zero: the archive is read as it is now
	Keyring    string    // a file; "": DefaultKeyring
	Unsigned   bool      // the signature is not checked

	Work string // an existing directory for files that are removed again
	// Text returns a short file of a URL, and Get the path of a file with this sha256.
	Text func(ctx context.Context, url string) (string, error)
	Get  func(ctx context.Context, url, sha256 string) (path string, err error)
	Now  func() time.Time // nil: time.Now

	once    sync.Once
	release *release
	err     error
}

// String names the archive in errors.
func (a *Archive) String() string { return a.URL + " " + a.Suite }

// open reads and checks the release, once.
func (a *Archive) open(ctx context.Context) (*release, error) {
	a.once.Do(func() { a.release, a.err = a.read(ctx) })
	return a.release, a.err
}

// read reads and checks the release.
func (a *Archive) read(ctx context.Context) (*release, error) {
	signed, err := a.Text(ctx, a.URL+"/dists/"+a.Suite+"/InRelease")
	if err != nil && a.Unsigned { // an archive without signatures may have this one alone
		if plain, second := a.Text(ctx, a.URL+"/dists/"+a.Suite+"/Release"); second == nil {
			signed, err = plain, nil
		}
	}
	if err != nil {
		return nil, err
	}
	content, err := a.verify(ctx, []byte(signed))
	if err != nil {
		return nil, err
	}
	of, err := parseRelease(content)
	if err != nil {
		return nil, hint.New(hint.Content, "check packages.debian.mirror", "%s: InRelease: %w", a, err)
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	return of, of.check(a, now())
}

// Index reads the packages of an architecture, and those for all architectures.
func (a *Archive) Index(ctx context.Context, architecture string) (*Index, error) {
	of, err := a.open(ctx)
	if err == nil {
		err = of.has(a, architecture)
	}
	if err != nil {
		return nil, err
	}
	x := &Index{Architecture: architecture, From: a.String()}
	for _, component := range a.Components {
		path, sum, ok := of.index(component, architecture)
		if !ok {
			return nil, hint.New(hint.Content, "", "%s: InRelease has no index of %s for %s", a, component, architecture)
		}
		from := a.URL + "/dists/" + a.Suite + "/" + path
		file, err := a.Get(ctx, from, sum)
		if err != nil {
			return nil, err
		}
		if err := x.read(file); err != nil {
			return nil, hint.New(hint.Content, "", "%s: %w", from, err)
		}
	}
	return x, nil
}

// read adds the packages of an index that is in a file.
func (x *Index) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return guard.Do(func() error {
		content, err := decompress.Reader(f, maxIndexWindow)
		if err != nil {
			return err
		}
		defer content.Close() //nolint:errcheck // only read
		return x.add(&limited{content, maxIndex})
	})
}

// errLarge is returned for content that unpacks to more than its limit.
var errLarge = errors.New("it unpacks to more than the limit")

// Dearmored text has this form (RFC 9580, section 6.2).
const armorHead = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// dearmor returns a keyring in its binary form.
func dearmor(content []byte) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(content), []byte(armorHead)) {
		return content, nil
	}
	var all []byte
	for _, block := range strings.Split(strings.ReplaceAll(string(content), "\r", ""), armorHead)[1:] {
		block, _, closed := strings.Cut(block, "-----END PGP PUBLIC KEY BLOCK-----")
		_, block, header := strings.Cut(block, "\n\n")
		if !closed || !header {
			return nil, errors.New("it ends early")
		}
		if at := strings.LastIndex(block, "\n="); at >= 0 {
			block = block[:at] // without the checksum
		}
		raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(block, "\n", ""))
		if err != nil {
			return nil, fmt.Errorf("it is not base64: %w", err)
		}
		all = append(all, raw...)
	}
	return all, nil
}
