package registry

import (
	"errors"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

func TestMediaType(t *testing.T) {
	const (
		index  = `{"schemaVersion":2,"manifests":[]}`
		image  = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`
		dual   = `{"schemaVersion":2,"manifests":[],"layers":[]}`
		schema = `{"schemaVersion":1,"fsLayers":[]}`
	)
	for _, one := range []struct {
		raw, header string
		descriptor  types.MediaType
		want        types.MediaType
		mismatch    bool
	}{
		{raw: index, want: types.OCIImageIndex},
		{raw: index, header: "application/vnd.docker.distribution.manifest.list.v2+json", want: types.DockerManifestList},
		{raw: image, header: "application/vnd.oci.image.manifest.v1+json; charset=utf-8", want: types.OCIManifestSchema1},
		{raw: image, header: "application/vnd.oci.image.index.v1+json", mismatch: true},
		{raw: image, descriptor: types.DockerManifestSchema2, mismatch: true},
		{raw: image, header: "text/html", mismatch: true},
		{raw: image, header: "text/plain; charset=utf-8", want: types.OCIManifestSchema1},
		{raw: index, header: "application/octet-stream", want: types.OCIImageIndex},
		{raw: index, header: "application/json", descriptor: types.OCIManifestSchema1, mismatch: true},
		{raw: dual, header: "application/octet-stream", mismatch: true},
		{raw: index, header: string(types.OCIManifestSchema1), mismatch: true},
		{raw: dual, mismatch: true},
		{raw: "{}", mismatch: true},
		{raw: "<html>", mismatch: true},
		{raw: "", mismatch: true},
		{raw: schema},
		{raw: image, header: string(types.DockerManifestSchema1Signed)},
		{raw: index, descriptor: types.DockerManifestSchema1},
	} {
		got, err := manifest.MediaType([]byte(one.raw), plainType(one.header), one.descriptor)
		if got != one.want || (err == nil) != (one.want != "") || errors.Is(err, manifest.ErrMismatch) != one.mismatch {
			t.Errorf("%s %s %s: %s, %v", one.raw, one.header, one.descriptor, got, err)
		}
	}
}
