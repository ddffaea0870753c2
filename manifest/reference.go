package manifest

import "strings"

// A Reference is the name of an image in a registry, taken apart:
// REPOSITORY[:TAG][@DIGEST]. Nothing in it is checked or completed, so that String
// gives back what [CutReference] read.
type Reference struct {
	Repository string // with its host, if that was written
	Tag        string // without its colon
	Digest     string // algorithm and hexadecimal digits, without the @
}

// dockerHub is the host of images that name none.
const dockerHub = "docker.io"

// CutReference takes a name apart. The port of a host is no tag.
func CutReference(text string) (r Reference) {
	r.Repository, r.Digest, _ = strings.Cut(text, "@")
	if colon := strings.LastIndex(r.Repository, ":"); colon > strings.LastIndex(r.Repository, "/") {
		r.Repository, r.Tag = r.Repository[:colon], r.Repository[colon+1:]
	}
	return r
}

func (r Reference) String() string {
	text := r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// Named reports whether the repository has a host, rather than being one of Docker
// Hub's short forms. As in Docker, a host has a dot or a port, or is localhost.
func (r Reference) Named() bool {
	first, _, ok := strings.Cut(r.Repository, "/")
	return ok && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// Host is the registry. Docker Hub, by whatever name or none, is docker.io.
func (r Reference) Host() string {
	first, _, _ := strings.Cut(r.Repository, "/")
	if !r.Named() || first == "index."+dockerHub {
		return dockerHub
	}
	return first
}

// Path is the repository without its host. Docker's own images on Docker Hub have the
// path library/NAME however they are written; a pattern of names is not completed.
func (r Reference) Path() string {
	path := r.Repository
	if r.Named() {
		_, path, _ = strings.Cut(path, "/")
	}
	if r.Host() == dockerHub && path != "" && !strings.ContainsAny(path, "/*?[{") {
		path = "library/" + path
	}
	return path
}

// Canonical is the same name in its one spelling: docker.io/library/alpine:3.22 for
// alpine:3.22 and for index.docker.io/library/alpine:3.22.
func (r Reference) Canonical() Reference {
	r.Repository = r.Host() + "/" + r.Path()
	return r
}
