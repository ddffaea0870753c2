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
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A source is where the content of a repository is read: a registry mirror, or the
// registry itself.
type source struct {
	client *Client
	repo   repository
	host   *transport.Registry
	path   string // the prefix of the repositories of a mirror; may be empty
}

// read sends a request that only reads to the sources of r, first the registry mirrors and
// then the registry, until one answers and use accepts the answer. A mirror that lacks the
// content or does not answer is skipped. If use returns [manifest.ErrMismatch] for a
// mirror, the mirror is excluded for the rest of the run. Any other error of use ends the
// read, and so does an error of the registry itself.
//
// use gets the source that answered, and an answer whose body it owns if it accepts it.
// A repository that this run writes to is read from the registry itself: a mirror may not
// have yet what was written. So is what is about the registry and no repository.
func (c *Client) read(ctx context.Context, r repository, req *transport.Request, use func(source, *http.Response) error) error {
	mirrors := r.host.Mirrors
	if r.name == "" || c.session.writes.has(r.key()) {
		mirrors = nil
	}
	for _, mirror := range mirrors {
		host, path, err := splitMirror(mirror)
		if err != nil {
			return err
		}
		s := source{client: c, repo: r, host: c.transport.Registry(host), path: path}
		if !s.isMirror() || c.session.badMirrors.has(s.host.Name) {
			continue
		}
		answered, err := s.read(ctx, req, use)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !answered:
			s.skip(mirror, err)
		case !isMirrorMismatch(s.mismatch(err)):
			return err
		}
	}
	_, err := source{client: c, repo: r, host: r.host}.read(ctx, req, use)
	return err
}

// read sends a request to s alone and calls use with the answer.
func (s source) read(ctx context.Context, req *transport.Request, use func(source, *http.Response) error) (answered bool, err error) {
	resp, err := s.client.transport.Do(ctx, s.request(req))
	if err != nil {
		return false, err
	}
	if err := use(s, resp); err != nil {
		_ = resp.Body.Close()
		return true, err
	}
	return true, nil
}

// isMirror reports whether s is not the registry itself.
func (s source) isMirror() bool { return s.host != s.repo.host }

// request returns req as it is sent to s. The query parameter ns has the name of the
// registry, by which a mirror of several registries finds the right one (containerd,
// docs/hosts.md). A mirror is tried once: the next source is better than a wait. Its token
// needs the repository's name at the mirror.
func (s source) request(req *transport.Request) *transport.Request {
	if !s.isMirror() {
		if s.repo.name != "" {
			req.Scopes = s.client.scopes(s.repo)
		}
		return req
	}
	there := *req
	there.Registry, there.Policy, there.Header = s.host, req.Policy|transport.NoRetry, req.Header.Clone()
	if s.path != "" {
		there.Repository, there.Path = s.path+"/"+s.repo.name, s.path+"/"+req.Path
	}
	there.Query = maps.Clone(req.Query)
	if there.Query == nil {
		there.Query = url.Values{}
	}
	there.Query.Set("ns", s.repo.host.Name)
	there.Scopes = []string{"repository:" + cmp.Or(there.Repository, s.repo.name) + ":pull"}
	return &there
}

// skip logs that a mirror did not answer a request, and excludes it if it may answer none.
func (s source) skip(mirror string, err error) {
	if status := transport.StatusOf(err); status == 0 && !transport.Throttled(err) || status >= http.StatusInternalServerError {
		s.client.session.badMirrors.add(s.host.Name)
	}
	s.client.transport.Log.Debug("skipping a registry mirror", "mirror", mirror, "err", err)
}

// mismatch returns err as a mirrorError if content of a mirror contradicts its digest or
// form, and excludes the mirror for the rest of the run. Any other err is returned as it
// is.
func (s source) mismatch(err error) error {
	if !s.isMirror() || !errors.Is(err, manifest.ErrMismatch) {
		return err
	}
	s.client.session.badMirrors.add(s.host.Name)
	s.client.transport.Log.Warn("a registry mirror returned invalid content and is no longer used", "mirror", s.host.Name, "err", err)
	return mirrorError{err}
}

// A mirrorError marks invalid content of a mirror. The mirror is excluded, so whoever
// reads the content again gets it from the next source.
type mirrorError struct{ error }

func (m mirrorError) Unwrap() error { return m.error }

func isMirrorMismatch(err error) bool { return errors.As(err, new(mirrorError)) }

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
