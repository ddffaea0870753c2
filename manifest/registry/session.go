package registry

import (
	"context"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A session is what one run has learnt about registries. It saves requests and is never
// needed for a correct result: other programs may change a registry at any time, and the
// registry's answer to a write decides. The zero value is empty. Its parts are safe for
// concurrent use; each has its own lock, and none is held during a request.
type session struct {
	exists existence
	tags   tagState
	hosts  capabilities

	writes      set[string] // repositories that this run writes to, by key
	badMirrors  set[string] // hosts that are no longer used as registry mirrors
	openUploads openUploads // upload sessions that Prepare opened
}

// A set is a set of keys. The zero value is empty. It is safe for concurrent use.
type set[K comparable] struct {
	mu sync.Mutex
	m  map[K]bool
}

// add adds a key.
func (s *set[K]) add(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[K]bool{}
	}
	s.m[key] = true
}

func (s *set[K]) has(key K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[key]
}

// remove removes a key and reports whether it was there. Of several callers at once only
// one gets true.
func (s *set[K]) remove(key K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer delete(s.m, key)
	return s.m[key]
}

// An origin is a blob at a host, whatever repository has it.
type origin struct {
	host string
	v1.Hash
}

// A contentKey is a blob or manifest in a repository. Registries manage access by
// repository, so content that one repository has is not known to be in another.
type contentKey struct {
	repository string
	v1.Hash
}

// at returns the key of a digest in r.
func (r repository) at(h v1.Hash) contentKey { return contentKey{r.key(), h} }

// An existence is what is known to exist in repositories, and what is known to be
// missing.
type existence struct {
	blobs     once.Memo[contentKey, struct{}] // stored or found in this run
	manifests once.Memo[contentKey, struct{}] // stored or found in this run
	missing   set[contentKey]                 // blobs whose HEAD was answered with 404; used once
	found     set[string]                     // manifests that existed at the first request
	listed    set[string]                     // referrers that are in the list of their subject
	uploads   once.Flight[origin, struct{}]   // blobs that are being uploaded to a host

	mu           sync.Mutex                         // guards the maps below
	origins      map[origin][]repository            // repositories that have a blob
	subjectLocks map[contentKey]transport.Semaphore // for changes of a subject's list of referrers
	lists        map[contentKey][]v1.Descriptor     // referrers of a subject that this run has listed
}

// referrersListed returns the referrers of a subject that this run has put into its list,
// after adding more.
func (e *existence) referrersListed(subject contentKey, more ...v1.Descriptor) []v1.Descriptor {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lists == nil {
		e.lists = map[contentKey][]v1.Descriptor{}
	}
	e.lists[subject] = append(e.lists[subject], more...)
	return slices.Clone(e.lists[subject])
}

// addOrigin records that r has a blob, from which other repositories of the host may
// mount it. The digest is the key and not the layer's Go value, so this also finds a
// layer that a caller has wrapped or copied into another image.
func (e *existence) addOrigin(r repository, h v1.Hash) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.origins == nil {
		e.origins = map[origin][]repository{}
	}
	at := origin{r.host.Name, h}
	if !slices.ContainsFunc(e.origins[at], func(o repository) bool { return o.name == r.name }) {
		e.origins[at] = append(e.origins[at], r)
	}
}

// addImage records that r, which has the manifest of an image, has its blobs.
func (e *existence) addImage(r repository, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, b := range append(slices.Clone(m.Layers), m.Config) {
		e.addOrigin(r, b.Digest)
	}
	return nil
}

// mountSource returns another repository of r's host that has h and from which a mount
// into r has not failed in this run. It takes the lock of noMount while it holds that of
// origins; no other function takes both.
func (s *session) mountSource(r repository, h v1.Hash) (repository, bool) {
	s.exists.mu.Lock()
	defer s.exists.mu.Unlock()
	for _, o := range s.exists.origins[origin{r.host.Name, h}] {
		if o.name != r.name && !s.hosts.noMount.has(o.key()) && !s.hosts.noMount.has(o.key()+" "+r.name) {
			return o, true
		}
	}
	return repository{}, false
}

