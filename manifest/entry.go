package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Kind says what an entry of an index is.
type Kind int

// The kinds of entries. An unread entry is an image or an artifact: its descriptor does
// not say which, it has no complete platform, or another entry has the same platform.
const (
	KindUnknown     Kind = iota // neither an image nor an index by its media type
	KindUnread                  // see Entry.Read
	KindImage                   // runs on Entry.Platform
	KindArtifact                // has no platform (image-spec, manifest.md, artifact usage)
	KindAttestation             // describes another entry
	KindIndex                   // an index within the index
)

// An Entry is an entry of an index, or an image by itself.
type Entry struct {
	Descriptor v1.Descriptor
	Kind       Kind
	// Platform is the platform of an image in normal form. If it is incomplete (see
	// Placed), neither the descriptor nor the config completes it.
	Platform ocispec.Platform
	// Config is the platform of the config as it is written there. It is zero if the
	// config was not read, which is the case if the descriptor has a complete platform.
	Config ocispec.Platform
	// Written is the platform as the index or config has it, if its spelling is not
	// canonical: linux/x86_64. It is "" otherwise.
	Written string
	// Type is the artifact type of an artifact.
	Type string
	// Subject is the digest of the entry that an attestation describes, as it is written.
	Subject string
	// Within is the nested index that lists the entry; nil for an entry of the first
	// index.
	Within *v1.Hash

	open func() (Content, error)
}

// Identify decides what d describes and for which platform, as an entry of an index or by
// itself. All code that lists, chooses, edits or copies images uses it.
//
//   - An attestation has BuildKit's annotation or the platform unknown/unknown.
//   - An artifactType that is not the media type of an image's config makes an artifact,
//     even if the descriptor has a platform.
//   - An index, and an entry that is neither image nor index, is known by its media type.
//   - A complete platform of the descriptor is taken as it is. Otherwise the config fills
//     in the missing fields, unless it contradicts the others. An empty field contradicts
//     nothing.
//
// img is the manifest that d describes. If it is nil, nothing is read, and an entry whose
// descriptor does not suffice is [KindUnread].
func Identify(d v1.Descriptor, img v1.Image) (Entry, error) {
	e := Entry{Descriptor: d, Platform: platform.FromV1(d.Platform)}
	switch {
	case isAttestation(d):
		e.Kind, e.Subject = KindAttestation, d.Annotations[annotationReferenceDigest]
	case d.ArtifactType != "" && !isImageConfig(types.MediaType(d.ArtifactType)):
		e.Kind, e.Type = KindArtifact, d.ArtifactType
	case d.MediaType.IsIndex():
		e.Kind = KindIndex
	// Older tools omit the media type of an image.
	case !d.MediaType.IsImage() && (d.MediaType != "" || !e.Placed()):
		e.Kind = KindUnknown
	case img != nil:
		return e.withManifest(img)
	case e.Placed():
		e.Kind = KindImage
		e.setWritten(asWritten(d.Platform))
	default:
		e.Kind = KindUnread
	}
	return e, nil
}

// withManifest completes e from its manifest. It reads the config only if the descriptor
// has no complete platform, which saves a request for each image.
func (e Entry) withManifest(img v1.Image) (Entry, error) {
	m, err := img.Manifest()
	if err != nil {
		return e, err
	}
	if e.Type, err = artifactType(img, m); err != nil {
		return e, err
	}
	if e.Type != "" {
		e.Kind = KindArtifact
		return e, nil
	}
	e.Kind = KindImage
	settled := asWritten(e.Descriptor.Platform)
	if !e.Placed() {
		config, err := img.ConfigFile()
		if err != nil {
			return e, fmt.Errorf("config of %s: %w", e.Descriptor.Digest, err)
		}
		e.Config = asConfigured(config)
		// A platform that contradicts the config stays incomplete.
		if _, agree := reconcile(settled, e.Config); agree {
			complete(&settled, e.Config)
			e.Platform = platform.Normalize(settled)
		}
	}
	e.setWritten(settled)
	return e, nil
}

// setWritten sets Written for a complete platform.
func (e *Entry) setWritten(written ocispec.Platform) {
	if e.Placed() {
		e.Written = platform.Written(written)
	}
}

