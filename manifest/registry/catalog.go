package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

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
