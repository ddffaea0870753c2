package mirror

import (
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Ref is the reference of an image in a registry or in a local place. A text is parsed
// once; references beside it are made from its parts, never by joining text.
type Ref struct {
	Remote manifest.Reference
	Place  local.Place // without a Form: the image is in a registry
}

// ParseRef reads a reference of a registry, which is not checked, or of a local place.
func ParseRef(text string) (r Ref, err error) {
	if local.Is(text) {
		r.Place, err = local.Parse(text)
		return r, err
	}
	return Ref{Remote: manifest.CutReference(text)}, nil
}

// remote returns the Ref of an image in a registry.
func remote(r manifest.Reference) Ref { return Ref{Remote: r} }

// String returns the reference as ParseRef reads it.
func (r Ref) String() string {
	if r.Local() {
		return r.Place.String()
	}
	return r.Remote.String()
}

// Local reports whether the image is in a local place.
func (r Ref) Local() bool { return r.Place.Form != "" }

// docker reports whether the place is a Docker archive. A Put replaces all that it holds.
func (r Ref) docker() bool { return r.Place.Form == local.FormDockerArchive }

// unnamed reports whether the place gives the image no name, so that it is found by its
// digest.
func (r Ref) unnamed() bool { return r.Local() && r.Place.Name == "" }

// tag returns the tag, or "".
func (r Ref) tag() string {
	if r.Local() {
		_, tag := cutPlaceName(r.Place.Name)
		return tag
	}
	return r.Remote.Tag
}

// at returns the host of the registry, or the local place without a name. It is the key
// of permits and of counted blobs.
func (r Ref) at() string {
	if r.Local() {
		return local.Place{Form: r.Place.Form, Path: r.Place.Path}.String()
	}
	return r.Remote.Host()
}

// ByDigest returns the reference of a digest in the same repository or place.
func (r Ref) ByDigest(digest v1.Hash) Ref {
	if r.Local() {
		r.Place.Name, r.Place.Digest = "", digest
		return r
	}
	r.Remote.Tag, r.Remote.Digest = "", digest.String()
	return r
}

// ByTag returns the reference of a tag in the same repository. In a local place its name
// is the repository of the image with the tag, since a place may hold images of several
// repositories.
func (r Ref) ByTag(tag string) Ref {
	if r.Local() {
		repo, _ := cutPlaceName(r.Place.Name)
		r.Place.Name, r.Place.Digest = manifest.Reference{Repository: repo, Tag: tag}.String(), v1.Hash{}
		if repo == "" {
			r.Place.Name = tag
		}
		return r
	}
	r.Remote.Tag, r.Remote.Digest = tag, ""
	return r
}

// cosign returns the reference of one of cosign's tags beside the image. In a local place
// the tag is the whole name: it is made of a digest and so unique.
func (r Ref) cosign(tag string) Ref {
	if r.Local() {
		r.Place.Name, r.Place.Digest = tag, v1.Hash{}
		return r
	}
	return r.ByTag(tag)
}

// named returns a local place with this name for the image, unless it has one. A Docker
// archive takes only names with a repository and a tag.
func (r Ref) named(name string) Ref {
	if repo, tag := cutPlaceName(name); r.Place.Name == "" && (!r.docker() || repo != "" && tag != "") {
		r.Place.Name = name
	}
	return r
}

// cutPlaceName splits the name of an image in a local place: a repository and a tag, or a
// tag alone.
func cutPlaceName(name string) (repo, tag string) {
	at := manifest.CutReference(name)
	if at.Tag == "" && tagName.MatchString(name) {
		return "", name
	}
	return at.Repository, at.Tag
}

// key returns a text that is equal for references of the same target. Names of Docker Hub
// have their full spelling, Docker archives are known by their path, because they hold
// one image, and images without a name by their source.
func (r Ref) key(source string) string {
	if !r.Local() {
		return r.Remote.Canonical().String()
	}
	at := r.Place
	if at.Path = filepath.Clean(at.Path); r.docker() {
		return Ref{Place: at}.at()
	}
	if name := manifest.CutReference(at.Name); name.Tag != "" {
		at.Name = name.Canonical().String()
	}
	if at.Name == "" {
		return at.String() + " " + source
	}
	return at.String()
}
