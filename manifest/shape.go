package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// MediaType returns the media type of a manifest. The document and all claims about it
// must agree: the Content-Type header and the descriptor that led to it. Each may be
// empty. If all are, the fields of the document decide. A document that can be read both
// as an image and as an index is refused (CVE-2021-41190), since two tools could see
// different content under one digest. So is one that is neither ([ErrMismatch]). Schema 1
// is [ErrObsolete].
func MediaType(raw []byte, claims ...types.MediaType) (types.MediaType, error) {
	var shape struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &shape); err != nil {
		return "", fmt.Errorf("not a manifest: %w: %w", err, ErrMismatch)
	}
	found := shape.MediaType
	for _, claim := range claims {
		switch {
		case claim.IsSchema1():
			return "", ErrObsolete
		case found == "":
			found = claim
		}
	}
	index, image := shape.Manifests != nil, shape.Config != nil || shape.Layers != nil
	switch {
	case shape.SchemaVersion == 1 || found.IsSchema1():
		return "", ErrObsolete
	case index && image || shape.FSLayers != nil:
		return "", fmt.Errorf("a manifest that is both an image and an index: %w", ErrMismatch)
	case !index && !image:
		return "", fmt.Errorf("neither an image nor an index: %w", ErrMismatch)
	}
	if err := errors.Join(CheckEntries(shape.Manifests), CheckEntries(shape.Layers)); err != nil {
		return "", err
	}
	for _, claim := range claims {
		if claim != "" && claim != found {
			return "", fmt.Errorf("media type %.100q against %.100q: %w", claim, found, ErrMismatch)
		}
	}
	if found == "" {
		if found = types.OCIManifestSchema1; index {
			found = types.OCIImageIndex
		}
	}
	if index && !found.IsIndex() || image && !found.IsImage() {
		return "", fmt.Errorf("media type %.100q does not fit the document: %w", found, ErrMismatch)
	}
	return found, nil
}

// DockerLayerZStd is the media type that some tools give to zstd layers in Docker
// manifests. Docker defines none.
const DockerLayerZStd types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// External reports whether a layer is not distributable and names the URLs to fetch it
// from (image-spec, layer.md, "Non-Distributable Layers"). Such a layer is not copied
// with its image. One without URLs is copied, since it could not be found otherwise.
func External(layer v1.Descriptor) bool {
	return !layer.MediaType.IsDistributable() && len(layer.URLs) > 0
}

// opaque is content that is neither an image nor an index.
type opaque struct {
	descriptor v1.Descriptor
	raw        []byte
}

// Uninterpreted returns the content of a child whose media type is unknown. A document
// that is an image or an index nevertheless is passed to open, so that what it names is
// copied with it. Anything else is neither a [v1.Image] nor a [v1.ImageIndex], and its
// RawManifest returns raw.
func Uninterpreted(d v1.Descriptor, raw []byte, open func(v1.Descriptor) (Content, error)) (Content, error) {
	found, err := MediaType(raw)
	if err != nil {
		return opaque{d, raw}, nil //nolint:nilerr // what does not parse is the content
	}
	d.MediaType = found
	return open(d)
}

func (o opaque) MediaType() (types.MediaType, error) { return o.descriptor.MediaType, nil }
func (o opaque) Digest() (v1.Hash, error)            { return o.descriptor.Digest, nil }
func (o opaque) Size() (int64, error)                { return int64(len(o.raw)), nil }
func (o opaque) RawManifest() ([]byte, error)        { return slices.Clone(o.raw), nil }

// CheckEntries refuses a list of a manifest, its children or its layers, with more than
// 10,000 entries ([ErrMismatch]). It must be called before the list is parsed: a small
// document can have millions of entries of two bytes, and each takes a hundred times as
// much memory when it is parsed. It holds one entry at a time. Anything that is not a
// list passes and is left to the parser, whose error says more.
func CheckEntries(list json.RawMessage) error {
	in := json.NewDecoder(bytes.NewReader(list))
	if start, err := in.Token(); err != nil || start != json.Delim('[') {
		return nil // the parser reports it
	}
	var entry json.RawMessage
	for n := 0; in.More(); n++ {
		if n == maxEntries {
			return fmt.Errorf("a list of more than %d entries: %w", maxEntries, ErrMismatch)
		}
		if in.Decode(&entry) != nil {
			return nil // the parser reports it
		}
	}
	return nil
}
