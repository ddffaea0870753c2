package registry

import (
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
	r := reference{repository: c.repository(parsed.Context())}
	tag, ok := parsed.(name.Tag)
	if ok {
		r.tag = tag.TagStr()
		return r, nil
	}
	if r.digest, err = v1.NewHash(parsed.Identifier()); err != nil {
		return reference{}, cleaned{err}
	}
	return r, nil
}

func (c *Client) repository(n name.Repository) repository {
	return repository{host: c.wire.host(n.RegistryStr()), name: n.RepositoryStr(), full: n}
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
