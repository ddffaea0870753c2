package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// The bounds of a listing. A registry could otherwise send pages without end.
const (
	pageSize  = 1000 // names; Amazon ECR refuses more
	smallPage = 100  // names, for a registry that refuses pageSize
	maxPages  = 10_000
	maxNames  = 128 << 20 // bytes of all names
	nameCost  = 64        // bytes that each name counts in addition, for its memory
)

// Tags lists the tags of a repository, page by page, in the registry's order
// (distribution-spec, "Listing Tags"). Each tag occurs once. A repository that does not
// exist is [manifest.ErrNotFound]. A listing that cannot be read to its end is an error,
// never a shorter list.
func (c *Client) Tags(ctx context.Context, repo string) ([]string, error) {
	c.start()
	parsed, err := name.NewRepository(repo)
	if err != nil {
		return nil, cleaned(err)
	}
	if err := checkName(parsed, ""); err != nil {
		return nil, err
	}
	r := c.repository(parsed)
	return listNames(r.key()+": tags", func(query url.Values) ([]string, http.Header, error) {
		req := r.request(http.MethodGet, "tags/list")
		req.Query, req.NotFound = query, manifest.ErrNotFound
		req.Want = []int{http.StatusOK}
		return c.readPage(ctx, r, req)
	})
}

// A pager follows the links between the pages of one listing and detects a listing
// without an end.
type pager struct {
	what  string          // the listing, for errors
	asked map[string]bool // the encoded queries of the pages so far
	count int             // pages so far
}

// follow returns the query of the page after the one with header h, or nil at the end. A
// link that does not parse and a link to an earlier page are errors: what was read is not
// the whole listing.
func (p *pager) follow(h http.Header) (url.Values, error) {
	next, broken := transport.NextPage(h)
	switch {
	case broken:
		return nil, mismatch("%s: the link to the next page is invalid: %s", p.what, transport.Clean(h.Get("Link")))
	case next == nil:
		return nil, nil
	case p.asked[next.Encode()]:
		return nil, mismatch("%s: the link to the next page leads back to an earlier page: %s", p.what, transport.Clean(h.Get("Link")))
	}
	return next, nil
}

// ask counts the page that query is about to read. Too many pages are an error.
func (p *pager) ask(query url.Values) error {
	if p.count++; p.count > maxPages {
		return mismatch("%s on more than %d pages", p.what, maxPages)
	}
	if p.asked == nil {
		p.asked = map[string]bool{}
	}
	p.asked[query.Encode()] = true
	return nil
}

// A readNames reads one page of a listing.
type readNames func(url.Values) ([]string, http.Header, error)

// A nameList is a listing of names that is being read.
type nameList struct {
	pager
	read   readNames
	all    []string
	seen   map[string]bool
	size   int  // bytes of the names that arrived, repeated ones too
	linked bool // the registry has sent a link, so a page without one is the last
}

// listNames reads a listing to its end. It follows the registry's links. A registry may
// omit the link on a full page; the next page is then requested by the last name. A page
// size that the registry refuses is reduced once and then left to the registry.
func listNames(what string, read readNames) ([]string, error) {
	l := &nameList{pager: pager{what: what}, read: read, seen: map[string]bool{}}
	query := url.Values{"n": {strconv.Itoa(pageSize)}}
	for query != nil {
		names, header, err := l.page(query)
		if refusedSize(err) && query.Get("n") != "" {
			query = smaller(query)
			continue
		}
		if err != nil {
			return nil, err
		}
		fresh := l.add(names)
		if l.size > maxNames {
			return nil, mismatch("%s: more than %d MiB of names, %d of them so far", what, maxNames>>20, len(l.all))
		}
		if query, err = l.next(query, header, names, fresh); err != nil {
			return nil, err
		}
	}
	return l.all, nil
}

// page reads the page of a query.
func (l *nameList) page(query url.Values) ([]string, http.Header, error) {
	if err := l.ask(query); err != nil {
		return nil, nil, err
	}
	return l.read(query)
}

// add adds the names of a page and returns how many of them are new.
func (l *nameList) add(names []string) (fresh int) {
	for _, name := range names {
		if l.size += len(name) + nameCost; l.size > maxNames {
			return fresh
		}
		if !l.seen[name] {
			l.seen[name] = true
			l.all = append(l.all, name)
			fresh++
		}
	}
	return fresh
}

