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

// This file handles targets that are up to date. By default that costs nothing more;
// Verify, VerifyEvery and Referrers check what the digest of the target alone does not
// prove, and Verify and VerifyEvery also the signature of the source.

// recordVerified is the kind of record with the time at which the children of a target
// were last checked.
const recordVerified = "mirror-verified"

// same handles an image that the target already names: nothing is done, unless the entry
// asks for its referrers or for a check of its content. A registry can lose a child of an
// index, for example by a cleanup that sees it as untagged.
func (m *move) same(ctx context.Context) error {
	m.ends(Unchanged, "")
	verify, referrers := m.verifies(), m.refers()
	if !verify && !referrers {
		m.platforms(ctx, nil)
		return nil
	}
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	m.platforms(ctx, c)
	if verify {
		// The key of the entry may be new.
		if err := m.signed(ctx); err != nil {
			return err
		}
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
	// Put stores the images of an index that are missing. Blobs in a registry are not asked
	// for.
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
		m.ends(Unchanged, "all of its images are present")
	}
	return nil
}

// verifies reports whether the children of an unchanged image are checked in this run.
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

// verified records that the target has all content of the image now.
func (m *move) verified(ctx context.Context) {
	if m.job.entry.VerifyEvery > 0 {
		m.remember(ctx, recordVerified, m.target.String(), m.Now())
	}
}

// gone counts the children of an index that the target's registry lacks, at one HEAD for
// each. For a local place it returns 0, because Put reads every blob there.
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
	// The answers are used only here, so the first error may cancel the other requests.
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, d := range im.Manifests {
		if e, err := manifest.Identify(d, nil); err != nil || e.Kind == manifest.KindUnknown {
			continue // Put stores it in any case
		}
		group.Go(func() error {
			return guard.Do(func() error {
				_, err := m.Store.Resolve(inner, m.target.ByDigest(d.Digest).String())
				if errors.Is(err, manifest.ErrNotFound) {
					gone.Add(1)
					return nil
				}
				if errors.Is(err, manifest.ErrUnanswered) {
					return nil // the registry does not say; Put decides
				}
				return err
			})
		})
	}
	err = group.Wait()
	return gone.Load(), err
}
