package mirror

import (
	"context"
	"strings"
	"sync"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
)

// Claims are who goes to which target. Its zero value is nobody.
type Claims struct {
	mu   sync.Mutex
	held map[string]holder // by target
}

// A holder is what goes to a target.
type holder struct{ entry, source string }

// collision says that two images go to one target.
func collision(one, other string) error {
	return hint.New(hint.Usage, "give each its own target, for example with {{.Name}} and {{.Tag}}", "%s and %s have the same target", one, other)
}

// first claims the targets that are known without asking anybody, in the order of
// the entries, so that it is always the same one that comes too late.
func (c *Claims) first(ctx context.Context, r *round, entries []*Entry) {
	for _, e := range entries {
		if e.Tags.patterned() || strings.ContainsAny(e.Image, globbing) || e.Program != "" {
			continue
		}
		var jobs []job
		err := guard.Do(func() (err error) { jobs, _, err = r.plan(ctx, e); return err })
		if err != nil { // the entry itself tells it
			continue
		}
		for _, j := range jobs {
			for _, target := range j.targets {
				_ = c.claim(target, e.Name, j.source) // who comes too late is told later
			}
		}
	}
}

// claim claims a target for an entry, whose images must not collide themselves.
func (c *Claims) claim(target Ref, entry, source string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := target.key(source)
	if other, taken := c.held[key]; taken && other.entry != entry {
		return collision(source, other.source+" of entry "+other.entry)
	}
	if c.held == nil {
		c.held = map[string]holder{}
	}
	c.held[key] = holder{entry, source}
	return nil
}