// subjectLock returns the lock for changes of a subject's list of referrers. It is a
// semaphore with one permit, because waiting for it must end with the context.
func (e *existence) subjectLock(p contentKey) transport.Semaphore {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subjectLocks == nil {
		e.subjectLocks = map[contentKey]transport.Semaphore{}
	}
	if e.subjectLocks[p] == nil {
		e.subjectLocks[p] = transport.NewSemaphore(1)
	}
	return e.subjectLocks[p]
}

// onceARun runs work unless it has succeeded for key before in this run. Callers with one
// key wait for each other; a failure is not remembered.
func onceARun(ctx context.Context, m *once.Memo[contentKey, struct{}], key contentKey, work func() error) error {
	_, err := transport.Share(ctx, m.Ensure, key, func() (struct{}, error) { return struct{}{}, work() })
	return err
}

// A tagState is what tags name, as far as this run has asked.
type tagState struct {
	resolving  once.Flight[string, v1.Descriptor]
	empty      set[string] // repositories where a tag to be written names nothing
	unanswered set[string] // tags to be written, for which the registry refuses to say what they name

	mu sync.Mutex
	// names has what a tag names, by reference. The zero descriptor means nothing.
	names map[string]v1.Descriptor
}

// get returns what a tag named when this run asked for it last, and whether it did.
func (t *tagState) get(r reference) (v1.Descriptor, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.names[r.String()]
	return d, ok
}

// set records what a tag names.
func (t *tagState) set(r reference, d v1.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names == nil {
		t.names = map[string]v1.Descriptor{}
	}
	t.names[r.String()] = d
}

// forget removes what is known about a tag that may have moved.
func (t *tagState) forget(r reference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.names, r.String())
}

// capabilities are what hosts and repositories support, as their answers have shown.
type capabilities struct {
	// noMount has the sources whose cross-repository mount failed. The key is the source,
	// or source and target separated by a space.
	noMount        set[string]
	referrersAPI   set[string] // repositories that have the API, and hosts with such a repository
	noReferrersAPI set[string] // repositories, and whole hosts, without the API

	mu     sync.Mutex
	chunks map[string]int64 // bytes, by host; a missing host accepts whole blobs
}

// hasAPI records that r has the referrers API.
func (c *capabilities) hasAPI(r repository) {
	c.referrersAPI.add(r.key())
	c.referrersAPI.add(r.host.Name)
}

// lacksAPI records that r does not have the referrers API, and with allOfHost that the
// host does not.
func (c *capabilities) lacksAPI(r repository, allOfHost bool) {
	c.noReferrersAPI.add(r.key())
	if allOfHost {
		c.noReferrersAPI.add(r.host.Name)
	}
}

// api reports whether r has the referrers API, and whether that is known. One host may be
// several registries behind a proxy, so what is known about the repository comes first,
// and a host without the API counts only if none of its repositories has it.
func (c *capabilities) api(r repository) (has, known bool) {
	switch {
	case c.referrersAPI.has(r.key()):
		return true, true
	case c.noReferrersAPI.has(r.key()):
		return false, true
	}
	return false, c.noReferrersAPI.has(r.host.Name) && !c.referrersAPI.has(r.host.Name)
}

// chunk returns the size of chunks for host in bytes, or 0 if blobs are sent whole.
func (c *capabilities) chunk(host string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chunks[host]
}

// shrink reduces the size of chunks for host to size for the rest of the run. It never
// increases it.
func (c *capabilities) shrink(host string, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chunks == nil {
		c.chunks = map[string]int64{}
	}
	if now := c.chunks[host]; now == 0 || size < now {
		c.chunks[host] = size
	}
}

// scopes returns the scopes of a token for r: pull, and push too if the run writes to r.
// All requests of a writing run then have equal scopes, and one token is enough.
func (c *Client) scopes(r repository) []string {
	if c.session.writes.has(r.key()) {
		return []string{"repository:" + r.name + ":pull,push"}
	}
	return []string{"repository:" + r.name + ":pull"}
}

// writing records that the run writes to r. Every operation that writes calls it before
// its first request, since the scopes and the use of mirrors depend on it.
func (c *Client) writing(r repository) { c.session.writes.add(r.key()) }
