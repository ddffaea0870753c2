package mirror

import (
	"context"
	"errors"
	"sync"

	"github.com/mabuild/mabuild/manifest"
)

// selection finds what is to be copied: by its descriptor alone where that is enough.
func (r *round) selection(ctx context.Context, j *job) (*manifest.Selection, error) {
	e := j.entry
	switch {
	case e.Program != "":
		c, err := r.programs(e).Get(ctx, j.source)
		if err != nil {
			return nil, err
		}
		d, err := manifest.Describe(c)
		return &manifest.Selection{Descriptor: d, Found: d, Open: func() (manifest.Content, error) { return c, nil }}, err
	case len(j.items) > 0:
		return r.assemble(ctx, j, true)
	}
	s, err := manifest.Select(ctx, r.Store, j.source, manifest.Keep{Platforms: e.wanted(), Optional: e.Optional, Log: r.Log})
	if err == nil {
		s.Open = sync.OnceValues(s.Open) // for all targets
	}
	return s, err
}

// assemble makes the index of a job's images. Unread, no more is read than their
// descriptors where their platforms are declared; else each config is held against
// what was declared, and says what was not.
func (r *round) assemble(ctx context.Context, j *job, unread bool) (*manifest.Selection, error) {
	a := manifest.Assembly{Items: j.items, TrustPlatforms: unread}
	if !unread {
		a.Log = r.Log
	}
	idx, err := a.Create(ctx, r.Store)
	if err != nil {
		return nil, err
	}
	d, err := manifest.Describe(idx)
	if err != nil {
		return nil, err
	}
	s := &manifest.Selection{Descriptor: d, Found: d, Open: func() (manifest.Content, error) { return idx, nil }}
	for _, item := range j.items {
		if !item.Optional || item.Platform.OS == "" {
			continue
		}
		_, err := r.Store.Resolve(ctx, item.Ref) // which is known by now
		if errors.Is(err, manifest.ErrNotFound) {
			s.Absent = append(s.Absent, item.Platform)
		}
	}
	return s, nil
}
