package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// backup gives what the target names another tag, which must not name anything
// else.
func (m *move) backup(ctx context.Context) error {
	to, err := m.kept()
	if to == "" || err != nil {
		return err
	}
	free, err := m.free(ctx, to)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if !free {
		to = m.Store.Beside(m.target, v1.Hash{}, cutRef(to).tag+"-"+m.now.Digest.Hex[:12])
	}
	old, err := m.Store.Get(ctx, m.Store.Beside(m.target, m.now.Digest, ""))
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := m.Store.Put(ctx, to, old); err != nil {
		return fmt.Errorf("backup %s: %w", to, err)
	}
	m.result.Backup = to
	return nil
}

// kept is the name under which what the target names is to be kept, "" for none.
func (m *move) kept() (string, error) {
	text := m.job.entry.Backup
	if text != "" && m.untold != nil {
		return "", fmt.Errorf("backup: %w", m.untold)
	}
	if text == "" || m.now.Digest == (v1.Hash{}) {
		return "", nil
	}
	names := Names{Tag: cutRef(m.target).tag, SourceTag: m.job.tag}
	names.at(m.start)
	tag, err := names.Expand(text)
	if err != nil {
		return "", err
	}
	if !tagName.MatchString(tag) {
		return "", &TemplateError{text, fmt.Sprintf("makes %q, which is no tag", tag)}
	}
	to := m.Store.Beside(m.target, v1.Hash{}, tag)
	if to == m.target {
		return "", &TemplateError{text, "is the tag itself, so nothing would be kept"}
	}
	return to, nil
}

// free reports whether a tag may keep what the target names: it names nothing else,
// and is to keep nothing else in this run. The first that asks finds out what it names,
// and has it where that is nothing; the others wait for that.
func (m *move) free(ctx context.Context, to string) (bool, error) {
	m.mu.Lock()
	keeps := m.backups[to]
	if keeps == nil {
		keeps = sync.OnceValues(func() (v1.Hash, error) {
			there, err := m.Store.Resolve(ctx, to)
			if errors.Is(err, manifest.ErrNotFound) {
				return m.now.Digest, nil
			}
			return there.Digest, err
		})
		m.backups[to] = keeps
	}
	m.mu.Unlock()
	digest, err := keeps()
	return digest == m.now.Digest, err
}
