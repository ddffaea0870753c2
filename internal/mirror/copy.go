package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file has the step of a mirror: one image to one target.

// A move copies one image to one target. It is used by one goroutine, except while
// referrers are copied: then the mutex of the round guards carried, beside and the bytes
// of result. selected says what to copy, once for all targets of a job; finish is the
// same with each config of an assembled index read.
type move struct {
	*round
	job      *job
	target   places.Reference
	also     []places.Reference // further names of the image in a Docker archive
	selected func() (*manifest.Selection, error)
	finish   func() (*manifest.Selection, error)
	clash    error // set if another image has the same target
	result   Result

	chosen *manifest.Selection
	now    v1.Descriptor // what the target names; zero for nothing
	untold error         // set if the registry does not report what the target names

	carried int              // referrers that the target lacked
	beside  []manifest.Named // referrers to put into a local place in one step with the image
}

// moves makes a move for each target of each job. What to copy is determined once for all
// targets of a job. If two images have the same target, both moves fail: which one is
// right cannot be known. Two names of the same local image are not a collision.
func (r *round) moves(ctx context.Context, jobs []job) []*move {
	var all []*move
	first := map[string]*move{}
	for i := range jobs {
		j := &jobs[i]
		choose := sync.OnceValues(func() (*manifest.Selection, error) {
			s, err := r.selection(ctx, j)
			return s, sourced(j.named(err))
		})
		finish := sync.OnceValues(func() (*manifest.Selection, error) {
			s, err := r.assemble(ctx, j, false)
			return s, sourced(j.named(err))
		})
		for _, target := range j.targets {
			m := &move{round: r, job: j, target: target, selected: choose, finish: finish}
			all = append(all, m)
			other, ok := first[target.Key(j.source)]
			switch {
			case !ok:
				first[target.Key(j.source)] = m
			case other.clash == nil && other.job.digest == j.digest && j.digest != (v1.Hash{}) && (target.Docker() || other.target.String() == target.String()):
				all = all[:len(all)-1] // another name of the same image
				if target.Docker() {
					other.also = append(other.also, target)
				}
			default:
				m.clash = collision(other.job.source, j.source)
				other.clash = m.clash
			}
		}
	}
	return slices.DeleteFunc(all, func(m *move) bool { return r.Skip != nil && r.Skip(m.target.Container()) })
}

// queue waits for a permit of the hosts and does the move.
func (m *move) queue(ctx context.Context) Result {
	permits := m.semaphore(m.from(), m.target.At())
	select {
	case permits <- struct{}{}:
		defer func() { <-permits }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return failed(m.job.source, m.target.String(), fmt.Errorf("%s: %w", m.target, context.Cause(ctx)))
	}
	return m.carryOut(ctx)
}

// from returns the host of the source. For an assembled image it is that of the first
// item.
func (m *move) from() string {
	if len(m.job.items) > 0 {
		if at, err := places.Parse(m.job.items[0].Ref); err == nil {
			return at.At()
		}
	}
	return m.job.from.At()
}

// label returns a short name for progress: the target, without its host if the job has
// one target.
func (m *move) label() string {
	if len(m.job.targets) > 1 {
		return m.target.String()
	}
	return strings.TrimPrefix(m.target.String(), m.target.At()+"/")
}

// carryOut does the move and returns its result. An error or a panic fails this move
// alone.
func (m *move) carryOut(ctx context.Context) Result {
	begin, sent := m.Now(), new(atomic.Int64)
	ctx = withMeter(ctx, sent)
	if m.Task != nil {
		ctx = m.Task(ctx, m.label())
	}
	m.result = Result{Source: m.job.source, Target: m.target.String()}
	if err := guard.Report(ctx, m.Log, m.target.String(), func() error { return m.do(ctx) }); err != nil {
		err = fmt.Errorf("%s: %w", m.target, err)
		m.result.Status, m.result.Why, m.result.Err = Failed, err.Error(), err
		m.Log.InfoContext(ctx, "failed") // the report has the reason
	}
	m.result.Bytes += sent.Load()
	m.result.Seconds = seconds(m.Now().Sub(begin))
	m.count(ctx, 0, 1, m.result.Bytes)
	if m.result.Status == Copied && !m.DryRun {
		m.Log.InfoContext(ctx, "done", "digest", m.result.Digest, "bytes", m.result.Bytes)
	}
	return m.result
}

// ends sets the status and its reason.
func (m *move) ends(status, why string, args ...any) {
	m.result.Status, m.result.Why = status, fmt.Sprintf(why, args...)
}

