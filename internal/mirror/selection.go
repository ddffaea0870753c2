package mirror

import (
	"context"
	"errors"
	"sync"

	"github.com/mabuild/mabuild/manifest"
)

// This file determines what a job copies. All targets of a job share the answer.

// selection determines what to copy of a job. It reads no more than is needed to know the
// digest: a descriptor for a whole image or index, the index for some of its platforms.
func (r *round) selection(ctx context.Context, j *job) (*manifest.Selection, error) {
	e := j.entry
	switch {
	case e.Program != "":
		programs, err := r.programs(e)
		if err != nil {
			return nil, err
		}
		c, err := programs.Get(ctx, j.source)
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
		// All targets of the job share the content, so a tag that moves between two
		// targets cannot give them different images.
		s.Open = sync.OnceValues(s.Open)
	}
	return s, err
}

// assemble makes the index of a job's images. With unread set, images with a declared
// platform are not read, so an unchanged index costs one HEAD for each image. Otherwise
// each config is read and compared with the declaration, and warnings are logged.
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
		// The Assembly has skipped optional items that do not exist. The Store remembers
		// its answers, so this costs no request.
		_, err := r.Store.Resolve(ctx, item.Ref)
		if errors.Is(err, manifest.ErrNotFound) {
			s.Absent = append(s.Absent, item.Platform)
		}
	}
	return s, nil
}
