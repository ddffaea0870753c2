package main

import (
	"errors"
	"slices"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// invalidManifest gives err, of storing c, the way out if the registry refuses the
// manifest itself (400 MANIFEST_INVALID): one that is old may take no OCI media types, or
// no index. The ways are the flags for that, each "" where it changes nothing.
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
		return &hint.Error{Err: err, Hint: "old registries do not support OCI media types or indexes: try " + docker + ", or " + noIndex}
	case oci && docker != "":
		return &hint.Error{Err: err, Hint: "old registries do not support OCI media types: try " + docker}
	case noIndex != "":
		return &hint.Error{Err: err, Hint: "old registries do not support indexes: try " + noIndex}
	}
	return err
}
