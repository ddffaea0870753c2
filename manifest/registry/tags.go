package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Bounds of a listing: pages of at most pageSize, no more than maxPages, and no more
// names on them than maxNames bytes, each of which counts nameCost more.
const (
	pageSize = "1000" // more is refused by ECR
	maxPages = 10_000
	maxNames = 128 << 20
	nameCost = 16
)

// Tags lists the tags of a repository, page by page, in the registry's order. A
// repository that does not exist is [manifest.ErrNotFound].
func (c *Client) Tags(ctx context.Context, repo string) ([]string, error) {
	c.start()
	parsed, err := name.NewRepository(repo)
	if err != nil {
		return nil, cleaned{err}
	}
	if err := checkName(parsed, ""); err != nil {
		return nil, err
	}
	r := c.repository(parsed)
	return pages(r.key()+": tags", func(query url.Values) ([]string, http.Header, error) {
		k := r.call(http.MethodGet, "tags/list")
		k.query, k.manifest = query, true
		k.want = []int{http.StatusOK}
		var page struct {
			Tags []string `json:"tags"`
		}
		header, err := c.readPage(ctx, r, k, &page)
		return page.Tags, header, err
	})
}

// pages reads a listing until there is no next page. what is told in errors.
func pages(what string, read func(url.Values) ([]string, http.Header, error)) ([]string, error) {
	var all []string
	size := 0
	query := url.Values{"n": {pageSize}}
	for range maxPages {
		page, header, err := read(query)
		if err != nil {
			return nil, err
		}
		for _, name := range page {
			size += len(name) + nameCost
		}
		if size > maxNames {
			return nil, mismatch("%s: more than %d MiB of names, %d of them so far", what, maxNames>>20, len(all))
		}
		all = append(all, page...)
		next := nextPage(header)
		if next == nil || next.Encode() == query.Encode() {
			return all, nil
		}
		query = next
	}
	return nil, mismatch("%s on more than %d pages", what, maxPages)
}

// readPage reads one page into a struct, again when it is cut off.
func (c *Client) readPage(ctx context.Context, r repository, k *call, page any) (http.Header, error) {
	tries := c.wire.retries(r.host)
	for {
		raw, header, err := c.readAll(ctx, r, k)
		if err != nil {
			if err := tries.again(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		if err := json.Unmarshal(raw, page); err != nil {
			return nil, mismatch("%s: not a page of %s: %w", r.host.name, k.path, err)
		}
		return header, nil
	}
}

// nextPage returns the query of the next page that a Link header names (RFC
// 8288), or nil. Only the query is taken: the place stays the same.
func nextPage(h http.Header) url.Values {
	for _, link := range h.Values("Link") {
		target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if !ok || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
			continue
		}
		u, err := url.Parse(target)
		if err != nil || u.RawQuery == "" {
			return nil
		}
		return u.Query()
	}
	return nil
}
