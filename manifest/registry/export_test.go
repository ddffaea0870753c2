package registry

import "time"

// SetPatience makes c give up a silent connection after d.
func SetPatience(c *Client, d time.Duration) {
	c.start()
	c.transport.patience = d
}

// SetLastWord makes c take d to close an upload session when a run ends.
func SetLastWord(c *Client, d time.Duration) {
	c.start()
	c.transport.cleanupTimeout = d
}

// SetHelperLimit makes c kill a credential helper after d.
func SetHelperLimit(c *Client, d time.Duration) {
	c.start()
	c.transport.auth.keychain.asks.limit = d
}

// HostOf returns the name of the registry that ref leads to.
func HostOf(c *Client, ref string) (string, error) {
	r, err := c.parse(ref)
	if err != nil {
		return "", err
	}
	return r.host.name, nil
}

// Kinds lists the kinds, each once.
var Kinds = []Kind{
	KindUnauthorized, KindNotFound, KindRateLimited, KindServerError, KindRefused, KindInvalidContent, KindBlocked,
	KindProxy, KindTLS, KindUnreachable, KindTimeout, KindConnection, KindCancelled,
}
