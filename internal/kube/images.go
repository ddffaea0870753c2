package kube

import (
	"context"
	"errors"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// Runs reports whether an image with these platforms runs on a node. The label of an arm
// node does not say its variant, so any variant up to v7 counts.
func Runs(have []ocispec.Platform, n *Node) bool {
	_, ok := platform.Choose(n.Platform, have)
	return ok
}

// Images looks images up, each reference once. It is safe for concurrent use.
type Images struct {
	Source manifest.Source
	// Fresh reads children of indexes. It must not answer from a cache, which does not know
	// what a registry has lost; nil means Source.
	Fresh manifest.Source
	// Offline answers only what [Images.Know] was told.
	Offline bool
	// Records remember for a day that a child was there; nil remembers nothing.
	Records *cache.Cache

	images   once.Memo[string, *Image]
	children once.Memo[string, []v1.Hash]
}

// An Image is what a reference names, and its platforms. Attestations are left out.
type Image struct {
	*manifest.Report
	Have []ocispec.Platform // of the elements of Report.Platforms
}

// Get reads what ref names: one request for an index, or two for a single image, whose
// platform stands in its config.
func (i *Images) Get(ctx context.Context, ref string) (*Image, error) {
	return i.images.Do(ctx, ref, func() (image *Image, err error) {
		if i.Offline {
			return nil, errors.New("not looked up")
		}
		err = guard.Do(func() error {
			report, err := manifest.Inspect(ctx, i.Source, ref, manifest.InspectOptions{})
			if err != nil {
				return err
			}
			image = &Image{Report: report}
			for _, one := range report.Platforms {
				// A platform that cannot be parsed runs on no node that is known here.
				p, _ := platform.Parse(one.Platform)
				image.Have = append(image.Have, p)
			}
			return nil
		})
		return image, err
	})
}

// A childRecord says that a repository had a child of an index.
type childRecord struct {
	Seen   time.Time `json:"seen"`
	Layers []v1.Hash `json:"layers"`
}

const (
	childRecords = "children"
	believed     = 24 * time.Hour // how long a childRecord is used
)

// Layers reads a child of an index and returns the digests of its layers: one request, or
// none if the repository had the child within the last day. A child that the registry does
// not have is [manifest.ErrNotFound].
func (i *Images) Layers(ctx context.Context, ref string, child v1.Hash) ([]v1.Hash, error) {
	ref = imageref.Parts{Repository: imageref.Cut(ref).Repository, Digest: child.String()}.String()
	return i.children.Do(ctx, ref, func() (layers []v1.Hash, err error) {
		var known childRecord
		if i.Records.Load(childRecords, ref, &known) && !known.Seen.After(time.Now()) && time.Since(known.Seen) < believed {
			return known.Layers, nil
		}
		source := i.Fresh
		if source == nil {
			source = i.Source
		}
		err = guard.Do(func() error {
			c, err := source.Get(ctx, ref)
			if err != nil {
				return err
			}
			image, ok := c.(v1.Image)
			if !ok {
				return nil // an index within the index
			}
			m, err := image.Manifest()
			if err != nil {
				return err
			}
			for _, layer := range m.Layers {
				layers = append(layers, layer.Digest)
			}
			return nil
		})
		if err == nil {
			_ = i.Records.Store(childRecords, ref, childRecord{time.Now(), layers}) // costs a request next time
		}
		return layers, err
	})
}

// Supported returns the platforms that all images of a workload have, in which entries that
// the registry has lost and images that are never run do not count. nodes say which entries
// are looked for.
func (i *Images) Supported(ctx context.Context, w *Workload, nodes []*Node) ([]ocispec.Platform, error) {
	var lists [][]ocispec.Platform
	for _, c := range w.Containers {
		if w.DataOnly(c) {
			continue
		}
		have, err := i.present(ctx, c.Image, nodes)
		if err != nil {
			return nil, err
		}
		lists = append(lists, have)
	}
	return Common(lists), nil
}

// present returns the platforms of an image without the entries that are gone.
func (i *Images) present(ctx context.Context, ref string, nodes []*Node) ([]ocispec.Platform, error) {
	image, err := i.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !image.Index {
		return image.Have, nil
	}
	gone := map[int]bool{}
	for _, n := range nodes {
		at, ok := platform.Choose(n.Platform, image.Have)
		if !ok || image.Platforms[at].Within != nil || image.Platforms[at].Digest == (v1.Hash{}) {
			continue
		}
		if _, err := i.Layers(ctx, ref, image.Platforms[at].Digest); IsNotFound(err) {
			gone[at] = true
		} else if err != nil {
			return nil, err
		}
	}
	var have []ocispec.Platform
	for at, p := range image.Have {
		if !gone[at] {
			have = append(have, p)
		}
	}
	return have, nil
}

// intersect returns the platforms of a, without variants, of nodes on which a and b run.
func intersect(a, b []ocispec.Platform) []ocispec.Platform {
	var both []ocispec.Platform
	for _, p := range a {
		p = ocispec.Platform{OS: p.OS, Architecture: p.Architecture}
		if node := OfPlatform(p); Runs(a, node) && Runs(b, node) && !slices.ContainsFunc(both, func(other ocispec.Platform) bool { return other.OS == p.OS && other.Architecture == p.Architecture }) {
			both = append(both, p)
		}
	}
	return both
}

// IsNotFound reports whether err says that the registry does not have an image.
func IsNotFound(err error) bool { return errors.Is(err, manifest.ErrNotFound) }

// Know tells what a reference names, so that it is not looked up. The children of an index
// need a digest only if they shall be looked for.
func (i *Images) Know(ref string, image *Image) { i.images.Set(ref, image) }

// Common returns the platforms of nodes on which all images of a list run: each has an
// operating system and an architecture. An image for amd64/v3 alone runs on none, since the
// label of a node does not say that it has these instructions.
func Common(lists [][]ocispec.Platform) []ocispec.Platform {
	if len(lists) == 0 {
		return nil
	}
	common := lists[0]
	for _, have := range lists {
		common = intersect(common, have)
	}
	return common
}
