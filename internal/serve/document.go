package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestType is the form of the media types that the registry accepts for manifests. A
// browser neither shows nor runs content of such a type.
var manifestType = regexp.MustCompile(`^application/[a-z0-9][a-z0-9!#$&^_.+-]*\+json$`)

// maxMediaType bounds a media type in bytes. The first line of a manifest's file is read
// with this bound.
const maxMediaType = 255

// A document is what the registry interprets of a manifest. All other keys are stored as
// they are.
type document struct {
	mediaType    string
	artifactType string // artifactType, else the media type of the config ("Listing Referrers")
	annotations  map[string]string
	subject      digest.Digest // "" for none

	// The parts are content that must exist before the manifest is stored.
	blobs    []ocispec.Descriptor // config, layers and blobs
	children []ocispec.Descriptor // of an index; manifests, or blobs if isManifest does not know the type
}

// isManifest reports whether content of a media type is known to be a manifest.
func isManifest(mediaType string) bool {
	t := types.MediaType(mediaType)
	return t.IsImage() || t.IsIndex()
}

// keys are the keys of a manifest that the registry interprets. Another spelling of one
// of them is refused, because encoding/json ignores case and other parsers do not.
var keys = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject", "annotations", "fsLayers"}

// parseDocument reads a manifest. claimed is the Content-Type of the request, or "". It
// refuses a document that two parsers could interpret differently: one that is both an
// image and an index, a key that occurs twice or in another case, a media type other than
// the claimed one. Otherwise two clients could see different content under one digest
// (image-spec, media-types.md, "Media Type Conflicts").
//
// It checks the form only. Whether the parts exist is checked by [Store.missing].
func parseDocument(raw []byte, claimed string) (*document, error) {
	values, err := topLevel(raw)
	if err != nil {
		return nil, err
	}
	var m struct {
		version   int
		manifests []ocispec.Descriptor
		layers    []ocispec.Descriptor
		blobs     []ocispec.Descriptor
		config    *ocispec.Descriptor
		subject   *ocispec.Descriptor
	}
	doc := &document{}
	// Only values of the right type are accepted; a key that is missing leaves the zero
	// value.
	for key, into := range map[string]any{
		"schemaVersion": &m.version, "mediaType": &doc.mediaType, "artifactType": &doc.artifactType, "annotations": &doc.annotations,
		"manifests": &m.manifests, "layers": &m.layers, "blobs": &m.blobs, "config": &m.config, "subject": &m.subject,
	} {
		if value, ok := values[key]; ok {
			if err := json.Unmarshal(value, into); err != nil {
				return nil, manifestInvalid("%s: the value does not have the right type", key)
			}
		}
	}
	if doc.mediaType, err = settleMediaType(doc.mediaType, claimed, values); err != nil {
		return nil, err
	}
	// An artifact manifest (blobs) is neither; only its media type tells what it is.
	image, index := values["config"] != nil || values["layers"] != nil, values["manifests"] != nil
	kind := types.MediaType(doc.mediaType)
	switch {
	case image && index || values["fsLayers"] != nil:
		return nil, manifestInvalid("the document is both an image and an index, or has fsLayers")
	case kind.IsImage() && m.config == nil:
		return nil, manifestInvalid("an image manifest without config")
	case kind.IsIndex() && !index:
		return nil, manifestInvalid("an index without manifests")
	case kind.IsImage() && index || kind.IsIndex() && image:
		return nil, manifestInvalid("the document is not %s", doc.mediaType)
	case (kind.IsImage() || kind.IsIndex()) && m.version != 2:
		return nil, manifestInvalid("schemaVersion is %d, not 2", m.version)
	}
	if doc.artifactType == "" && m.config != nil {
		doc.artifactType = m.config.MediaType
	}
	if m.subject != nil {
		if err := checkDescriptor(*m.subject); err != nil {
			return nil, err
		}
		doc.subject = m.subject.Digest
	}
	if m.config != nil {
		config := *m.config
		config.URLs = nil // a config must exist even if it has URLs
		doc.blobs = append(doc.blobs, config)
	}
	if doc.blobs, err = required(slices.Concat(doc.blobs, m.layers, m.blobs)); err != nil {
		return nil, err
	}
	if doc.children, err = required(m.manifests); err != nil {
		return nil, err
	}
	return doc, nil
}

// required checks all descriptors and returns those whose content must exist. A
// descriptor with URLs need not exist: a foreign layer is stored elsewhere.
func required(all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var wanted []ocispec.Descriptor
	for _, d := range all {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
		if len(d.URLs) == 0 {
			wanted = append(wanted, d)
		}
	}
	return wanted, nil
}

// checkDescriptor requires a supported digest and a size that is not negative.
func checkDescriptor(d ocispec.Descriptor) error {
	if _, err := parseDigest(d.Digest.String()); err != nil || d.Size < 0 {
		return manifestInvalid("the descriptor of %.200q is not valid", d.Digest)
	}
	return nil
}

// settleMediaType returns the media type on which the document and the request agree.
// Without mediaType in the document a known type of the request counts; without both the
// keys decide between an OCI index and an OCI image.
func settleMediaType(embedded, claimed string, values map[string]json.RawMessage) (string, error) {
	if claimed != "" {
		t, _, err := mime.ParseMediaType(claimed)
		if err != nil {
			return "", manifestInvalid("%.200q is not a media type", claimed)
		}
		claimed = t
	}
	settled := embedded
	switch known := types.MediaType(claimed); {
	case embedded != "" && claimed != "" && !strings.EqualFold(embedded, claimed):
		return "", manifestInvalid("the media type is %.200q by the header and %.200q by the document", claimed, embedded)
	case embedded == "" && (known.IsImage() || known.IsIndex()):
		settled = claimed
	case embedded == "" && claimed == "" && values["manifests"] != nil:
		settled = ocispec.MediaTypeImageIndex
	case embedded == "" && claimed == "" && values["config"] != nil:
		settled = ocispec.MediaTypeImageManifest
	}
	if len(settled) >= maxMediaType || !manifestType.MatchString(settled) {
		return "", manifestInvalid("%.200q is not the media type of a manifest", settled)
	}
	return settled, nil
}

// topLevel returns the members of a JSON object whose value is not null. Anything after
// the object is refused.
func topLevel(raw []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, manifestInvalid("the manifest is not a JSON object")
	}
	values, err := members(decoder)
	if err != nil {
		return nil, err
	}
	if end, err := decoder.Token(); err != nil || end != json.Delim('}') {
		return nil, manifestInvalid("the manifest is cut off")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, manifestInvalid("the manifest is not one JSON object")
	}
	return values, nil
}

// members reads the members of an object up to its end.
func members(decoder *json.Decoder) (map[string]json.RawMessage, error) {
	values, seen := map[string]json.RawMessage{}, map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, manifestInvalid("the manifest is not valid JSON")
		}
		name := fmt.Sprint(key)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, manifestInvalid("the manifest is not valid JSON")
		}
		for _, known := range keys {
			if strings.EqualFold(name, known) && name != known {
				return nil, manifestInvalid("the key %.50q is %q in another case", name, known)
			}
		}
		if seen[name] {
			return nil, manifestInvalid("the key %.50q appears twice", name)
		}
		seen[name] = true
		if string(value) != "null" {
			values[name] = value
		}
	}
	return values, nil
}
