package main

import (
	"errors"
	"slices"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A wayOut adds a hint with flags to an error of a library, which has no flags.
type wayOut struct {
	error
	way string
}

// Unwrap returns the library's error, which gives the exit code.
func (w wayOut) Unwrap() error { return w.error }

// Hint returns the flags to try.
func (w wayOut) Hint() string { return w.way }

// invalidManifest adds a hint to err, the error of storing c, if the registry rejects the
// manifest itself (MANIFEST_INVALID in distribution-spec, "Error Codes"). An old registry
// may support no OCI media types or no indexes. docker and noIndex are the flags that
// avoid these, "" if there is none or it would change nothing.
func invalidManifest(err error, c manifest.Content, docker, noIndex string) error {
	var r *registry.Error
	if !errors.As(err, &r) || !r.InvalidManifest() {
		return err
	}
	mediaType, unknown := c.MediaType()
	if unknown != nil {
		return err
	}
	oci := slices.Contains([]string{"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"}, string(mediaType))
	switch {
	case oci && docker != "" && noIndex != "":
		return wayOut{err, "old registries do not support OCI media types or indexes: try " + docker + ", or " + noIndex}
	case oci && docker != "":
		return wayOut{err, "old registries do not support OCI media types: try " + docker}
	case noIndex != "":
		return wayOut{err, "old registries do not support indexes: try " + noIndex}
	}
	return err
}
