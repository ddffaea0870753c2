package registry

import (
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/once"
)

// session is what a run knows of the registries it talks to. Its zero value knows
// nothing.
type session struct {
	blobs     once.Memo[contentKey, struct{}] // that are there: stored or seen
	manifests once.Memo[contentKey, struct{}]

	mu             sync.Mutex
	origins        map[origin][]repository  // where a blob is, as a manifest there says
	writes         map[string]bool          // repositories that will be written to
	emptyTag       map[string]bool          // repositories where a tag to be written names nothing
	absent         map[contentKey]bool      // blobs that were asked for and are not there
	current        map[string]v1.Descriptor // what a tag names; the zero one: nothing
	resolving      once.Flight[string, v1.Descriptor]
	uploads        once.Flight[origin, struct{}] // blobs on their way to a host
	openUploads    map[string][]*uploadSession   // uploads that were opened early
	chunks         map[string]int64              // how large a chunk is for a host that takes no blob in one piece
	noMount        map[string]bool               // repositories from where nothing was mounted, or not into another one
	noReferrersAPI map[string]bool               // repositories, and hosts, that do not know the referrers API

	unanswered   map[string]bool          // tags to be written of which the registry does not say what they name
	lists        map[string]bool          // repositories that do, and hosts that have one
	found        map[string]bool          // manifests that were there when they were first asked for
	listed       map[string]bool          // referrers that are in the list of their subject
	subjectLocks map[contentKey]semaphore // to change the list of a subject
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

// addOrigin remembers that r has a blob, from where other repositories of the host
// may mount it. This works for a layer however it is wrapped on its way back.
func (k *session) addOrigin(r repository, h v1.Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.origins == nil {
		k.origins = map[origin][]repository{}
	}
	at := origin{r.host.name, h}
	if !slices.ContainsFunc(k.origins[at], func(o repository) bool { return o.name == r.name }) {
		k.origins[at] = append(k.origins[at], r)
	}
}

// mountSource returns another repository of r's host that has h.
func (k *session) mountSource(r repository, h v1.Hash) (repository, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.origins[origin{r.host.name, h}] {
		if o.name != r.name && !k.noMount[o.key()] && !k.noMount[o.key()+" "+r.name] {
			return o, true
		}
	}
	return repository{}, false
}

// flag sets a mark in one of the maps of k.
func (k *session) flag(m *map[string]bool, key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if *m == nil {
		*m = map[string]bool{}
	}
	(*m)[key] = true
}

func (k *session) flagged(m *map[string]bool, key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return (*m)[key]
}

// hasAPI notes that r has the referrers API.
func (k *session) hasAPI(r repository) {
	k.flag(&k.lists, r.key())
	k.flag(&k.lists, r.host.name)
}

// lacksAPI notes that r has no referrers API, or that no repository of its host has.
func (k *session) lacksAPI(r repository, allOfHost bool) {
	k.flag(&k.noReferrersAPI, r.key())
	if allOfHost {
		k.flag(&k.noReferrersAPI, r.host.name)
	}
}

// api reports whether r has the referrers API, if that is known: some hosts are
// several registries. What one repository has counts more than what a host has not.
func (k *session) api(r repository) (has, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.lists[r.key()]:
		return true, true
	case k.noReferrersAPI[r.key()]:
		return false, true
	}
	return false, k.noReferrersAPI[r.host.name] && !k.lists[r.host.name]
}

// names returns what the tag was seen to name in this run, if it was asked.
func (k *session) names(r reference) (v1.Descriptor, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.current[r.String()]
	return d, ok
}

// name remembers what a tag names.
func (k *session) name(r reference, d v1.Descriptor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		k.current = map[string]v1.Descriptor{}
	}
	k.current[r.String()] = d
}

// forget forgets what a tag named, which may have moved.
func (k *session) forget(r reference) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.current, r.String())
}

// setMissing remembers that a blob was just asked for and is not at p.
func (k *session) setMissing(p contentKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.absent == nil {
		k.absent = map[contentKey]bool{}
	}
	k.absent[p] = true
}

// wasMissing reports whether lacks was told so of p, once: what is found out after
// that is news.
func (k *session) wasMissing(p contentKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer delete(k.absent, p)
	return k.absent[p]
}

// chunk returns how large a chunk for host is, 0 where a blob goes in one piece.
func (k *session) chunk(host string) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chunks[host]
}

// shrink makes the chunks for host as small as size, for the rest of the run.
func (k *session) shrink(host string, size int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chunks == nil {
		k.chunks = map[string]int64{}
	}
	if now := k.chunks[host]; now == 0 || size < now {
		k.chunks[host] = size
	}
}

// subjectLock returns the semaphore for those who change the list of referrers of the subject p.
func (k *session) subjectLock(p contentKey) semaphore {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.subjectLocks == nil {
		k.subjectLocks = map[contentKey]semaphore{}
	}
	if k.subjectLocks[p] == nil {
		k.subjectLocks[p] = newSemaphore(1)
	}
	return k.subjectLocks[p]
}

// scopes returns what a token must allow for r: pulling, and pushing too once
// anything there is to be written, so that one token does for all of it.
func (c *Client) scopes(r repository) []string {
	if c.session.flagged(&c.session.writes, r.key()) {
		return []string{"repository:" + r.name + ":pull,push"}
	}
	return []string{"repository:" + r.name + ":pull"}
}

// writing notes that r will be written to.
func (c *Client) writing(r repository) { c.session.flag(&c.session.writes, r.key()) }
