package mirror

import (
	"context"
	"strings"
	"sync"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
)

// This file finds entries with the same target. Without it two entries of a schedule
// would replace each other's image in every run.

// Claims record which entry writes to which target, so that two entries do not overwrite
// each other's images in turn. The zero value has no claims. A [Watcher] runs each entry
// on its own, so the runs of one plan share Claims. Claims are never released; a new plan
// begins with new ones. They are safe for concurrent use.
type Claims struct {
	mu   sync.Mutex
	held map[string]*job // that has claimed a target, by the target
}

// collision says that two images go to one target.
func collision(one, other string) error {
	return hint.New(hint.Usage, "give each its own target, for example with {{.Name}} and {{.Tag}}", "%s and %s have the same target", one, other)
}

// first claims the targets that are known without a request, in the order of the entries,
// so that the same entry wins in every run. Targets that depend on a list of tags or
// repositories, or on versions, are claimed when they are planned.
func (c *Claims) first(ctx context.Context, r *round, entries []*Entry) {
	for _, e := range entries {
		if e.Tags.patterned() || strings.ContainsAny(e.Image, globbing) || e.Program != "" {
			continue
		}
		var jobs []job
		err := guard.Do(func() (err error) { jobs, _, err = r.jobsOf(ctx, e); return err })
		if err != nil { // the run of the entry reports it
			continue
		}
		for i := range jobs {
			for _, target := range jobs[i].targets {
				_ = c.claim(target, &jobs[i]) // the move itself reports a collision
			}
		}
	}
}

// claim claims a target for a job. It fails if a job of another entry has claimed it.
// Collisions within an entry are found when its moves are made.
func (c *Claims) claim(target places.Reference, j *job) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := target.Key(j.source)
	if other, taken := c.held[key]; taken && other.entry.Name != j.entry.Name {
		return collision(j.source, other.source+" of entry "+other.entry.Name)
	}
	if c.held == nil {
		c.held = map[string]*job{}
	}
	c.held[key] = j
	return nil
}
