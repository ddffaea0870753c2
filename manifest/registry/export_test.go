package registry

import "time"

// SetPatience makes c give up a silent connection after d.
func SetPatience(c *Client, d time.Duration) {
	c.start()
	c.wire.patience = d
}

// SetHelperLimit makes c kill a credential helper after d.
func SetHelperLimit(c *Client, d time.Duration) {
	c.start()
	c.wire.auth.keychain.limit = d
}

// HostOf returns the name of the registry that ref leads to.
func HostOf(c *Client, ref string) (string, error) {
	r, err := c.parse(ref)
	if err != nil {
		return "", err
	}
	return r.host.name, nil
}
