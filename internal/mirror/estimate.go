package mirror

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// This file computes the sizes of a dry run and of copies to local places.

// estimate sets the result of a dry run. Bytes is an upper bound, because the target may
// have blobs that are counted. Each blob is counted once for each host.
func (m *move) estimate(ctx context.Context) error {
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	if err := m.signed(ctx); err != nil {
		return err
	}
	m.ends(Copied, "%s", m.reason())
	to, err := m.backupName()
	if err != nil {
		return err
	}
	// The backup is not looked up: with an occupied tag the real one gets another name.
	if to != nil {
		m.result.Backup = to.String()
	}
	if m.refers() {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
	}
	n, err := m.weigh(c)
	m.result.Bytes += n
	return err
}

// weigh returns the size in bytes of all that c names and that was not counted before.
func (m *move) weigh(c manifest.Content) (sum int64, err error) {
	err = manifest.Walk(c, nil, func(n manifest.Node) error {
		c, err := n.Open()
		if err != nil {
			return err
		}
		d, err := manifest.Describe(c)
		if err != nil {
			return err
		}
		sum += m.once(d)
		img, ok := c.(v1.Image)
		if !ok {
			return nil
		}
		im, err := img.Manifest()
		if err != nil {
			return err
		}
		for _, d := range append(im.Layers, im.Config) {
			if !manifest.External(d) {
				sum += m.once(d)
			}
		}
		return nil
	})
	return sum, err
}

// once returns the size of a blob, or 0 if the run has counted it for the target's host.
// It locks the mutex of the round, which callers must not hold.
func (m *move) once(d v1.Descriptor) int64 {
	key := m.target.At() + " " + d.Digest.String()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counted[key] {
		return 0
	}
	if m.counted == nil {
		m.counted = map[string]bool{}
	}
	m.counted[key] = true
	return d.Size
}
