package registry

import (
	"context"
	"net/http"
)

// read sends a call that only reads, to the mirrors first and then to the host
// itself. A mirror that does not have it or does not answer is passed by; a
// repository that is written to is read where it is written.
func (c *Client) read(ctx context.Context, r repository, k *call) (*http.Response, error) {
	mirrors := r.host.Mirrors
	if c.known.flagged(&c.known.writes, r.key()) {
		mirrors = nil
	}
	for _, mirror := range mirrors {
		h := c.wire.host(mirror)
		if h == r.host || h.isDead() {
			continue
		}
		there := *k
		there.host, there.once, there.header = h, true, k.header.Clone()
		there.scopes = []string{"repository:" + r.name + ":pull"}
		resp, err := c.wire.do(ctx, &there)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if s := statusOf(err); s == 0 || s >= http.StatusInternalServerError {
			h.bury()
		}
		c.wire.log.Debug("going past a mirror", "mirror", h.name, "err", err)
	}
	k.scopes = c.scopes(r)
	return c.wire.do(ctx, k)
}

func (h *host) isDead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

func (h *host) bury() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
}
