package registry

import (
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/once"
)

// session is what one run has learnt of registries. Its zero value has learnt nothing.
type session struct {
	exists existence
	tags   tagState
	hosts  capabilities

	writes      set[string] // repositories that will be written to
	openUploads openUploads
}

// A set is a set of keys. The zero value is empty.
type set[K comparable] struct {
	mu sync.Mutex
	m  map[K]bool
}

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

// remove removes a key, and reports whether it was there.
func (s *set[K]) remove(key K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer delete(s.m, key)
	return s.m[key]
}

// An origin is a blob at a host.
type origin struct {
	host string
	v1.Hash
}

// A contentKey is a blob or manifest in a repository.
type contentKey struct {
	repository string
	v1.Hash
}

func (r repository) at(h v1.Hash) contentKey { return contentKey{r.key(), h} }

// existence is what is known to be in repositories, and what is not.
type existence struct {
	blobs     once.Memo[contentKey, struct{}] // stored or seen
	manifests once.Memo[contentKey, struct{}] // as above
	missing   set[contentKey]                 // blobs whose HEAD was just answered with 404
	found     set[string]                     // manifests that existed at the first request
	listed    set[string]                     // referrers that are in the list of their subject
	uploads   once.Flight[origin, struct{}]   // blobs on their way to a host

	mu           sync.Mutex
	origins      map[origin][]repository  // where a blob is, as a manifest there says
	subjectLocks map[contentKey]semaphore // for changes of a subject's list of referrers
}

// addOrigin remembers that r has a blob, from where other repositories of the host
// may mount it. This works for a layer however it is wrapped on its way back.
func (e *existence) addOrigin(r repository, h v1.Hash) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.origins == nil {
		e.origins = map[origin][]repository{}
	}
	at := origin{r.host.name, h}
	if !slices.ContainsFunc(e.origins[at], func(o repository) bool { return o.name == r.name }) {
		e.origins[at] = append(e.origins[at], r)
	}
}

// mountSource returns another repository of r's host that has h, and from which a mount
// into r has not failed.
func (s *session) mountSource(r repository, h v1.Hash) (repository, bool) {
	s.exists.mu.Lock()
	defer s.exists.mu.Unlock()
	for _, o := range s.exists.origins[origin{r.host.name, h}] {
		if o.name != r.name && !s.hosts.noMount.has(o.key()) && !s.hosts.noMount.has(o.key()+" "+r.name) {
			return o, true
		}
	}
	return repository{}, false
}

// subjectLock returns the lock for changes of the list of referrers of the subject p.
func (e *existence) subjectLock(p contentKey) semaphore {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subjectLocks == nil {
		e.subjectLocks = map[contentKey]semaphore{}
	}
	if e.subjectLocks[p] == nil {
		e.subjectLocks[p] = newSemaphore(1)
	}
	return e.subjectLocks[p]
}

// tagState is what tags name.
type tagState struct {
	resolving  once.Flight[string, v1.Descriptor]
	empty      set[string] // repositories where a tag to be written names nothing
	unanswered set[string] // tags to be written, for which the registry refuses to say what they name

	mu    sync.Mutex
	names map[string]v1.Descriptor // by tag; the zero one: nothing
}

// get returns what the tag named when it was last asked for in this run, if it was.
func (t *tagState) get(r reference) (v1.Descriptor, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.names[r.String()]
	return d, ok
}

func (t *tagState) set(r reference, d v1.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names == nil {
		t.names = map[string]v1.Descriptor{}
	}
	t.names[r.String()] = d
}

// forget forgets what a tag named: it may have moved.
func (t *tagState) forget(r reference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.names, r.String())
}

// capabilities are what hosts and repositories support.
type capabilities struct {
	noMount        set[string] // sources whose cross-repository mount failed; the key is the source, or source and target
	referrersAPI   set[string] // repositories that have it, and hosts where one has
	noReferrersAPI set[string] // repositories, and hosts, without it

	mu     sync.Mutex
	chunks map[string]int64 // size of chunks, by host; a host that is missing takes blobs whole
}

// hasAPI notes that r has the referrers API.
func (c *capabilities) hasAPI(r repository) {
	c.referrersAPI.add(r.key())
	c.referrersAPI.add(r.host.name)
}

// lacksAPI notes that r has no referrers API, or that no repository of its host has.
func (c *capabilities) lacksAPI(r repository, allOfHost bool) {
	c.noReferrersAPI.add(r.key())
	if allOfHost {
		c.noReferrersAPI.add(r.host.name)
	}
}

// api reports whether r has the referrers API, if that is known: some hosts are
// several registries. What one repository has counts more than what a host has not.
func (c *capabilities) api(r repository) (has, known bool) {
	switch {
	case c.referrersAPI.has(r.key()):
		return true, true
	case c.noReferrersAPI.has(r.key()):
		return false, true
	}
	return false, c.noReferrersAPI.has(r.host.name) && !c.referrersAPI.has(r.host.name)
}

// chunk returns the size of chunks for host, 0 if a blob is sent whole.
func (c *capabilities) chunk(host string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chunks[host]
}

// shrink makes the chunks for host as small as size, for the rest of the run.
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

// scopes returns what a token must allow for r: pulling, and pushing too once
// anything there is to be written, so that one token does for all of it.
func (c *Client) scopes(r repository) []string {
	if c.session.writes.has(r.key()) {
		return []string{"repository:" + r.name + ":pull,push"}
	}
	return []string{"repository:" + r.name + ":pull"}
}

// writing notes that r will be written to.
func (c *Client) writing(r repository) { c.session.writes.add(r.key()) }