// Placed reports whether the platform of e is complete: it has an OS and an architecture.
func (e *Entry) Placed() bool { return e.Platform.OS != "" && e.Platform.Architecture != "" }

// fromConfig reports whether the descriptor of e has no complete platform, so that the
// platform of e comes from its config.
func (e *Entry) fromConfig() bool {
	p := e.Descriptor.Platform
	return p == nil || p.OS == "" || p.Architecture == ""
}

// Open reads what e describes. It may be called more than once.
func (e *Entry) Open() (Content, error) { return e.open() }

// Image reads what e describes. It is [ErrMismatch] if that is not an image.
func (e *Entry) Image() (v1.Image, error) {
	c, err := e.open()
	if err != nil {
		return nil, err
	}
	img, ok := c.(v1.Image)
	if !ok {
		return nil, fmt.Errorf("%s is not an image: %w", e.Descriptor.Digest, ErrMismatch)
	}
	return img, nil
}

// Check compares img, the image that e describes, with the descriptor of e, and returns
// its config. An artifact, and a config for another platform, are [ErrMismatch]. An empty
// field contradicts nothing, and os.features are not compared, because few configs have
// them. A program must not be put onto a base for another platform, so a build calls
// Check before it uses an image.
func (e *Entry) Check(img v1.Image) (*v1.ConfigFile, error) {
	if err := e.isImage(img); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	declared, claimed := asWritten(e.Descriptor.Platform), asConfigured(config)
	declared.OSFeatures, claimed.OSFeatures = nil, nil
	if _, agree := reconcile(declared, claimed); !agree {
		return nil, fmt.Errorf("%w: the index gives %s the platform %s, but its config says %s", ErrMismatch, e.Descriptor.Digest, platform.Key(declared), platform.Key(claimed))
	}
	return config, nil
}

// isImage returns [ErrMismatch] if img is an artifact that the index lists as an image.
func (e *Entry) isImage(img v1.Image) error {
	is, err := Identify(e.Descriptor, img)
	if err == nil && is.Kind != KindImage {
		err = fmt.Errorf("%w: the index gives %s the platform %s, but it is an artifact (%s)", ErrMismatch, e.Descriptor.Digest, platform.Key(e.Platform), is.Type)
	}
	return err
}

// Module reports whether e is a WebAssembly module, whose layers make no file system. It
// reads a manifest only if the architecture is wasm.
func (e *Entry) Module() (bool, error) {
	if e.Kind != KindImage || e.Platform.Architecture != "wasm" {
		return false, nil
	}
	_, m, err := e.manifest()
	return err == nil && m.Config.MediaType == wasmConfig, err
}

// Read decides what an unread entry is, an image or an artifact. It reads the manifest,
// and the config if the descriptor has no complete platform. An entry that does not exist
// is an image if its descriptor has a platform; otherwise the error is [ErrNotFound].
// Read is not safe for concurrent use on one Entry.
func (e *Entry) Read() error {
	if e.Kind != KindUnread {
		return nil
	}
	img, err := e.Image()
	if errors.Is(err, ErrNotFound) && e.Placed() {
		e.Kind = KindImage
		return nil
	}
	if err != nil {
		return err
	}
	read, err := Identify(e.Descriptor, img)
	if err != nil {
		return err
	}
	read.Within, read.open = e.Within, func() (Content, error) { return img, nil }
	*e = read
	return nil
}

