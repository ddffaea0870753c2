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

// The kinds of entries. An unread entry is an image or an artifact: its descriptor
// does not tell which, or names no platform, or the platform of another entry.
const (
	KindUnknown     Kind = iota // a media type that is neither an image's nor an index's
	KindUnread                  // see Entry.Read
	KindImage                   // runs on Entry.Platform
	KindArtifact                // runs nowhere
	KindAttestation             // describes another entry
	KindIndex                   // an index within the index
)

// An Entry is what an index lists, or an image by itself.
type Entry struct {
	Descriptor v1.Descriptor
	Kind       Kind
	// Platform is what an image runs on, in normal form. Where it is not whole (see
	// Placed), neither the index nor the config says more.
	Platform ocispec.Platform
	// Config is the platform that the config names, as it is written there; zero where
	// the config was not needed.
	Config ocispec.Platform
	// Written is the platform as it is written, where that is not how the field spells
	// it: linux/x86_64.
	Written string
	// Type is the type of an artifact.
	Type string
	// Within is the nested index that lists the entry.
	Within *v1.Hash

	open func() (Content, error)
}

// Identify says what d describes and which platform it is for, as an entry of an index
// or by itself. It is the one answer to that question: everything that lists, chooses,
// edits or copies images has it from here.
//
//   - An attestation is one by its annotations, or by the platform unknown/unknown.
//   - An artifactType that is not the type of an image's config makes an artifact,
//     whatever else the entry says.
//   - An index is known by its media type, and so is what is neither image nor index.
//   - A whole platform of the descriptor stands. One that is missing or half empty is
//     completed by the config; a field that is empty contradicts nothing.
//
// img is the manifest that d describes; nil is an image that was not read, and then what
// d does not tell is [KindUnread].
func Identify(d v1.Descriptor, img v1.Image) (Entry, error) {
	e := Entry{Descriptor: d, Platform: platform.FromV1(d.Platform)}
	switch {
	case IsAttestation(d):
		e.Kind = KindAttestation
	case d.ArtifactType != "" && !isImageConfig(types.MediaType(d.ArtifactType)):
		e.Kind, e.Type = KindArtifact, d.ArtifactType
	case d.MediaType.IsIndex():
		e.Kind = KindIndex
	case !d.MediaType.IsImage() && (d.MediaType != "" || !e.Placed()): // older tools left the type out
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

// withManifest completes e with what its manifest says, and its config where the
// descriptor has no whole platform.
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
		if _, agree := platform.Reconcile(settled, e.Config); agree { // else it stays half empty
			platform.Complete(&settled, e.Config)
			e.Platform = platform.Normalize(settled)
		}
	}
	e.setWritten(settled)
	return e, nil
}

// setWritten keeps how a platform is written.
func (e *Entry) setWritten(written ocispec.Platform) {
	if e.Placed() && !platform.Canonical(written) {
		e.Written = platform.Text(written)
	}
}

// Placed reports whether the platform of e is whole.
func (e *Entry) Placed() bool { return e.Platform.OS != "" && e.Platform.Architecture != "" }

// FromConfig reports whether the platform of e is known by its config alone.
func (e *Entry) FromConfig() bool {
	p := e.Descriptor.Platform
	return p == nil || p.OS == "" || p.Architecture == ""
}

// Open reads what e describes.
func (e *Entry) Open() (Content, error) { return e.open() }

// Image reads what e describes, which must be an image.
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

// Check holds img, which e describes, against that, and returns its config. An artifact,
// and a config that names another platform, are [ErrMismatch]; a field that one of them
// leaves empty contradicts nothing, nor do features.
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
	if _, agree := platform.Reconcile(declared, claimed); !agree {
		return nil, fmt.Errorf("%w: the index gives %s the platform %s, but its config says %s", ErrMismatch, e.Descriptor.Digest, platform.Key(declared), platform.Key(claimed))
	}
	return config, nil
}

// isImage refuses an artifact that the index calls an image ([ErrMismatch]).
func (e *Entry) isImage(img v1.Image) error {
	is, err := Identify(e.Descriptor, img)
	if err == nil && is.Kind != KindImage {
		err = fmt.Errorf("%w: the index gives %s the platform %s, but it is an artifact (%s)", ErrMismatch, e.Descriptor.Digest, platform.Key(e.Platform), is.Type)
	}
	return err
}

// Module reports whether e is a WebAssembly module, whose layers make no file system.
// It costs the manifest of what runs on wasm, and nothing else.
func (e *Entry) Module() (bool, error) {
	if e.Kind != KindImage || e.Platform.Architecture != "wasm" {
		return false, nil
	}
	_, m, err := e.manifest()
	return err == nil && m.Config.MediaType == wasmConfig, err
}

// Read tells what an unread entry is: an image or an artifact. It costs the manifest,
// and the config where the descriptor has no whole platform. One that does not exist
// is what its descriptor says, if that names a platform.
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

// Entries lists what idx holds, in its order. In the place of an index within it are the
// entries of that index, as [Walk] reaches them, those of each index once. Nothing else is
// read: what a descriptor does not tell is [KindUnread]. So are images that have one
// platform: an artifact may be among them. More than 10,000 entries are [ErrMismatch].
func Entries(idx v1.ImageIndex) ([]Entry, error) {
	var entries []Entry
	err := Walk(idx, func(n Node) error {
		if n.Descriptor.MediaType.IsIndex() {
			return nil // its entries stand for it
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

// Identified lists what c holds, an index or an image by itself, as [Entries] does, with
// each unread entry read. One that does not exist is an image of which no more is known.
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

// each does something to all, several at once, and joins what went wrong.
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

// wasmConfig is the type of the config of a WebAssembly module as the CNCF's layout has
// it. It names os and architecture like that of any image, and runtimes run it.
const wasmConfig types.MediaType = "application/vnd.wasm.config.v0+json"

// isImageConfig reports whether t is the type of the config of an image. Some tools
// write it where the type of an artifact belongs.
func isImageConfig(t types.MediaType) bool { return t.IsConfig() || t == wasmConfig }

// artifactType returns the type of what has the manifest of an image and is an artifact,
// "" for an image (image-spec, manifest.md, "Guidelines for artifact usage").
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

// asConfigured returns the platform that a config names, as it is written.
func asConfigured(c *v1.ConfigFile) ocispec.Platform {
	return ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures}
}

// asWritten converts a platform without bringing it into normal form.
func asWritten(p *v1.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// ChildOf reads the child of idx that d describes: an image, an index, or by the method
// Other of idx what is neither.
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
