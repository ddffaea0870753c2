package mirror

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// estimate says what a dry run would copy: at most so many bytes, each blob counted
// once for each host.
func (m *move) estimate(ctx context.Context) error {
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	m.ends(Copied, "%s", m.reason())
	to, err := m.kept()
	if err != nil {
		return err
	}
	if to != nil {
		m.result.Backup = to.String()
	}
	if m.refers() {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
	}
	n, err := m.weigh(c, 0)
	m.result.Bytes += n
	return err
}

// weigh adds up what c reaches that was not counted yet.
func (m *move) weigh(c manifest.Content, depth int) (int64, error) {
	d, err := manifest.Describe(c)
	if err != nil || depth == maxDepth {
		return 0, err
	}
	sum := m.once(d)
	switch c := c.(type) {
	case v1.Image:
		im, err := c.Manifest()
		if err != nil {
			return 0, err
		}
		sum += m.once(im.Config)
		for _, l := range im.Layers {
			if !manifest.External(l) {
				sum += m.once(l)
			}
		}
	case v1.ImageIndex:
		im, err := c.IndexManifest()
		if err != nil {
			return 0, err
		}
		for _, d := range im.Manifests {
			child, err := manifest.ChildOf(c, d)
			if err != nil {
				return 0, err
			}
			n, err := m.weigh(child, depth+1)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// once is the size of what was not counted for the target's host before.
func (m *move) once(d v1.Descriptor) int64 {
	key := m.target.at() + " " + d.Digest.String()
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