// Entries lists the entries of idx in its order. A nested index is replaced by its
// entries, once for each index, as [Walk] visits them. Nothing but indexes is read: an
// entry whose descriptor does not suffice is [KindUnread]. So are images of one platform
// with different digests, since one of them may be an artifact that has the platform of
// its image. More than 10,000 entries are [ErrMismatch].
func Entries(idx v1.ImageIndex) ([]Entry, error) {
	var entries []Entry
	err := Walk(idx, nil, func(n Node) error {
		if n.Descriptor.MediaType.IsIndex() {
			return nil // its entries take its place
		}
		if len(entries) == maxEntries {
			return fmt.Errorf("an index of more than %d entries: %w", maxEntries, ErrMismatch)
		}
		e, err := Identify(n.Descriptor, nil)
		e.Within, e.open = n.Within, n.Open
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	first := map[string]int{}
	for i, e := range entries {
		if e.Kind != KindImage {
			continue
		}
		at, twice := first[platform.Key(e.Platform)]
		if !twice {
			first[platform.Key(e.Platform)] = i
		} else if entries[at].Descriptor.Digest != e.Descriptor.Digest {
			entries[at].Kind, entries[i].Kind = KindUnread, KindUnread
		}
	}
	return entries, nil
}

// Identified is [Entries] of an index with each unread entry read, or the one entry of an
// image. An entry that does not exist counts as an image, possibly without a platform: an
// index may list images that a registry no longer has.
func Identified(c Content) ([]Entry, error) {
	switch c := c.(type) {
	case v1.ImageIndex:
		entries, err := Entries(c)
		if err != nil {
			return nil, err
		}
		return entries, each(entries, func(e *Entry) error {
			err := e.Read()
			if errors.Is(err, ErrNotFound) {
				e.Kind, err = KindImage, nil
			}
			return err
		})
	case v1.Image:
		d, err := Describe(c)
		if err != nil {
			return nil, err
		}
		e, err := Identify(d, c)
		e.open = func() (Content, error) { return c, nil }
		return []Entry{e}, err
	}
	return nil, fmt.Errorf("neither an image nor an index: %T", c)
}

// each calls do for each element, up to maxAtOnce at once, and returns all errors joined.
// A panic becomes an error. It returns when all calls have ended.
func each[T any](all []T, do func(*T) error) error {
	errs := make([]error, len(all))
	permits := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i := range all {
		permits <- struct{}{}
		wg.Go(func() {
			defer func() { <-permits }()
			errs[i] = guard.Do(func() error { return do(&all[i]) })
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wasmConfig is the media type of the config of a WebAssembly module in the layout of the
// CNCF's WASM OCI artifact. It has os and architecture like the config of an image, and
// runtimes run it, so it counts as an image.
const wasmConfig types.MediaType = "application/vnd.wasm.config.v0+json"

// isImageConfig reports whether t is the media type of an image's config. Some tools
// write it as the artifactType of an image, which does not make the image an artifact.
func isImageConfig(t types.MediaType) bool { return t.IsConfig() || t == wasmConfig }

// artifactType returns the type of an artifact that has the manifest of an image, or ""
// for an image (image-spec, manifest.md, "Guidelines for Artifact Usage"). The
// artifactType comes first, then the media type of the config, then the layers:
// BuildKit's attestations have the config of an image.
func artifactType(img v1.Image, m *v1.Manifest) (string, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return "", err
	}
	var claim struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := json.Unmarshal(raw, &claim); err != nil {
		return "", fmt.Errorf("%w: %w", err, ErrMismatch)
	}
	config := m.Config.MediaType
	switch {
	case claim.ArtifactType != "" && !isImageConfig(types.MediaType(claim.ArtifactType)):
		return claim.ArtifactType, nil
	case !isImageConfig(config) && config != "" && config != "application/octet-stream":
		return string(config), nil
	case len(m.Layers) > 0 && m.Layers[0].MediaType == inTotoLayer:
		return inTotoLayer, nil
	}
	return "", nil
}

// asConfigured returns the platform of a config as it is written.
func asConfigured(c *v1.ConfigFile) ocispec.Platform {
	return ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures}
}

// asWritten converts a platform without normalising it.
func asWritten(p *v1.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// ChildOf reads the child of idx that d describes: an image or an index, or anything else
// by the method Other of idx, which every index of this package has.
func ChildOf(idx v1.ImageIndex, d v1.Descriptor) (Content, error) {
	switch {
	case d.MediaType.IsIndex():
		return idx.ImageIndex(d.Digest)
	case d.MediaType.IsImage() || d.MediaType == "" && d.Platform != nil:
		return idx.Image(d.Digest)
	}
	if holder, ok := idx.(interface {
		Other(v1.Hash) (Content, error)
	}); ok {
		return holder.Other(d.Digest)
	}
	return nil, fmt.Errorf("%s: media type %.100q cannot be read", d.Digest, d.MediaType)
}
