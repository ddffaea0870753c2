package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// Login checks whether a registry accepts the credentials that the keychain has for it,
// with GET /v2/, which every registry answers (distribution-spec, "Determining Support").
// A registry that does not ask for credentials accepts any, so Login then proves nothing
// about them. It does not store anything. A web page in place of an answer is
// [manifest.ErrMismatch].
func (c *Client) Login(ctx context.Context, registry string) error {
	c.start()
	n, err := name.NewRegistry(registry)
	if err != nil {
		return fmt.Errorf("registry %q: %w", transport.Clean(registry), err)
	}
	if err := checkHost(n.RegistryStr()); err != nil {
		return err
	}
	req := &transport.Request{
		Method: http.MethodGet, Registry: c.transport.Registry(n.RegistryStr()), Header: http.Header{},
		Want: []int{http.StatusOK},
	}
	resp, err := c.transport.Ask(ctx, req)
	if err != nil {
		return err
	}
	// Quay answers with text/html too, but its header identifies it as a registry.
	if plainType(resp.Header.Get("Content-Type")) == "text/html" && resp.Header.Get("Docker-Distribution-Api-Version") == "" {
		return mismatch("%s answers /v2/ with a web page: it is not a registry, or a login page is in front of it", n.RegistryStr())
	}
	return nil
}
