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

// read sends a request that only reads, first to the registry mirrors and then to the
// registry. A mirror that lacks the content or does not answer is skipped. A repository
// that this run writes to is read from the registry itself: a mirror may not have yet
// what was written. k.from is set to the host that answered.
func (c *Client) read(ctx context.Context, r repository, k *request) (*http.Response, error) {
	if r.name == "" { // a request about the registry itself
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
			h.exclude()
		}
		c.transport.log.Debug("skipping a registry mirror", "mirror", mirror, "err", err)
	}
	k.scopes, k.from = c.scopes(r), r.host
	return c.transport.do(ctx, k)
}

// splitMirror parses host[:port] or host[:port]/path, where path is the prefix of the
// mirror's repositories. The error is a [name.ErrBadName].
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

// through returns the request to a mirror in place of the host of r. The query parameter
// ns has the name of the registry, by which a mirror of several registries finds the
// right one (containerd, docs/hosts.md). A mirror is tried once: the next source is
// better than a wait. Its token needs the repository's name at the mirror.
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

// A mirrorError marks invalid content of a mirror. The caller reads again, and the next
// source answers. The loops that do so end, since each round excludes one mirror.
type mirrorError struct{ error }

func (m mirrorError) Unwrap() error { return m.error }

// mirrorMismatch returns err as a mirrorError if content from a mirror contradicts its
// digest, and excludes the mirror for the rest of the run. Any other err, also nil, is
// returned as it is.
func (c *Client) mirrorMismatch(r repository, from *host, err error) error {
	if from == nil || from == r.host || !errors.Is(err, manifest.ErrMismatch) {
		return err
	}
	from.exclude()
	c.transport.log.Warn("a registry mirror returned invalid content and is no longer used", "mirror", from.name, "err", err)
	return mirrorError{err}
}

func isMirrorMismatch(err error) bool { return errors.As(err, new(mirrorError)) }

// isDead reports whether the host is excluded as a mirror.
func (h *host) isDead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.excluded
}

// exclude excludes the host as a mirror for the rest of the run. It is still used as a
// registry.
func (h *host) exclude() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.excluded = true
}
