package mirror

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// backup gives what the target names another tag, which must not name anything
// else.
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
		other := m.target.ByTag(to.tag() + "-" + m.now.Digest.Hex[:12])
		to = &other
	}
	old, err := m.Store.Get(ctx, m.target.ByDigest(m.now.Digest).String())
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := m.Store.Put(ctx, to.String(), old); err != nil {
		return fmt.Errorf("backup %s: %w", to, err)
	}
	m.result.Backup = to.String()
	return nil
}

// backupName is the name under which what the target names is to be kept, nil for none. What
// has no name is not replaced, and a file that holds one image keeps no other.
func (m *move) backupName() (*Ref, error) {
	text := m.job.entry.Backup
	if text != "" && m.untold != nil {
		return nil, fmt.Errorf("backup: %w", m.untold)
	}
	if text == "" || m.now.Digest == (v1.Hash{}) || m.target.unnamed() || m.target.docker() {
		return nil, nil
	}
	names := Names{Tag: m.target.tag(), SourceTag: m.job.tag}
	names.at(m.start)
	tag, err := names.Expand(text)
	if err != nil {
		return nil, err
	}
	if !tagName.MatchString(tag) {
		return nil, invalidTemplate(text, "gives %q, which is not a tag", tag)
	}
	to := m.target.ByTag(tag)
	if to.String() == m.target.String() {
		return nil, invalidTemplate(text, "is the same as the tag")
	}
	return &to, nil
}

// free reports whether a tag may keep what the target names: it names nothing else,
// and is to keep nothing else in this run. The first that asks finds out what it names,
// and has it where that is nothing; the others wait for that.
func (m *move) free(ctx context.Context, to Ref) (bool, error) {
	digest, err := m.backups.Do(ctx, to.String(), func() (v1.Hash, error) {
		there, err := m.Store.Resolve(ctx, to.String())
		if errors.Is(err, manifest.ErrNotFound) {
			return m.now.Digest, nil
		}
		return there.Digest, err
	})
	return digest == m.now.Digest, err
}
