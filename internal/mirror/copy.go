package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The kinds of records in the state.
const (
	recordVerified = "mirror-verified" // when the children of a target were seen last
	recordReferrer = "mirror-referrer" // that a referrer is in a repository
)

// A move is an image on its way to one target.
type move struct {
	*run
	job    *job
	target string
	choose func() (*manifest.Selection, error) // once for all targets
	settle func() (*manifest.Selection, error) // with each config read, where an index is made
	result Result

	chosen *manifest.Selection
	now    v1.Descriptor // what the target names; zero for nothing

	beside []manifest.Named // what goes into a local place along with it
}

// job carries out one image, to all its targets at once.
func (r *run) job(ctx context.Context, j *job) []Result {
	choose := sync.OnceValues(func() (*manifest.Selection, error) {
		s, err := r.choose(ctx, j)
		return s, sourced(err)
	})
	settle := sync.OnceValues(func() (*manifest.Selection, error) {
		s, err := r.assemble(ctx, j, false)
		return s, sourced(err)
	})
	out := make([]Result, len(j.targets))
	var wg sync.WaitGroup
	for i, target := range j.targets {
		wg.Go(func() {
			m := move{run: r, job: j, target: target, choose: choose, settle: settle}
			out[i] = m.carryOut(ctx)
		})
	}
	wg.Wait()
	return out
}

// label is a short name for people: the target, without its host where there is
// one target.
func (m *move) label() string {
	if len(m.job.targets) > 1 {
		return m.target
	}
	return strings.TrimPrefix(m.target, cutRef(m.target).host()+"/")
}

// carryOut carries out the move and says what became of it.
func (m *move) carryOut(ctx context.Context) Result {
	begin, counter := m.Now(), &meter{}
	ctx = withMeter(ctx, counter)
	if m.Task != nil {
		ctx = m.Task(ctx, m.label())
	}
	m.result = Result{Source: m.job.source, Target: m.target}
	if err := m.do(ctx); err != nil {
		err = fmt.Errorf("%s: %w", m.target, err)
		m.result.Status, m.result.Why, m.result.Err = Failed, err.Error(), err
		m.Log.InfoContext(ctx, "failed") // why is in the report
	}
	if !m.DryRun {
		m.result.Bytes = counter.bytes.Load()
	}
	m.result.Seconds = seconds(m.Now().Sub(begin))
	m.count(ctx, 0, 1, m.result.Bytes)
	if m.result.Status == Copied && !m.DryRun {
		m.Log.InfoContext(ctx, "done", "digest", m.result.Digest, "bytes", m.result.Bytes)
	}
	return m.result
}

func (m *move) ends(status, why string, args ...any) {
	m.result.Status, m.result.Why = status, fmt.Sprintf(why, args...)
}

// do is the one step of a mirror.
func (m *move) do(ctx context.Context) error {
	e := m.job.entry
	if err := m.claim(m.target, m.job.source); err != nil {
		return err
	}
	if m.Missing || e.Missing {
		there, err := m.listed(ctx)
		if err != nil || there {
			m.ends(Skipped, "the target has it")
			return err
		}
	}
	if e.Program != "" {
		return m.program(ctx)
	}
	if err := m.compare(ctx); err != nil {
		return err
	}
	if m.now.Digest == m.chosen.Descriptor.Digest {
		return m.same(ctx)
	}
	if young, err := m.young(ctx); err != nil || young {
		return err
	}
	if m.DryRun {
		return m.estimate()
	}
	return m.copy(ctx)
}

// compare asks what there is to copy, and what the target names. An index that
// has to be made is made unread at first: where the configs say no more than what
// was declared, that is enough to know that nothing has changed.
func (m *move) compare(ctx context.Context) (err error) {
	if m.chosen, err = m.choose(); err != nil {
		return err
	}
	if err := m.look(ctx); err != nil {
		return err
	}
	if len(m.job.items) > 0 && m.now.Digest != m.chosen.Descriptor.Digest {
		if m.chosen, err = m.settle(); err != nil {
			return err
		}
	}
	m.result.Digest = m.chosen.Descriptor.Digest.String()
	if m.result.Absent = keys(m.chosen.Absent); len(m.chosen.Absent) > 0 {
		m.Log.WarnContext(ctx, "without a platform that it was to have", "target", m.target, "missing", strings.Join(m.result.Absent, ","))
	}
	return nil
}

// look asks what the target names.
func (m *move) look(ctx context.Context) (err error) {
	m.now, err = m.Store.Resolve(ctx, m.target)
	if errors.Is(err, manifest.ErrNotFound) {
		m.now, err = v1.Descriptor{}, nil
	}
	if m.now.Digest != (v1.Hash{}) {
		m.result.Was = m.now.Digest.String()
	}
	return err
}

// same is what is done about an image that the target names already: nothing,
// unless what it reaches is to be looked at.
func (m *move) same(ctx context.Context) error {
	m.ends(Unchanged, "")
	e := m.job.entry
	if m.DryRun || !m.verifies() && !e.Referrers {
		return nil
	}
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	if e.Referrers {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
	}
	if !m.verifies() && len(m.beside) == 0 {
		return nil
	}
	if err := m.put(ctx, c); err != nil {
		return err
	}
	m.ends(Unchanged, "all that it names was looked for")
	m.verified(ctx)
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
	return !m.recall(recordVerified, m.target, &last) || m.Now().Sub(last) >= every
}

