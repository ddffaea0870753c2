package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
)

// How long an answer is used. The image of a digest never changes. A tag is looked up again
// after fresh, in the background: the old answer is used until the new one is there.
const (
	fresh      = 10 * time.Minute
	failed     = 30 * time.Second
	maxImages  = 20_000 // remembered
	maxLookups = 64     // at once
	lookupTime = time.Minute
)

// A Pull is an image, and the Secrets with which pods of a namespace pull it: their names,
// separated by commas. Pods with other Secrets may see another image, or none.
type Pull struct{ Image, Namespace, Secrets string }

// A Cache remembers the platforms of images. It is safe for concurrent use.
type Cache struct {
	// Lookup reads the platforms of an image. It runs in a goroutine of its own and outlives
	// the review that asked for it.
	Lookup func(ctx context.Context, p Pull) ([]ocispec.Platform, error)
	// Namespaces are those whose pull secrets are used; pods of others name none here.
	Namespaces []string
	Now        func() time.Time // nil means time.Now

	mu      sync.Mutex
	entries map[Pull]*entry
	running int
}

// An entry is what is known about an image. The fields are guarded by the mutex of the
// cache; done is closed when the first lookup ends.
type entry struct {
	have    []ocispec.Platform
	err     error
	at      time.Time // of the last lookup that ended; zero before
	done    chan struct{}
	running bool
	used    time.Time
}

func (c *Cache) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Supported returns the platforms that all images of a pod in a namespace have. It waits for
// lookups until ctx ends.
func (c *Cache) Supported(ctx context.Context, namespace string, w *kube.Workload) ([]ocispec.Platform, error) {
	var secrets Pull
	if names := w.PullSecrets(); len(names) > 0 && slices.Contains(c.Namespaces, namespace) {
		secrets = Pull{Namespace: namespace, Secrets: strings.Join(names, ",")}
	}
	var entries []*entry
	var refs []string
	for _, one := range w.Containers {
		if w.DataOnly(one) {
			continue
		}
		if !kube.IsReference(one.Image) {
			return nil, fmt.Errorf("%q is not the name of an image", one.Image)
		}
		e, err := c.enter(Pull{one.Image, secrets.Namespace, secrets.Secrets})
		if err != nil {
			return nil, err
		}
		entries, refs = append(entries, e), append(refs, one.Image)
	}
	var lists [][]ocispec.Platform
	for i, e := range entries {
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("the platforms of %s are not known yet", refs[i])
		}
		c.mu.Lock()
		have, err := e.have, e.err
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		lists = append(lists, have)
	}
	return kube.Common(lists), nil
}

// enter returns the entry of an image, and begins a lookup if it has none or an old one.
func (c *Cache) enter(p Pull) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	e := c.entries[p]
	if e == nil {
		if c.running >= maxLookups {
			return nil, fmt.Errorf("the platforms of %s are not known, and %d lookups run already", p.Image, maxLookups)
		}
		c.evict()
		e = &entry{done: make(chan struct{})}
		c.entries[p] = e
	}
	e.used = now
	if !e.running && c.running < maxLookups && e.old(p.Image, now) {
		e.running = true
		c.running++
		go c.refresh(p, e) //nolint:contextcheck // it outlives the review
	}
	return e, nil
}

// old reports whether an entry has to be looked up.
func (e *entry) old(ref string, now time.Time) bool {
	switch {
	case e.at.IsZero():
		return true
	case e.err != nil:
		return now.Sub(e.at) > failed || now.Before(e.at)
	}
	return imageref.Cut(ref).Digest == "" && (now.Sub(e.at) > fresh || now.Before(e.at))
}

// evict makes room for one more image: the one that was not used for longest leaves.
func (c *Cache) evict() {
	if c.entries == nil {
		c.entries = map[Pull]*entry{}
	}
	if len(c.entries) < maxImages {
		return
	}
	var oldest Pull
	for p, e := range c.entries {
		if !e.running && (oldest == Pull{} || e.used.Before(c.entries[oldest].used)) {
			oldest = p
		}
	}
	delete(c.entries, oldest)
}

// refresh reads the platforms of one image. A failure does not replace platforms that were
// known: a registry that is down changes no image.
func (c *Cache) refresh(p Pull, e *entry) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime) //nolint:forbidigo // it outlives the review
	defer cancel()
	var have []ocispec.Platform
	err := guard.Do(func() (err error) { have, err = c.Lookup(ctx, p); return err })
	c.mu.Lock()
	defer c.mu.Unlock()
	first := e.at.IsZero()
	e.at, e.running = c.now(), false
	c.running--
	if err == nil || e.have == nil {
		e.have, e.err = have, err
	}
	if first {
		close(e.done)
	}
}
