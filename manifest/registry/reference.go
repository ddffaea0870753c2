package registry

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A repository is a place for manifests and blobs at a host.
type repository struct {
	host *host
	name string // without the host
	full name.Repository
}

// A reference names a manifest in a repository, by tag or by digest.
type reference struct {
	repository
	tag    string  // "" when digest is given
	digest v1.Hash // zero when tag is given
}

// parse reads ref; its error is a [name.ErrBadName]. A reference with both a tag and a digest is one by digest.
func (c *Client) parse(ref string) (reference, error) {
	c.start()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return reference{}, cleaned{err}
	}
	tag, ok := parsed.(name.Tag)
	if err := checkName(parsed.Context(), tag.TagStr()); err != nil {
		return reference{}, err
	}
	r := reference{repository: c.repository(parsed.Context())}
	if ok {
		r.tag = tag.TagStr()
		return r, nil
	}
	if r.digest, err = v1.NewHash(parsed.Identifier()); err != nil {
		return reference{}, cleaned{err}
	}
	return r, nil
}

// What a reference consists of (distribution-spec, "Pulling manifests"; RFC 3986,
// 3.2.2). The library that parses it is content with ".." for a path.
var (
	hostPattern    = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]+)?$`)
	elementPattern = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]*$`)
	tagPattern     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
)

// checkName refuses what would lead elsewhere than below /v2/ of the host that is
// named; tag may be "".
func checkName(n name.Repository, tag string) error {
	if err := checkHost(n.RegistryStr()); err != nil {
		return err
	}
	if tag != "" && !tagPattern.MatchString(tag) {
		return badName("%s cannot be a tag", tag)
	}
	for element := range strings.SplitSeq(n.RepositoryStr(), "/") {
		if !elementPattern.MatchString(element) {
			return badName("%s cannot be a repository", n.RepositoryStr())
		}
	}
	return nil
}

// checkHost refuses what no connection can be made to: it is not host[:port], or the
// port is not from 1 to 65535.
func checkHost(host string) error {
	match := hostPattern.FindStringSubmatch(host)
	if match == nil {
		return badName("%s is not host[:port]", host)
	}
	if port := strings.TrimPrefix(match[2], ":"); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return badName("%s: a port must be a number from 1 to 65535", host)
		}
	}
	return nil
}

// badName makes a [name.ErrBadName] of ours.
func badName(format string, args ...any) error {
	_, kind := name.NewTag("")
	return badNameError{clean(fmt.Sprintf(format, args...)), kind}
}

type badNameError struct {
	text string
	kind error
}

func (e badNameError) Error() string { return e.text }
func (e badNameError) Unwrap() error { return e.kind }

func (c *Client) repository(n name.Repository) repository {
	return repository{host: c.transport.host(n.RegistryStr()), name: n.RepositoryStr(), full: n}
}

// identifier is the last element of the manifest's path.
func (r reference) identifier() string {
	if r.tag != "" {
		return r.tag
	}
	return r.digest.String()
}

func (r reference) String() string {
	if r.tag != "" {
		return r.key() + ":" + r.tag
	}
	return r.key() + "@" + r.digest.String()
}

// key is the repository as a reference begins with it; it names the repository
// in everything that is remembered.
func (r repository) key() string { return r.host.name + "/" + r.name }

// by returns the reference to a digest in r.
func (r repository) by(h v1.Hash) reference { return reference{repository: r, digest: h} }
