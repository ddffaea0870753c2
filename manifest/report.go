package manifest

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A Report says what a reference names and which platforms it runs on. Its JSON
// is stable: docs/inspect.schema.json describes it.
type Report struct {
	Ref          string            `json:"ref"`
	Digest       v1.Hash           `json:"digest"`
	MediaType    types.MediaType   `json:"mediaType"`
	Index        bool              `json:"index"`                  // several images behind one name
	ArtifactType string            `json:"artifactType,omitempty"` // of the index, or of what is no image and runs nowhere
	Subject      *v1.Hash          `json:"subject,omitempty"`      // of the index: the digest that it refers to
	Annotations  map[string]string `json:"annotations,omitempty"`
	Notes        []string          `json:"notes,omitempty"` // of the whole, as those of a Runnable
	Platforms    []Runnable        `json:"platforms"`       // in the order of the index
	Others       []Other           `json:"others,omitempty"`
}

// A Runnable is an image of a [Report].
type Runnable struct {
	// Platform is spelled as platform.Key does; "" when nothing says which.
	Platform string `json:"platform"`
	// FromConfig is set when the index does not say the platform and the image's
	// config does.
	FromConfig bool `json:"fromConfig,omitempty"`
	// Written is the platform as it is written, where the field spells it otherwise:
	// linux/x86_64. Some runtimes do not find such an image.
	Written string          `json:"written,omitempty"`
	Digest  v1.Hash         `json:"digest"`
	Type    types.MediaType `json:"mediaType"`
	// Size is what the manifest, the config and the layers weigh as they travel,
	// in bytes; 0 when nobody asked.
	Size int64 `json:"size,omitempty"`
	// Within is the nested index that lists the image.
	Within *v1.Hash `json:"within,omitempty"`
	// Notes say what there is about the image: "attested" for attestations that
	// were not looked at; otherwise "sbom", "provenance", "signed", and the types
	// of further referrers.
	Notes []string `json:"notes,omitempty"`
	// Double is what tells the image from the others of its platform, where there are any:
	// its media type, its annotations in the index. The first of them is taken where one is
	// needed.
	Double      string            `json:"double,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // in the index
	Image       *Detail           `json:"image,omitempty"`
}

// An Other is an entry of an index that is neither an image nor an attestation of
// one.
type Other struct {
	Digest       v1.Hash         `json:"digest"`
	Type         types.MediaType `json:"mediaType"`
	ArtifactType string          `json:"artifactType,omitempty"`
}

// A Detail is what config and manifest say of an image.
type Detail struct {
	Created     *time.Time        `json:"created,omitempty"`
	User        string            `json:"user,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Cmd         []string          `json:"cmd,omitempty"`
	Env         []string          `json:"env,omitempty"`
	Ports       []string          `json:"ports,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	StopSignal  string            `json:"stopSignal,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // in the manifest
	BaseName    string            `json:"baseName,omitempty"`    // as the annotations of the manifest say
	BaseDigest  string            `json:"baseDigest,omitempty"`
	Layers      []Layer           `json:"layers"`
}

// A Layer is one of an image.
type Layer struct {
	Digest v1.Hash         `json:"digest"`
	Type   types.MediaType `json:"mediaType"`
	Size   int64           `json:"size"`
}
