// Package imageref splits the names of images without checking them, for code that
// compares, completes or prints names. The registry client checks a reference before it
// uses it.
package imageref

import "strings"

// Parts is the name of an image in a registry, split into its parts:
// REPOSITORY[:TAG][@DIGEST]. Nothing is checked or completed, so String returns the text
// that [Cut] read. The grammar is that of github.com/distribution/reference.
type Parts struct {
	Repository string // with its host, if there is one
	Tag        string // without the colon
	Digest     string // algorithm and hexadecimal digits, without the @
}

// dockerHub is the host of names that have none.
const dockerHub = "docker.io"

// Cut splits a name. A colon before the last slash begins a port, not a tag.
func Cut(text string) (r Parts) {
	r.Repository, r.Digest, _ = strings.Cut(text, "@")
	if colon := strings.LastIndex(r.Repository, ":"); colon > strings.LastIndex(r.Repository, "/") {
		r.Repository, r.Tag = r.Repository[:colon], r.Repository[colon+1:]
	}
	return r
}

// String returns the reference as one text.
func (r Parts) String() string {
	text := r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// Named reports whether the repository begins with a host. As in Docker, the first
// element is a host if it has a dot or a port, or is localhost; otherwise the name is one
// of Docker Hub.
func (r Parts) Named() bool {
	first, _, ok := strings.Cut(r.Repository, "/")
	return ok && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// Host returns the host of the registry. It is docker.io for Docker Hub in all its
// spellings.
func (r Parts) Host() string {
	first, _, _ := strings.Cut(r.Repository, "/")
	if !r.Named() || first == "index."+dockerHub {
		return dockerHub
	}
	return first
}

// Path returns the repository without its host. An image of Docker Hub without a
// namespace has the path library/NAME. A pattern with wildcards is not completed, since
// it may match a namespace.
func (r Parts) Path() string {
	path := r.Repository
	if r.Named() {
		_, path, _ = strings.Cut(path, "/")
	}
	if r.Host() == dockerHub && path != "" && !strings.ContainsAny(path, "/*?[{") {
		path = "library/" + path
	}
	return path
}

// Canonical returns the one spelling of the same name: docker.io/library/alpine:3.22 for
// alpine:3.22 and for index.docker.io/library/alpine:3.22.
func (r Parts) Canonical() Parts {
	r.Repository = r.Host() + "/" + r.Path()
	return r
}
