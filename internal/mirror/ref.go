package mirror

import (
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Ref is where an image is or goes: in a registry or in a local place. It is read
// once; what lies beside it is made of its parts.
type Ref struct {
	Remote manifest.Reference
	Place  local.Place // without a Form: none
}

// ParseRef reads an image of a registry, of which nothing is checked, or a local place.
func ParseRef(text string) (r Ref, err error) {
	if local.Is(text) {
		r.Place, err = local.Parse(text)
		return r, err
	}
	return Ref{Remote: manifest.CutReference(text)}, nil
}

// remote is an image of a registry.
func remote(r manifest.Reference) Ref { return Ref{Remote: r} }

func (r Ref) String() string {
	if r.Local() {
		return r.Place.String()
	}
	return r.Remote.String()
}

// Local reports whether the image is in a local place.
func (r Ref) Local() bool { return r.Place.Form != "" }

// docker reports whether the place is a file that holds one image.
func (r Ref) docker() bool { return r.Place.Form == local.FormDockerArchive }

// unnamed reports whether it is a place that gives the image no name: there it is known
// by its digest.
func (r Ref) unnamed() bool { return r.Local() && r.Place.Name == "" }

// tag is the tag, empty for none.
func (r Ref) tag() string {
	if r.Local() {
		_, tag := cutPlaceName(r.Place.Name)
		return tag
	}
	return r.Remote.Tag
}

// at is who answers for the image: the registry, or the place.
func (r Ref) at() string {
	if r.Local() {
		return local.Place{Form: r.Place.Form, Path: r.Place.Path}.String()
	}
	return r.Remote.Host()
}

// ByDigest is what has the digest in the same repository or place.
func (r Ref) ByDigest(digest v1.Hash) Ref {
	if r.Local() {
		r.Place.Name, r.Place.Digest = "", digest
		return r
	}
	r.Remote.Tag, r.Remote.Digest = "", digest.String()
	return r
}

// ByTag is what has the tag in the same repository. In a local place it is named after
// the repository of the image, which tells the tags of several apart.
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

// cosign is what has one of cosign's tags beside the image. In a local place that is
// its whole name: it is made of a digest.
func (r Ref) cosign(tag string) Ref {
	if r.Local() {
		r.Place.Name, r.Place.Digest = tag, v1.Hash{}
		return r
	}
	return r.ByTag(tag)
}

// named is a place that names no image with this name. A Docker archive takes only
// names of repositories.
func (r Ref) named(name string) Ref {
	if repo, tag := cutPlaceName(name); r.Place.Name == "" && (!r.docker() || repo != "" && tag != "") {
		r.Place.Name = name
	}
	return r
}

// cutPlaceName takes apart the name that an image has in a local place: a repository
// and a tag, or a tag alone.
func cutPlaceName(name string) (repo, tag string) {
	at := manifest.CutReference(name)
	if at.Tag == "" && tagName.MatchString(name) {
		return "", name
	}
	return at.Repository, at.Tag
}

// key tells targets apart: Docker Hub's names by their one spelling, files that hold one
// image by their paths, and what has no name by its source.
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
