package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// Delete deletes the manifest at ref, REPOSITORY@DIGEST, and with it all tags that name it
// (distribution-spec, "Deleting Manifests"). Its blobs and children stay until the registry
// collects garbage. A manifest that does not exist is [manifest.ErrNotFound]. A registry that
// deletes nothing is an [*Error] with a hint.
func (c *Client) Delete(ctx context.Context, ref string) error {
	c.start()
	r, err := c.parse(ref)
	if err != nil {
		return err
	}
	if r.tag != "" || r.digest.Hex == "" {
		return fmt.Errorf("%s: only a digest can be deleted, not a tag", ref)
	}
	c.writing(r.repository)
	req := r.manifest(http.MethodDelete)
	req.Want = []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent}
	req.Scopes = []string{"repository:" + r.name + ":pull,push,delete"}
	resp, err := c.transport.Do(ctx, req)
	if err == nil {
		return resp.Body.Close()
	}
	switch transport.StatusOf(err) {
	case http.StatusNotFound:
		return errors.Join(err, manifest.ErrNotFound)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		return transport.Explained(transport.As(err), errUndeletable, "the registry may have deletion turned off")
	}
	return err
}

var errUndeletable = errors.New("the registry does not delete manifests")