// next returns the query of the next page, or nil at the end. names are those of the last
// page, and fresh is how many of them are new. Without a link, a page with fewer names
// than requested is the last one. A full page without new names is not progress: the
// registry ignores last, and stuck finds out whether there is more.
func (l *nameList) next(query url.Values, h http.Header, names []string, fresh int) (url.Values, error) {
	next, err := l.follow(h)
	if next != nil || err != nil {
		l.linked = true
		return next, err
	}
	size, err := strconv.Atoi(query.Get("n"))
	sized := err == nil
	switch {
	case l.linked, len(names) == 0, sized && len(names) < size:
		return nil, nil
	case fresh > 0:
		next = url.Values{"last": {names[len(names)-1]}}
		if sized {
			next.Set("n", query.Get("n"))
		}
		if l.asked[next.Encode()] {
			return nil, mismatch("%s: two pages end with the same name %q", l.what, transport.Clean(next.Get("last")))
		}
		return next, nil
	case !sized || len(names) > size: // a registry that ignores n and last sends all names at once
		return nil, nil
	}
	return nil, l.stuck(size)
}

// stuck handles a full page without new names and without a link. Either the registry
// ignores n and last and has exactly so many names, or it supports n but not last, and
// the rest cannot be read. The request of half a page tells them apart: it is half as
// long in the second case, which is an error.
func (l *nameList) stuck(size int) error {
	names, _, err := l.page(url.Values{"n": {strconv.Itoa(size / 2)}})
	if err == nil && len(names) <= size/2 {
		err = mismatch("%s: the registry lists only the first %d, without a link to the next page or an answer to what follows %q",
			l.what, len(l.all), transport.Clean(l.all[len(l.all)-1]))
	}
	return err
}

// refusedSize reports whether err may be about the size of a page: the code
// PAGINATION_NUMBER_INVALID (Docker Distribution), or 400 or 422 without a code that
// means something else.
func refusedSize(err error) bool {
	e := transport.As(err)
	switch {
	case e == nil || transport.Redirected(err) || transport.Throttled(err):
		return false
	case transport.HasCode(e, "PAGINATION_NUMBER_INVALID"):
		return true
	}
	return (e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity) &&
		!transport.HasCode(e, "UNSUPPORTED", "NAME_UNKNOWN", "NAME_INVALID", "DENIED", "UNAUTHORIZED", "TOOMANYREQUESTS")
}

// smaller returns query with the small page size, or without a size if it has that
// already.
func smaller(query url.Values) url.Values {
	next := url.Values{}
	for key, values := range query {
		next[key] = values
	}
	if size, err := strconv.Atoi(query.Get("n")); err == nil && size > smallPage {
		next.Set("n", strconv.Itoa(smallPage))
	} else {
		next.Del("n")
	}
	return next
}

// readPage reads one page of tags or repositories.
func (c *Client) readPage(ctx context.Context, r repository, req *transport.Request) (names []string, header http.Header, err error) {
	err = c.readAll(ctx, r, req, func(raw []byte, h http.Header) error {
		var page struct {
			Tags         []string `json:"tags"`
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return mismatch("%s: not a page of %s: %w", r.host.Name, req.Path, err)
		}
		names, header = append(page.Tags, page.Repositories...), h
		return nil
	})
	return names, header, err
}

// Repositories lists the repositories of a registry, page by page, in the registry's
// order (Docker Distribution, "Listing Repositories"; the OCI specification does not have
// it). Many registries do not support the endpoint, and some list only what the
// credentials may read. A refusal is an [*Error] with a hint. A listing that cannot be
// read to its end is an error.
func (c *Client) Repositories(ctx context.Context, host string) ([]string, error) {
	c.start()
	parsed, err := name.NewRegistry(host)
	if err != nil {
		return nil, cleaned(err)
	}
	if err := checkHost(parsed.RegistryStr()); err != nil {
		return nil, err
	}
	r := repository{host: c.transport.Registry(parsed.RegistryStr())}
	names, err := listNames(r.host.Name+": repositories", func(query url.Values) ([]string, http.Header, error) {
		req := &transport.Request{
			Method: http.MethodGet, Registry: r.host, Path: "_catalog", Query: query, Header: http.Header{},
			Scopes: []string{"registry:catalog:*"}, Want: []int{http.StatusOK},
		}
		return c.readPage(ctx, r, req)
	})
	return names, unlisted(err)
}

// unlisted says in the error of a refusal that the registry does not list its
// repositories. Errors that a retry may change are returned as they are.
func unlisted(err error) error {
	e := transport.As(err)
	if e == nil || e.Status < http.StatusBadRequest || transport.Temporary(e.Status) || transport.Throttled(err) || transport.HasCode(err, "PAGINATION_NUMBER_INVALID") {
		return err
	}
	hint := "write the repository, for example " + e.Host + "/REPOSITORY"
	if errors.Is(e, ErrCredentials) {
		hint += ", or run mabuild login " + e.Host + " with an account that may list them"
	}
	return transport.Explained(e, errors.Join(errUnlisted, e.Err), hint)
}

var errUnlisted = errors.New("the registry does not list its repositories")
