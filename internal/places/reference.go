package places

import (
	"path/filepath"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Reference is that of an image in a registry or in a local place. A text is parsed
// once; references beside it are made from its parts, never by joining text.
type Reference struct {
	Remote imageref.Parts
	Place  local.Place // without a Form: the image is in a registry
}

// Parse reads a reference of a registry, which is not checked, or of a local place.
func Parse(text string) (r Reference, err error) {
	if local.Is(text) {
		r.Place, err = local.Parse(text)
		return r, err
	}
	return Reference{Remote: imageref.Cut(text)}, nil
}

// Remote returns the Reference of an image in a registry.
func Remote(r imageref.Parts) Reference { return Reference{Remote: r} }

// String returns the reference as Parse reads it.
func (r Reference) String() string {
	if r.Local() {
		return r.Place.String()
	}
	return r.Remote.String()
}

// Local reports whether the image is in a local place.
func (r Reference) Local() bool { return r.Place.Form != "" }

// Docker reports whether the place is a Docker archive. A Put replaces all that it holds.
func (r Reference) Docker() bool { return r.Place.Form == local.FormDockerArchive }

// Unnamed reports whether the place gives the image no name, so that it is found by its
// digest.
func (r Reference) Unnamed() bool { return r.Local() && r.Place.Name == "" }

// Tag returns the tag, or "".
func (r Reference) Tag() string {
	if r.Local() {
		_, tag := CutName(r.Place.Name)
		return tag
	}
	return r.Remote.Tag
}

// Container returns what a Put changes: the repository, or the path of a local place.
func (r Reference) Container() string {
	if r.Local() {
		return r.At()
	}
	return r.Remote.Repository
}

// At returns the host of the registry, or the local place without a name. It is the key
// of permits and of counted blobs.
func (r Reference) At() string {
	if r.Local() {
		return local.Place{Form: r.Place.Form, Path: r.Place.Path}.String()
	}
	return r.Remote.Host()
}

// ByDigest returns the reference of a digest in the same repository or place.
func (r Reference) ByDigest(digest v1.Hash) Reference {
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
func (r Reference) ByTag(tag string) Reference {
	if r.Local() {
		repo, _ := CutName(r.Place.Name)
		r.Place.Name, r.Place.Digest = imageref.Parts{Repository: repo, Tag: tag}.String(), v1.Hash{}
		if repo == "" {
			r.Place.Name = tag
		}
		return r
	}
	r.Remote.Tag, r.Remote.Digest = tag, ""
	return r
}

// Cosign returns the reference of one of cosign's tags beside the image. In a local place
// the tag is the whole name: it is made of a digest and so unique.
func (r Reference) Cosign(tag string) Reference {
	if r.Local() {
		r.Place.Name, r.Place.Digest = tag, v1.Hash{}
		return r
	}
	return r.ByTag(tag)
}

// Named returns a local place with this name for the image, unless it has one. A Docker
// archive takes only names with a repository and a tag.
func (r Reference) Named(name string) Reference {
	if repo, tag := CutName(name); r.Place.Name == "" && (!r.Docker() || repo != "" && tag != "") {
		r.Place.Name = name
	}
	return r
}

// CutName splits the name of an image in a local place: a repository and a tag, or a
// tag alone.
func CutName(name string) (repo, tag string) {
	at := imageref.Cut(name)
	if at.Tag == "" && IsTag(name) {
		return "", name
	}
	return at.Repository, at.Tag
}

// Key returns a text that is equal for references of the same target. Names of Docker Hub
// have their full spelling, Docker archives are known by their path, because they hold
// one image, and images without a name by their source.
func (r Reference) Key(source string) string {
	if !r.Local() {
		return r.Remote.Canonical().String()
	}
	at := r.Place
	if at.Path = filepath.Clean(at.Path); r.Docker() {
		return Reference{Place: at}.At()
	}
	if name := imageref.Cut(at.Name); name.Tag != "" {
		at.Name = name.Canonical().String()
	}
	if at.Name == "" {
		return at.String() + " " + source
	}
	return at.String()
}

// tagName matches a tag (distribution-spec, "Pulling manifests").
var tagName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// IsTag reports whether text can be a tag.
func IsTag(text string) bool { return tagName.MatchString(text) }

// HasRepository reports whether a tag also names its repository. A tag alone has no slash or
// colon.
func HasRepository(tag string) bool { return strings.ContainsAny(tag, "/:") }
