package mirror

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// This file keeps an image under another tag before its tag is replaced, so that a change
// can be taken back.

// backup puts the image that the target names now under another tag, before the target
// changes. The tag must be free or have the same image, so that a backup never replaces
// another image; otherwise the first 12 digits of the digest are appended to it.
func (m *move) backup(ctx context.Context) error {
	to, err := m.backupName()
	if to == nil || err != nil {
		return err
	}
	free, err := m.free(ctx, *to)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if !free {
		other := m.target.ByTag(to.Tag() + "-" + m.now.Digest.Hex[:12])
		to = &other
	}
	// The old image is read by its digest: the tag may move meanwhile.
	old, err := m.Store.Get(ctx, m.target.ByDigest(m.now.Digest).String())
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := m.Store.PutAll(ctx, manifest.Named{Ref: to.String(), Content: old}); err != nil {
		return fmt.Errorf("backup %s: %w", to, err)
	}
	m.result.Backup = to.String()
	return nil
}

// backupName returns the reference of the backup. It is nil if there is nothing to keep
// or no way to keep it: the entry has no Backup, the target names nothing, an image
// without a name is not replaced, and a Docker archive holds one image. If the registry
// does not report what the target names, the copy fails, because it might replace an
// image without a backup.
func (m *move) backupName() (*places.Reference, error) {
	text := m.job.entry.Backup
	if text != "" && m.untold != nil {
		return nil, fmt.Errorf("backup: %w", m.untold)
	}
	if text == "" || m.now.Digest == (v1.Hash{}) || m.target.Unnamed() || m.target.Docker() {
		return nil, nil
	}
	names := Names{Tag: m.target.Tag(), SourceTag: m.job.tag}
	names.at(m.start)
	tag, err := names.Expand(text)
	if err != nil {
		return nil, err
	}
	if !places.IsTag(tag) {
		return nil, invalidTemplate(text, "gives %q, which is not a tag", tag)
	}
	to := m.target.ByTag(tag)
	if to.String() == m.target.String() {
		return nil, invalidTemplate(text, "is the same as the tag")
	}
	return &to, nil
}

// free reports whether the tag of a backup is free or already has the image. The first
// move that asks looks the tag up and reserves it if it does not exist; concurrent moves
// wait for the answer. So two moves never put different images under one tag in one run.
func (m *move) free(ctx context.Context, to places.Reference) (bool, error) {
	digest, err := m.backups.Do(ctx, to.String(), func() (v1.Hash, error) {
		there, err := m.Store.Resolve(ctx, to.String())
		if errors.Is(err, manifest.ErrNotFound) {
			return m.now.Digest, nil
		}
		return there.Digest, err
	})
	return digest == m.now.Digest, err
}
