package registry

import "time"

// SetPatience makes c, which has sent nothing yet, give up a silent connection after d.
func SetPatience(c *Client, d time.Duration) {
	config := c.config()
	config.Patience = d
	c.once.Do(func() { c.startWith(config) })
}

// SetHelperLimit makes c, which has sent nothing yet, kill a credential helper after d.
func SetHelperLimit(c *Client, d time.Duration) {
	config := c.config()
	config.HelperLimit = d
	c.once.Do(func() { c.startWith(config) })
}

// SetLastWord makes c take d to close an upload session when a run ends.
func SetLastWord(c *Client, d time.Duration) {
	c.start()
	c.cleanupTimeout = d
}

// HostOf returns the name of the registry that ref leads to.
func HostOf(c *Client, ref string) (string, error) {
	r, err := c.parse(ref)
	if err != nil {
		return "", err
	}
	return r.host.Name, nil
}

// Kinds lists the kinds, each once.
var Kinds = []Kind{
	KindUnauthorized, KindNotFound, KindRateLimited, KindServerError, KindRefused, KindInvalidContent, KindBlocked,
	KindProxy, KindTLS, KindUnreachable, KindTimeout, KindConnection, KindCancelled,
}
