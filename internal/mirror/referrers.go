package mirror

import (
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// This file copies referrers. They are copied by digest and keep their subject field, so
// a registry with the referrers API lists them at once; cosign's tags are copied as tags.

// A subject is a manifest whose referrers are copied.
type subject struct {
	ref    places.Reference // a reference in the repository or place of the source
	digest v1.Hash
}

// referrers copies the referrers of the image and of its children. If the target gets
// another index than the source has, referrers of the source's index are left out,
// because the target does not have their subject.
func (m *move) referrers(ctx context.Context, c manifest.Content) error {
	subjects, err := m.subjects(ctx, c)
	if err != nil {
		return err
	}
	// The group has no context: errgroup.WithContext cancels it at the end of Wait, and
	// content for a local place is read after that.
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, s := range subjects {
		group.Go(func() error { return guard.Do(func() error { return m.follow(ctx, s) }) })
	}
	return group.Wait()
}

// subjects lists the manifests of c with the references under which their referrers are
// listed. Attestations within an index have no referrers.
func (m *move) subjects(ctx context.Context, c manifest.Content) ([]subject, error) {
	if len(m.job.items) > 0 {
		var all []subject
		for _, item := range m.job.items {
			at, err := places.Parse(item.Ref)
			if err != nil {
				return nil, err
			}
			d, err := m.Store.Resolve(ctx, item.Ref)
			if err != nil {
				if item.Optional {
					continue
				}
				return nil, err
			}
			all = append(all, subject{at, d.Digest})
		}
		return all, nil
	}
	var all []subject
	own, err := c.Digest()
	if err != nil {
		return nil, err
	}
	if own == m.chosen.Found.Digest {
		all = append(all, subject{m.job.from, own})
	}
	err = manifest.Walk(c, nil, func(n manifest.Node) error {
		e, err := manifest.Identify(n.Descriptor, nil)
		if n.Descriptor.Digest != own && e.Kind != manifest.KindAttestation {
			all = append(all, subject{m.job.from, n.Descriptor.Digest})
		}
		return err
	})
	return all, err
}

// follow copies the referrers of s, and the referrers of these.
func (m *move) follow(ctx context.Context, s subject) error {
	return places.EachReferrer(ctx, m.Store, s.ref, s.digest, m.suffixes(ctx, s), func(found manifest.Referrer) error {
		return m.copyReferrer(ctx, s, found)
	})
}

// suffixes lists the suffixes of cosign's tags that s has. The list of tags, which is
// read once for a repository, replaces three requests for each image. Without it all
// three are tried.
func (m *move) suffixes(ctx context.Context, s subject) []string {
	if s.ref.Local() {
		return places.CosignSuffixes
	}
	there, err := m.list(ctx, s.ref.Remote.Repository)
	if err != nil {
		return places.CosignSuffixes
	}
	var out []string
	for _, suffix := range places.CosignSuffixes {
		if slices.Contains(there, manifest.ReferrersTag(s.digest)+"."+suffix) {
			out = append(out, suffix)
		}
	}
	return out
}

// copyReferrer copies one referrer unless the target has it. If the registry does not report
// that, it is copied.
func (m *move) copyReferrer(ctx context.Context, s subject, found manifest.Referrer) error {
	to := m.target.ByDigest(found.Digest)
	if found.Tag != "" {
		to = m.target.Cosign(found.Tag)
	}
	now, err := m.Store.Resolve(ctx, to.String())
	switch {
	case err == nil && now.Digest == found.Digest:
		return nil
	case err != nil && !errors.Is(err, manifest.ErrNotFound) && !errors.Is(err, manifest.ErrUnanswered):
		return err
	}
	c, err := m.Store.Get(ctx, s.ref.ByDigest(found.Digest).String())
	if err != nil {
		return err
	}
	if !m.DryRun && !m.target.Local() {
		err = m.Store.PutAll(ctx, manifest.Named{Ref: to.String(), Content: c})
	}
	if err != nil {
		return err
	}
	return m.noteCarried(c, to.String())
}

// noteCarried counts a referrer. For a local place it is kept for put, which stores it in
// one step with the image.
func (m *move) noteCarried(c manifest.Content, ref string) error {
	var n int64
	var err error
	if m.DryRun || m.target.Local() {
		// weigh takes the mutex, so it comes before the lock.
		n, err = m.weigh(c)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.carried++
	m.result.Bytes += n
	if !m.DryRun && m.target.Local() {
		m.beside = append(m.beside, manifest.Named{Ref: ref, Content: c})
	}
	return err
}
