package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"

	"github.com/mabuild/mabuild/manifest"
)

// read sends a request that only reads, first to the registry mirrors and then to the
// registry. A mirror that lacks the content or does not answer is skipped. A repository
// that this run writes to is read from the registry itself: a mirror may not have yet
// what was written. k.from is set to the host that answered.
func (c *Client) read(ctx context.Context, r repository, req *transport.Request) (*http.Response, error) {
	if r.name == "" { // a request about the registry itself
		req.From = r.host
		return c.transport.Do(ctx, req)
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
		h := c.transport.Registry(host)
		if h == r.host || c.session.badMirrors.has(h.Name) {
			continue
		}
		there := through(req, h, r, path)
		resp, err := c.transport.Do(ctx, there)
		if err == nil {
			req.From = h
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if s := transport.StatusOf(err); s == 0 && !transport.Throttled(err) || s >= http.StatusInternalServerError {
			c.session.badMirrors.add(h.Name)
		}
		c.transport.Log.Debug("skipping a registry mirror", "mirror", mirror, "err", err)
	}
	req.Scopes, req.From = c.scopes(r), r.host
	return c.transport.Do(ctx, req)
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

// through returns req as a request to a mirror in place of the host of r. The query parameter
// ns has the name of the registry, by which a mirror of several registries finds the
// right one (containerd, docs/hosts.md). A mirror is tried once: the next source is
// better than a wait. Its token needs the repository's name at the mirror.
func through(req *transport.Request, h *transport.Registry, r repository, path string) *transport.Request {
	there := *req
	there.Host, there.Policy, there.Header = h, req.Policy|transport.NoRetry, req.Header.Clone()
	if path != "" {
		there.Repository, there.Path = path+"/"+r.name, path+"/"+req.Path
	}
	there.Query = maps.Clone(req.Query)
	if there.Query == nil {
		there.Query = url.Values{}
	}
	there.Query.Set("ns", r.host.Name)
	there.Scopes = []string{"repository:" + cmp.Or(there.Repository, r.name) + ":pull"}
	return &there
}

// A mirrorError marks invalid content of a mirror. The caller reads again, and the next
// source answers. The loops that do so end, since each round excludes one mirror.
type mirrorError struct{ error }

func (m mirrorError) Unwrap() error { return m.error }

// mirrorMismatch returns err as a mirrorError if content from a mirror contradicts its
// digest, and excludes the mirror for the rest of the run. Any other err, also nil, is
// returned as it is.
func (c *Client) mirrorMismatch(r repository, from *transport.Registry, err error) error {
	if from == nil || from == r.host || !errors.Is(err, manifest.ErrMismatch) {
		return err
	}
	c.session.badMirrors.add(from.Name)
	c.transport.Log.Warn("a registry mirror returned invalid content and is no longer used", "mirror", from.Name, "err", err)
	return mirrorError{err}
}

func isMirrorMismatch(err error) bool { return errors.As(err, new(mirrorError)) }
