package registry

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A repository is a repository of a host. Its host is shared with all references to it in
// the run.
type repository struct {
	host *transport.Registry
	name string // without the host; as the path below /v2/
	full name.Repository
}

// A reference names a manifest in a repository, by tag or by digest. Exactly one of tag
// and digest is set.
type reference struct {
	repository
	tag    string  // "" when digest is given
	digest v1.Hash // zero when tag is given
}

// parse parses ref; the error is a [name.ErrBadName]. A reference with both a tag and a
// digest is one by digest, as in Docker.
func (c *Client) parse(ref string) (reference, error) {
	c.start()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return reference{}, cleaned(err)
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
		return reference{}, cleaned(err)
	}
	return r, nil
}

// The parts of a reference (distribution-spec, "Pulling manifests"; RFC 3986, 3.2.2).
// go-containerregistry accepts more, for example ".." as an element of a repository.
var (
	hostPattern    = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]+)?$`)
	elementPattern = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]*$`)
	tagPattern     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
)

// checkName refuses names with which the path of a request would not be below /v2/ of the
// host. tag may be "".
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

// checkHost refuses what is not host[:port] with a port from 1 to 65535.
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

// badName returns a [name.ErrBadName] with a text of this package. That library's type
// has no exported constructor, so the error wraps one that it returns.
func badName(format string, args ...any) error {
	_, kind := name.NewTag("")
	return badNameError{transport.Clean(fmt.Sprintf(format, args...)), kind}
}

// cleaned returns err, which repeats input of a user or a registry, with a clean text.
func cleaned(err error) error { return badNameError{transport.Clean(err.Error()), err} }

// A badNameError has its own text and an error that errors.As finds.
type badNameError struct {
	text string
	err  error
}

func (e badNameError) Error() string { return e.text }
func (e badNameError) Unwrap() error { return e.err }

// repository returns the repository of a parsed name.
func (c *Client) repository(n name.Repository) repository {
	return repository{host: c.transport.Registry(n.RegistryStr()), name: n.RepositoryStr(), full: n}
}

// identifier returns the tag or the digest, the last element of the manifest's path.
func (r reference) identifier() string {
	if r.tag != "" {
		return r.tag
	}
	return r.digest.String()
}

// String returns the reference with the canonical name of its host. It is the key of a
// tag in the session and in the cache.
func (r reference) String() string {
	if r.tag != "" {
		return r.key() + ":" + r.tag
	}
	return r.key() + "@" + r.digest.String()
}

// key returns host/name. It is the key of the repository in the session.
func (r repository) key() string { return r.host.Name + "/" + r.name }

// by returns the reference to a digest in r.
func (r repository) by(h v1.Hash) reference { return reference{repository: r, digest: h} }