// do is the one step of a mirror. Its order keeps the cost low: checks without requests
// come first, then what decides whether anything changes (a HEAD at each end), then the
// age, for which configs are read, and at last the copy.
func (m *move) do(ctx context.Context) error {
	e := m.job.entry
	if err := cmp.Or(m.clash, m.Claims.claim(m.target, m.job)); err != nil {
		return err
	}
	// Nothing is compared here: if the target has the tag, the source is not asked.
	if m.Missing || e.Missing {
		there, err := m.listed(ctx)
		if err != nil || there {
			m.ends(Skipped, "present at the target")
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
		return m.estimate(ctx)
	}
	return m.copy(ctx)
}

// compare determines what to copy and what the target names. An assembled index is first
// made from descriptors. If the configs add nothing to the declared platforms, its digest
// is that of the complete index, which is enough to see that nothing has changed.
// Otherwise the configs are read.
func (m *move) compare(ctx context.Context) (err error) {
	if m.chosen, err = m.pick(m.selected); err != nil {
		return err
	}
	if err := m.resolveTarget(ctx); err != nil {
		return err
	}
	if len(m.job.items) > 0 && m.now.Digest != m.chosen.Descriptor.Digest {
		if m.chosen, err = m.pick(m.finish); err != nil {
			return err
		}
	}
	m.result.Digest = m.chosen.Descriptor.Digest.String()
	if m.result.Absent = keys(m.chosen.Absent); len(m.chosen.Absent) > 0 {
		m.Log.WarnContext(ctx, "copied without missing platforms", "target", m.target.String(), "missing", strings.Join(m.result.Absent, ","))
	}
	return nil
}

// resolveTarget sets now to what the target names. An image without a name in a local
// place is looked up by its digest. If the registry does not report what a tag names, the
// image is copied and the result of the copy counts. A dry run copies nothing, so it
// fails there.
func (m *move) resolveTarget(ctx context.Context) (err error) {
	if m.chosen == nil && m.target.Unnamed() {
		if m.chosen, err = m.pick(m.selected); err != nil {
			return err
		}
	}
	switch {
	case m.target.Docker():
		m.now, err = m.inDocker(ctx)
	case m.target.Unnamed():
		m.now, err = m.Store.Resolve(ctx, m.target.ByDigest(m.chosen.Descriptor.Digest).String())
	default:
		m.now, err = m.Store.Resolve(ctx, m.target.String())
	}
	switch {
	case errors.Is(err, manifest.ErrNotFound):
		m.now, err = v1.Descriptor{}, nil
	case errors.Is(err, manifest.ErrUnanswered) && !m.DryRun:
		m.untold, m.now, err = err, v1.Descriptor{}, nil
	}
	if m.now.Digest != (v1.Hash{}) {
		m.result.Was = m.now.Digest.String()
	}
	return err
}

// pick returns what to copy to this target. A Docker archive gets one image of an index.
func (m *move) pick(choose func() (*manifest.Selection, error)) (*manifest.Selection, error) {
	s, err := choose()
	if err != nil || !m.target.Docker() {
		return s, err
	}
	c, err := s.Open()
	if err != nil {
		return nil, err
	}
	img, err := local.Single(c, m.target.Place.Platform)
	if err != nil {
		return nil, err
	}
	d, err := manifest.Describe(img)
	return &manifest.Selection{Descriptor: d, Found: s.Found, Absent: s.Absent, Open: func() (manifest.Content, error) { return img, nil }}, err
}

// inDocker returns what a Docker archive names. It has no manifests, so an image that was
// written to it cannot be recognised by the digest of its manifest. It is the chosen
// image if both have the same config, since a config names all layers by their diff IDs.
// All names of the image must be there.
func (m *move) inDocker(ctx context.Context) (v1.Descriptor, error) {
	var d v1.Descriptor
	for _, name := range append([]places.Reference{m.target}, m.also...) {
		var err error
		if d, err = m.Store.Resolve(ctx, name.String()); err != nil {
			return d, err
		}
	}
	if m.chosen == nil {
		return d, nil
	}
	there, err := m.config(m.Store.Get(ctx, m.target.String()))
	if err != nil {
		return d, err
	}
	chosen, err := m.config(m.chosen.Open())
	if err == nil && there == chosen {
		return m.chosen.Descriptor, nil
	}
	return d, err
}

// config returns the digest of an image's config.
func (m *move) config(c manifest.Content, err error) (v1.Hash, error) {
	img, ok := c.(v1.Image)
	if err != nil || !ok {
		return v1.Hash{}, err
	}
	return img.ConfigName()
}

// copy makes the target name what was chosen. Referrers come first, so that a signature
// is there before the image that it signs: a cluster that checks signatures never sees
// the image without it. The image follows, its tag last. If a step fails, the tag is as
// it was.
func (m *move) copy(ctx context.Context) error {
	m.Log.InfoContext(ctx, "copying")
	c, err := m.chosen.Open()
	if err != nil {
		return err
	}
	d, err := manifest.Describe(c) // the tag may have moved since compare
	if err != nil {
		return err
	}
	m.result.Digest = d.Digest.String()
	if err := m.signed(ctx); err != nil {
		return err
	}
	if err := m.backup(ctx); err != nil {
		return err
	}
	if err := m.leavesSignature(ctx, c); err != nil {
		return err
	}
	if m.job.entry.Referrers && m.target.Docker() {
		m.Log.WarnContext(ctx, "a Docker archive cannot hold referrers, only the image", "target", m.target.String())
	}
	if m.refers() {
		if err := m.referrers(ctx, c); err != nil {
			return err
		}
	}
	m.noteLeft(ctx, c)
	if err := m.put(ctx, c); err != nil {
		return err
	}
	m.platforms(ctx, c)
	if m.target.Local() {
		// No registry client counts bytes to a local place, so this is the size of what
		// it may have got.
		n, err := m.weigh(c)
		if err != nil {
			return err
		}
		m.result.Bytes += n
	}
	if m.cut() {
		m.Log.InfoContext(ctx, "copied only some platforms; the digest changes to "+m.result.Digest, "source", m.chosen.Found.Digest.String())
	}
	m.ends(Copied, "%s", m.reason())
	m.verified(ctx)
	return nil
}

// signed returns an error unless the key of the entry has signed the source. Of some
// platforms only these must be signed, since the target gets another index.
func (m *move) signed(ctx context.Context) error {
	e := m.job.entry
	if e.Key == "" {
		return nil
	}
	var platforms []ocispec.Platform
	if m.cut() {
		platforms = e.wanted()
	}
	return m.Signed(ctx, m.Store, e.Key, m.job.from.ByDigest(m.chosen.Found.Digest).String(), platforms)
}

// leavesSignature warns if the copy of an image whose signature was verified has none: it is not
// copied, or it is about the index, and the copy has another one.
func (m *move) leavesSignature(ctx context.Context, c manifest.Content) error {
	e := m.job.entry
	switch {
	case e.Key == "":
		return nil
	case !e.Referrers:
		m.Log.WarnContext(ctx, "the signature was verified and stays behind; referrers: true copies it", "target", m.target.String())
		return nil
	case !m.cut():
		return nil
	}
	images, err := manifest.Identified(c)
	if err != nil {
		return err
	}
	for _, i := range images {
		if i.Kind != manifest.KindImage {
			continue
		}
		err := m.Signed(ctx, m.Store, e.Key, m.job.from.ByDigest(i.Descriptor.Digest).String(), nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			m.Log.WarnContext(ctx, "the copy has no signature: that of the source is about its index, and the copy of some platforms has another one", "target", m.target.String())
			return nil
		}
	}
	return nil
}

// noteLeft says which signatures and other referrers of c a copy into or out of a file does not
// take: the place that has the copy may not reach the source. In a registry it costs a request
// for each image, and two for an index. If the source cannot list its referrers, nothing is said.
func (m *move) noteLeft(ctx context.Context, c manifest.Content) {
	if m.job.entry.Referrers || m.job.entry.Key != "" || !m.target.Local() && !m.job.from.Local() || len(m.job.items) > 0 {
		return
	}
	var left []manifest.Referrer
	list := func(of v1.Hash, suffixes ...string) bool {
		found, err := m.Store.Referrers(ctx, m.job.from.String(), of, suffixes...)
		left = append(left, found...)
		return err == nil
	}
	if !m.cut() && !list(m.chosen.Found.Digest, "sig") {
		return
	}
	if index, ok := c.(v1.ImageIndex); ok {
		is, err := index.IndexManifest()
		if err != nil {
			return
		}
		for _, d := range is.Manifests {
			if !list(d.Digest) {
				return
			}
		}
	}
	if len(left) == 0 {
		return
	}
	way := "add --referrers, or referrers: true in a file, to take them"
	if m.target.Docker() {
		way = "an OCI layout or archive can hold them, with --referrers"
	}
	m.Log.InfoContext(ctx, fmt.Sprintf("referrers such as signatures stay behind (%d); %s", len(left), way))
}

// refers reports whether referrers are copied. A Docker archive cannot hold them.
func (m *move) refers() bool { return m.job.entry.Referrers && !m.target.Docker() }

// put makes the target name c. In a local place all names and referrers are put in one
// step, since each Put of an archive would write the file anew.
func (m *move) put(ctx context.Context, c manifest.Content) error {
	for _, name := range m.also {
		m.beside = append(m.beside, manifest.Named{Ref: name.String(), Content: c})
	}
	return m.Store.PutAll(ctx, append(m.beside, manifest.Named{Ref: m.target.String(), Content: c})...)
}

// recordPlatforms is the kind of record with the platforms of an index, by its digest.
const recordPlatforms = "mirror-platforms"

// platforms sets the platforms of the result, as far as c says them without a request, and
// remembers them for runs in which the image is unchanged. c is nil if it was not read.
func (m *move) platforms(ctx context.Context, c manifest.Content) {
	idx, ok := c.(v1.ImageIndex)
	if !ok {
		if c == nil {
			m.recall(recordPlatforms, m.result.Digest, &m.result.Platforms)
		}
		return
	}
	im, err := idx.IndexManifest()
	if err != nil {
		return // it was read already
	}
	var found []ocispec.Platform
	for _, d := range im.Manifests {
		if e, err := manifest.Identify(d, nil); err == nil && e.Kind == manifest.KindImage {
			found = append(found, e.Platform)
		}
	}
	m.result.Platforms = keys(found)
	m.remember(ctx, recordPlatforms, m.result.Digest, m.result.Platforms)
}

// reason returns why an image is copied, for the report.
func (m *move) reason() string {
	why := "new at the target"
	if m.untold != nil {
		why = "the target does not report its digest"
	}
	if m.now.Digest != (v1.Hash{}) {
		why = "the target had " + m.now.Digest.String()
	}
	if m.cut() {
		why += "; only some platforms are copied, which changes the digest from " + m.chosen.Found.Digest.String()
	}
	return why
}

// cut reports whether the copy lacks platforms of the source, so that its digest differs.
func (m *move) cut() bool { return m.chosen.Found.Digest != m.chosen.Descriptor.Digest }

// program builds a program if the target lacks the version. A version of a module does
// not change, so a version that the target has for all platforms is not built again.
func (m *move) program(ctx context.Context) error {
	if err := m.resolveTarget(ctx); err != nil {
		return err
	}
	why := "this version is new at the target"
	if m.now.Digest != (v1.Hash{}) {
		c, err := m.Store.Get(ctx, m.target.ByDigest(m.now.Digest).String())
		if err != nil {
			return err
		}
		absent, err := manifest.Absent(c, m.job.entry.wanted())
		if err != nil {
			return err
		}
		if len(absent) == 0 {
			m.result.Digest, m.result.Was = m.now.Digest.String(), ""
			m.platforms(ctx, c)
			m.ends(Unchanged, "")
			return nil
		}
		why = "the target lacks " + platform.Keys(absent)
	}
	if m.DryRun {
		m.ends(Copied, "%s; would be built", why)
		return nil
	}
	var err error
	if m.chosen, err = m.pick(m.selected); err != nil {
		return err
	}
	return m.copy(ctx)
}

// listed reports whether the target has the tag. It uses the list of tags, which is read
// once for all moves to a repository. If the list cannot be read, it looks up the tag.
func (m *move) listed(ctx context.Context) (bool, error) {
	if at := m.target.Remote; !m.target.Local() && at.Digest == "" {
		tags, err := m.list(ctx, at.Repository)
		switch {
		case err == nil:
			return slices.Contains(tags, at.Tag), nil
		case errors.Is(err, manifest.ErrNotFound):
			return false, nil
		}
	}
	err := m.resolveTarget(ctx)
	return m.now.Digest != (v1.Hash{}), err
}

// recall loads a record into v and reports whether there is one.
func (r *round) recall(kind, key string, v any) bool {
	return r.State != nil && r.State.Load(kind, key, v)
}

// remember stores a record. A failure is only logged, since it costs no more than
// requests.
func (r *round) remember(ctx context.Context, kind, key string, v any) {
	if r.State == nil {
		return
	}
	if err := r.State.Store(kind, key, v); err != nil {
		r.Log.DebugContext(ctx, "not recorded", "err", err)
	}
}