// copy makes the target name what was chosen: first what refers to it, so that a
// signature is there before what it signs, then the rest, the tag last.
func (m *move) copy(ctx context.Context) error {
	m.Log.InfoContext(ctx, "copying")
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	d, err := manifest.Describe(c) // the tag may have moved since
	if err != nil {
		return err
	}
	m.result.Digest = d.Digest.String()
	if err := m.backup(ctx); err != nil {
		return err
	}
	if m.job.entry.Referrers {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
	}
	if err := m.put(ctx, c); err != nil {
		return err
	}
	if m.cut() {
		m.Log.InfoContext(ctx, "some platforms are left out, so the digest is another", "source", m.chosen.Found.Digest.String(), "target", m.result.Digest)
	}
	m.ends(Copied, "%s", m.reason())
	m.verified(ctx)
	return nil
}

// verified remembers that all that the target names is there.
func (m *move) verified(ctx context.Context) {
	if m.job.entry.VerifyEvery > 0 {
		m.remember(ctx, recordVerified, m.target, m.Now())
	}
}

// put makes the target name c, with what goes along.
func (m *move) put(ctx context.Context, c manifest.Content) error {
	if len(m.beside) > 0 {
		return m.Store.PutAll(ctx, m.target, c, m.beside)
	}
	return m.Store.Put(ctx, m.target, c)
}

// reason says why something is copied.
func (m *move) reason() string {
	why := "the target had none"
	if m.now.Digest != (v1.Hash{}) {
		why = "the target named " + m.now.Digest.String()
	}
	if m.cut() {
		why += "; some platforms are left out, which changes the digest from " + m.chosen.Found.Digest.String()
	}
	return why
}

// cut reports whether the image is less than the source has.
func (m *move) cut() bool { return m.chosen.Found.Digest != m.chosen.Descriptor.Digest }

// backup gives what the target names another tag, which must not name anything
// else yet.
func (m *move) backup(ctx context.Context) error {
	text := m.job.entry.Backup
	if text == "" || m.now.Digest == (v1.Hash{}) {
		return nil
	}
	at := cutRef(m.target)
	names := Names{Tag: at.tag, SourceTag: m.job.tag}
	names.at(m.start)
	tag, err := names.Expand(text)
	if err != nil {
		return err
	}
	old, err := m.Store.Get(ctx, m.Store.Beside(m.target, m.now.Digest, ""))
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	to := m.Store.Beside(m.target, v1.Hash{}, tag)
	there, err := m.Store.Resolve(ctx, to)
	switch {
	case err == nil && there.Digest != m.now.Digest:
		to = m.Store.Beside(m.target, v1.Hash{}, tag+"-"+m.now.Digest.Hex[:12])
	case err != nil && !errors.Is(err, manifest.ErrNotFound):
		return fmt.Errorf("backup: %w", err)
	}
	m.result.Backup = to
	if err := m.Store.Put(ctx, to, old); err != nil {
		return fmt.Errorf("backup %s: %w", to, err)
	}
	return nil
}

// program builds what the target does not have. A version that is there is not
// built again: versions do not change.
func (m *move) program(ctx context.Context) error {
	if err := m.look(ctx); err != nil {
		return err
	}
	if m.now.Digest != (v1.Hash{}) {
		m.result.Digest, m.result.Was = m.now.Digest.String(), ""
		m.ends(Unchanged, "")
		return nil
	}
	if m.DryRun {
		m.ends(Copied, "the target has no such version; it would be built")
		return nil
	}
	var err error
	if m.chosen, err = m.choose(); err != nil {
		return err
	}
	return m.copy(ctx)
}

// listed reports whether the target's tag is there, by the list of tags; where
// there is none to be had it is asked for.
func (m *move) listed(ctx context.Context) (bool, error) {
	if at := cutRef(m.target); !m.Store.Local(m.target) && at.digest == "" {
		tags, err := m.list(ctx, at.repo)
		switch {
		case err == nil:
			return slices.Contains(tags, at.tag), nil
		case errors.Is(err, manifest.ErrNotFound):
			return false, nil
		}
	}
	err := m.look(ctx)
	return m.now.Digest != (v1.Hash{}), err
}

// choose finds what is to be copied: by its descriptor alone where that is enough.
func (r *run) choose(ctx context.Context, j *job) (*manifest.Selection, error) {
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
	s, err := manifest.Select(ctx, r.Store, j.source, manifest.Keep{Platforms: e.wanted(), Optional: e.Optional})
	return s, err
}

// assemble makes the index of a job's images. Unread, no more is read than their
// descriptors where their platforms are declared; else each config is held against
// what was declared, and says what was not.
func (r *run) assemble(ctx context.Context, j *job, unread bool) (*manifest.Selection, error) {
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
	im, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	s := &manifest.Selection{Descriptor: d, Found: d, Open: func() (manifest.Content, error) { return idx, nil }}
	for _, item := range j.items {
		declared := platform.Key(platform.Normalize(item.Platform))
		there := slices.ContainsFunc(im.Manifests, func(d v1.Descriptor) bool {
			return d.Platform != nil && platform.Key(platform.FromV1(d.Platform)) == declared
		})
		if item.Optional && item.Platform.OS != "" && !there {
			s.Absent = append(s.Absent, item.Platform)
		}
	}
	return s, nil
}

func (r *run) recall(kind, key string, v any) bool {
	return r.State != nil && r.State.Load(kind, key, v)
}

// remember keeps a record; one that cannot be kept costs a request.
func (r *run) remember(ctx context.Context, kind, key string, v any) {
	if r.State == nil {
		return
	}
	if err := r.State.Store(kind, key, v); err != nil {
		r.Log.DebugContext(ctx, "not remembered", "err", err)
	}
}
