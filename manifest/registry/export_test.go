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
