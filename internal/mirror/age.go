package mirror

import (
	"context"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

const (
	recordCreated = "mirror-created" // what a config says, by the manifest's digest
	recordSeen    = "mirror-seen"    // when a digest was seen first
)

// notYet is the first time that is believed: tools that build reproducibly write
// 1970, or the first moment of 1980.
var notYet = time.Date(1981, 1, 1, 0, 0, 0, 0, time.UTC)

// young reports whether the image is not old enough to be copied. Its age is
// counted from the time that its config says it was created (of an index the config
// of its first image), or from when it was seen first where it says nothing.
func (m *move) young(ctx context.Context) (bool, error) {
	least := m.job.entry.MinAge
	if least == 0 {
		return false, nil
	}
	born, err := m.born(ctx)
	if err != nil {
		return false, err
	}
	is := m.Now().Sub(born)
	if is >= least {
		return false, nil
	}
	m.ends(Skipped, "it is %s old, %s is wanted", max(is, 0).Round(time.Minute), least)
	return true, nil
}

// born returns when the image came to be.
func (m *move) born(ctx context.Context) (time.Time, error) {
	key := m.chosen.Found.Digest.String()
	var at time.Time
	if m.recall(recordCreated, key, &at) {
		return at, nil
	}
	c, err := m.chosen.Open()
	if err != nil {
		return at, err
	}
	if at, err = created(c, 0); err != nil {
		return at, err
	}
	if at.After(notYet) {
		m.remember(ctx, recordCreated, key, at)
		return at, nil
	}
	if !m.recall(recordSeen, key, &at) {
		at = m.Now()
		m.remember(ctx, recordSeen, key, at)
	}
	return at, nil
}

// maxDepth is how far into indexes of indexes is looked.
const maxDepth = 4

// created returns what the config of the first image says.
func created(c manifest.Content, depth int) (time.Time, error) {
	switch c := c.(type) {
	case v1.Image:
		config, err := c.ConfigFile()
		if err != nil {
			return time.Time{}, err
		}
		return config.Created.Time, nil
	case v1.ImageIndex:
		im, err := c.IndexManifest()
		if err != nil {
			return time.Time{}, err
		}
		for _, d := range im.Manifests {
			switch {
			case manifest.IsAttestation(d) || depth == maxDepth:
			case d.MediaType.IsImage():
				img, err := c.Image(d.Digest)
				if err != nil {
					return time.Time{}, err
				}
				return created(img, depth+1)
			case d.MediaType.IsIndex():
				idx, err := c.ImageIndex(d.Digest)
				if err != nil {
					return time.Time{}, err
				}
				return created(idx, depth+1)
			}
		}
	}
	return time.Time{}, nil
}
