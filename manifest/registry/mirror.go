package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/mabuild/mabuild/manifest"
)

// read sends a request that only reads, to the mirrors first and then to the host
// itself. A mirror that does not have it or does not answer is passed by; a
// repository that is written to is read where it is written.
func (c *Client) read(ctx context.Context, r repository, k *request) (*http.Response, error) {
	if r.name == "" { // about the registry itself
		k.from = r.host
		return c.transport.do(ctx, k)
	}
	mirrors := r.host.Mirrors
	if c.session.writes.has(r.key()) {
		mirrors = nil
	}
	for _, mirror := range mirrors {
		host, path, err := splitMirror(mirror)
		if err != nil {
			return nil, err
		}
		h := c.transport.host(host)
		if h == r.host || h.isDead() {
			continue
		}
		there := k.through(h, r, path)
		resp, err := c.transport.do(ctx, there)
		if err == nil {
			k.from = h
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if s := statusOf(err); s == 0 && !isThrottled(err) || s >= http.StatusInternalServerError {
			h.bury()
		}
		c.transport.log.Debug("skipping a registry mirror", "mirror", mirror, "err", err)
	}
	k.scopes, k.from = c.scopes(r), r.host
	return c.transport.do(ctx, k)
}

// splitMirror reads host[:port], or host[:port]/path below which the mirror has the
// repositories. Its error is a [name.ErrBadName].
func splitMirror(text string) (host, path string, err error) {
	host, path, found := strings.Cut(text, "/")
	if checkHost(host) != nil || found && path == "" {
		return "", "", badName("the registry mirror %s is not host[:port] or host[:port]/path", text)
	}
	for element := range strings.SplitSeq(path, "/") {
		if found && !elementPattern.MatchString(element) {
			return "", "", badName("the registry mirror %s is not host[:port] or host[:port]/path", text)
		}
	}
	return host, path, nil
}

// through makes the request that asks a mirror in place of the host of r: below path, and
// with the host in the query as ns, which tells a mirror of several registries which one
// is meant (containerd, docs/hosts.md).
func (k *request) through(h *host, r repository, path string) *request {
	there := *k
	there.host, there.policy, there.header = h, noRetry, k.header.Clone()
	if path != "" {
		there.repo, there.path = path+"/"+r.name, path+"/"+k.path
	}
	there.query = maps.Clone(k.query)
	if there.query == nil {
		there.query = url.Values{}
	}
	there.query.Set("ns", r.host.name)
	there.scopes = []string{"repository:" + cmp.Or(there.repo, r.name) + ":pull"}
	return &there
}

// A misled error is of content that a mirror gave and that is not what was asked
// for. Asked again, the next place answers.
type misled struct{ error }

func (m misled) Unwrap() error { return m.error }

// mirrorMismatch marks err, if it contradicts its claim and came from a mirror, which is
// then asked no more.
func (c *Client) mirrorMismatch(r repository, from *host, err error) error {
	if from == nil || from == r.host || !errors.Is(err, manifest.ErrMismatch) {
		return err
	}
	from.bury()
	c.transport.log.Warn("a registry mirror returned invalid content and is no longer used", "mirror", from.name, "err", err)
	return misled{err}
}

func isMisled(err error) bool { return errors.As(err, new(misled)) }

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
