package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
)

// recordVerified is the kind of the records of when the children of a target were
// seen last.
const recordVerified = "mirror-verified"

// same is what is done about an image that the target names already: nothing,
// unless what it reaches, or what refers to it, is to be looked at.
func (m *move) same(ctx context.Context) error {
	m.ends(Unchanged, "")
	verify, referrers := m.verifies(), m.refers()
	if !verify && !referrers {
		return nil
	}
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	var done []string
	if referrers {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
		if m.carried > 0 {
			done = append(done, fmt.Sprintf("%d referrers were missing", m.carried))
		}
	}
	if verify {
		gone, err := m.gone(ctx, c)
		if err != nil {
			return err
		}
		if gone > 0 {
			done = append(done, fmt.Sprintf("%d images were missing", gone))
		}
	}
	if !m.DryRun && (verify || len(m.beside) > 0) {
		if err := m.put(ctx, c); err != nil {
			return err
		}
		m.verified(ctx)
	}
	switch {
	case len(done) > 0:
		m.ends(Copied, "the image is unchanged; %s", strings.Join(done, ", "))
	case verify:
		m.ends(Unchanged, "all of its content is present")
	}
	return nil
}

// verifies reports whether the children of what is there are to be looked at.
func (m *move) verifies() bool {
	if m.Verify {
		return true
	}
	every := m.job.entry.VerifyEvery
	if every == 0 {
		return false
	}
	var last time.Time
	return !m.recall(recordVerified, m.target.String(), &last) || m.Now().Sub(last) >= every
}

// verified remembers that all that the target names is there.
func (m *move) verified(ctx context.Context) {
	if m.job.entry.VerifyEvery > 0 {
		m.remember(ctx, recordVerified, m.target.String(), m.Now())
	}
}

// gone counts the children that the target's registry does not have. A local place
// is left to Put, which looks at every blob.
func (m *move) gone(ctx context.Context, c manifest.Content) (int64, error) {
	idx, ok := c.(v1.ImageIndex)
	if !ok || m.target.Local() {
		return 0, nil
	}
	im, err := idx.IndexManifest()
	if err != nil {
		return 0, err
	}
	var gone atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, d := range im.Manifests {
		if e, err := manifest.Identify(d, nil); err != nil || e.Kind == manifest.KindUnknown {
			continue // Put stores bytes anyway
		}
		group.Go(func() error {
			return guard.Do(func() error {
				_, err := m.Store.Resolve(inner, m.target.ByDigest(d.Digest).String())
				if errors.Is(err, manifest.ErrNotFound) {
					gone.Add(1)
					return nil
				}
				if errors.Is(err, manifest.ErrUnanswered) {
					return nil // Put finds out
				}
				return err
			})
		})
	}
	err = group.Wait()
	return gone.Load(), err
}
