// Package download gets released programs and packages from web servers.
//
// A URL comes from a configuration file, and where a server redirects is the choice of that
// server. So only https is used, and http on this machine; no address of a private network is
// dialled, as resolved at that moment; credentials are those that the user has for that host,
// and no other host gets them. Content is compared with its sha256 before anybody sees it, and kept in the cache by that, so that a second run is offline.
//
// Archives of packages may be read by http, since their files are signed or have a known
// sha256: see [CheckArchive].
package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/address"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
)

// The bounds of a download.
const (
	maxSize      = 512 << 20 // bytes of a file
	maxText      = 4 << 20   // bytes of a list of sums, or of the signed file of an archive
	maxRedirects = 10
	maxTries     = 3
	maxSilence   = 60 * time.Second // without a byte of the answer
)

// A Client downloads files. Its fields must not be changed after the first call. It is safe for
// concurrent use.
type Client struct {
	Dir       string       // an existing directory for the files, which the caller removes
	Cache     *cache.Cache // nil: nothing is kept
	UserAgent string
	Log       *slog.Logger
	// Login returns the credentials for a host, "" if there are none. They are sent by https
	// and to this machine, and not to where the host redirects. nil sends none.
	Login func(host string) (user, password string)
	// Wait is the time before the second try, which doubles; 0: a second.
	Wait time.Duration

	once    sync.Once
	http    http.Client
	proxies sync.Map // addresses of proxies, which may be private
	lists   sync.Map // URLs of lists of sums, by sum
}

// Check returns an error unless text is a URL that may be downloaded: https, or http on this
// machine, without credentials.
func Check(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, hint.New(hint.Usage, "for example https://example.com/app-{{.OS}}-{{.Arch}}.tar.gz", "%q is not a URL", text)
	case u.User != nil:
		return nil, hint.New(hint.Usage, "remove the part before @", "the URL of %s contains credentials", u.Host)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u):
		return u, nil
	}
	return nil, hint.New(hint.Usage, "use https", "%s: only https is used", text)
}

// CheckArchive is [Check] for an archive of packages, which may be read by http. Its caller
// checks signatures and sums.
func CheckArchive(text string) (*url.URL, error) {
	if plain, err := url.Parse(text); err == nil && plain.Scheme == "http" && plain.Host != "" && plain.User == nil && plain.Opaque == "" {
		return plain, nil
	}
	return Check(text)
}

// loopback reports whether a URL names this machine by an address, or as localhost.
func loopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// Get returns the path of a file with the content of sum, a sha256 in hexadecimal digits that
// the lock has: from this run, from the cache or from the URL.
func (c *Client) Get(ctx context.Context, from, sum string) (string, error) {
	if list, ok := c.lists.Load(sum); ok {
		return c.known(ctx, from, sum, list.(string), "the list and the file of the release do not fit; report this to its authors")
	}
	return c.known(ctx, from, sum, "mabuild.lock", "if the release was replaced, check why before you run mabuild lock again")
}

// Listed says that a sum is from a list at a URL, for errors about it.
func (c *Client) Listed(sum, list string) { c.lists.Store(sum, list) }

// sourcesKind is the kind of the records of the URLs from which a file came, by its sum, and
// maxSources bounds one.
const (
	sourcesKind = "download"
	maxSources  = 16
)

// From reports whether the file with a sum came from a URL. It is true if no file with this
// sum came from anywhere: it will be downloaded.
func (c *Client) From(from, sum string) bool {
	var urls []string
	return !c.Cache.Load(sourcesKind, sum, &urls) || slices.Contains(urls, from)
}

// Confirm downloads a file if the cache has it from another URL alone, and returns an error if
// it has another sum there.
func (c *Client) Confirm(ctx context.Context, from, sum string) error {
	if c.From(from, sum) {
		return nil
	}
	got, err := c.fetch(ctx, from, sum)
	if err == nil && got != sum {
		err = hint.New(hint.Content, "run mabuild lock, if you have changed the URL", "GET %s: the sha256 is %s, but mabuild.lock has %s", from, got, sum)
	}
	return err
}

// remember notes that the file with a sum came from a URL.
func (c *Client) remember(from, sum string) {
	var urls []string
	_ = c.Cache.Load(sourcesKind, sum, &urls) // none
	if !slices.Contains(urls, from) {
		urls = append(urls[max(0, len(urls)+1-maxSources):], from)
		_ = c.Cache.Store(sourcesKind, sum, urls) // lost: the file is downloaded once more
	}
}

// ArchiveFile is [Client.Get] for a file whose sum the signed file of an archive has.
func (c *Client) ArchiveFile(ctx context.Context, from, sum string) (string, error) {
	return c.known(ctx, from, sum, "InRelease", "the mirror is being updated, or a proxy mixes two versions of it; try again")
}

// known is Get. has names the file that has the sum.
func (c *Client) known(ctx context.Context, from, sum, has, way string) (string, error) {
	file := filepath.Join(c.Dir, sum)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: sum}
	if kept, _, err := c.Cache.Get(digest); err == nil {
		_, err := c.save(kept, sum)
		if err = errors.Join(err, kept.Close()); err == nil {
			return file, nil
		}
		c.Log.DebugContext(ctx, "a download in the cache cannot be used: "+err.Error())
	}
	got, err := c.fetch(ctx, from, sum)
	if err != nil {
		return "", err
	}
	if got != sum {
		return "", hint.New(hint.Content, way, "GET %s: the sha256 is %s, but %s has %s", from, got, has, sum)
	}
	return file, nil
}

// First downloads a file whose sum is not known, and returns its sum. [Client.Get] finds it
// then.
func (c *Client) First(ctx context.Context, from string) (sum string, err error) {
	if sum, err = c.fetch(ctx, from, ""); err != nil {
		return "", err
	}
	f, err := os.Open(filepath.Join(c.Dir, sum))
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	head, err := io.ReadAll(io.LimitReader(f, 512))
	if err == nil {
		err = noPage(from, string(head))
	}
	return sum, err
}

// page matches the beginning of a web page.
var page = regexp.MustCompile(`(?i)^\s*<(!doctype html|html)\b`)

// noPage returns an error for a web page: a server that asks for a login often sends one in
// place of a file, without an error.
func noPage(from, head string) error {
	if !page.MatchString(head) {
		return nil
	}
	return hint.New(hint.Content, "open the URL in a browser; if it asks for a login, add the host to .netrc", "GET %s: the answer is a web page", from)
}

// fetch downloads a file and returns its sum. A file with another sum than want is not kept;
// with "" it is kept in any case.
func (c *Client) fetch(ctx context.Context, from, want string) (sum string, err error) {
	c.Log.InfoContext(ctx, "downloading "+from)
	check := Check
	if want != "" {
		check = CheckArchive
	}
	err = c.get(ctx, from, check, func(body io.Reader) (err error) {
		sum, err = c.save(body, want)
		return err
	})
	if err != nil || want != "" && sum != want || c.Cache == nil {
		return sum, err
	}
	c.remember(from, sum)
	f, err := os.Open(filepath.Join(c.Dir, sum))
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	if err := c.Cache.Put(v1.Hash{Algorithm: "sha256", Hex: sum}, f); err != nil {
		c.Log.DebugContext(ctx, "the download is not kept: "+err.Error())
	}
	return sum, nil
}

// save writes the content of r as a file of Dir that is named by its sum, and returns the sum.
// If want is another one, no file is left.
func (c *Client) save(r io.Reader, want string) (sum string, err error) {
	f, err := os.CreateTemp(c.Dir, "download-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is renamed after a success
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, maxSize+1))
	if err == nil && n > maxSize {
		err = fmt.Errorf("it has more than the limit of %d bytes", maxSize)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if sum = hex.EncodeToString(h.Sum(nil)); want != "" && sum != want {
		return sum, nil
	}
	return sum, os.Rename(f.Name(), filepath.Join(c.Dir, sum))
}

// Text downloads a short text.
func (c *Client) Text(ctx context.Context, from string) (string, error) {
	return c.text(ctx, from, Check)
}

// ArchiveText is [Client.Text] for an archive of packages. The caller checks the signature of
// the text.
func (c *Client) ArchiveText(ctx context.Context, from string) (string, error) {
	return c.text(ctx, from, CheckArchive)
}

// text is Text with the check of a URL.
func (c *Client) text(ctx context.Context, from string, check func(string) (*url.URL, error)) (string, error) {
	var text []byte
	err := c.get(ctx, from, check, func(body io.Reader) (err error) {
		if text, err = io.ReadAll(io.LimitReader(body, maxText+1)); err == nil && len(text) > maxText {
			err = fmt.Errorf("it has more than the limit of %d bytes", maxText)
		}
		return err
	})
	if err == nil {
		err = noPage(from, string(text))
	}
	return string(text), err
}

// Redirect returns where a server redirects a request for a URL to, without following it.
func (c *Client) Redirect(ctx context.Context, from string) (*url.URL, error) {
	c.once.Do(c.init)
	u, err := Check(from)
	if err != nil {
		return nil, err
	}
	client := c.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.send(ctx, &client, http.MethodHead, u)
	if err != nil {
		return nil, failed(http.MethodHead, from, err)
	}
	defer resp.Body.Close() //nolint:errcheck // has no content
	to, err := resp.Location()
	if err != nil {
		return nil, hint.New(hint.Build, "name the version: --update ID=VERSION", "HEAD %s: %s, without a redirect to a release", from, resp.Status)
	}
	return to, nil
}

// get sends a request, again after a failure that may pass, and calls read with the content.
func (c *Client) get(ctx context.Context, from string, check func(string) (*url.URL, error), read func(io.Reader) error) error {
	c.once.Do(c.init)
	u, err := check(from)
	if err != nil {
		return err
	}
	wait := c.Wait
	if wait == 0 {
		wait = time.Second
	}
	for try := 1; ; try++ {
		again, err := c.attempt(ctx, u, read)
		if err == nil {
			return nil
		}
		if !again || try == maxTries || ctx.Err() != nil {
			return failed(http.MethodGet, from, err)
		}
		c.Log.DebugContext(ctx, fmt.Sprintf("GET %s: %v; trying again in %s", from, err, wait))
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return failed(http.MethodGet, from, context.Cause(ctx))
		}
	}
}

// attempt is one try of get. again reports whether another one may succeed.
func (c *Client) attempt(ctx context.Context, u *url.URL, read func(io.Reader) error) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxSilence, func() { cancel(fmt.Errorf("no data for %s", maxSilence)) })
	defer silence.Stop()
	resp, err := c.send(ctx, &c.http, http.MethodGet, u)
	if err != nil {
		// What this client refuses, it refuses again.
		return !errors.As(err, new(address.Error)) && !errors.Is(err, hint.Usage), err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500, statusError(resp)
	}
	if err := read(&watched{resp.Body, silence}); err != nil {
		return resp.ContentLength <= maxSize, cause(ctx, err)
	}
	return false, nil
}

// send sends a request.
func (c *Client) send(ctx context.Context, client *http.Client, method string, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	req.Header.Set("Accept-Encoding", "identity") // a gzip file stays one
	if c.Login != nil && (u.Scheme == "https" || loopback(u)) {
		if user, password := c.Login(u.Hostname()); user != "" {
			req.SetBasicAuth(user, password)
		}
	}
	resp, err := client.Do(req)
	if ue := (*url.Error)(nil); errors.As(err, &ue) { // the caller names the URL
		err = ue.Err
	}
	return resp, cause(ctx, err)
}

// cause returns the cause of the end of ctx in place of err.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// failed names the request in an error.
// What no server has answered is an error of the network.
func failed(method, from string, err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) || errors.As(err, new(*net.DNSError)) {
		return hint.New(hint.Registry, hint.Of(err), "%s %s: %w", method, from, err)
	}
	return fmt.Errorf("%s %s: %w", method, from, err)
}

// statusError returns the error of a reply that is no success.
func statusError(resp *http.Response) error {
	way := ""
	switch resp.StatusCode {
	case http.StatusNotFound:
		way = "check url and version, and whether the release has a file for this platform"
	case http.StatusUnauthorized, http.StatusForbidden:
		way = "if the release is private, add the host to .netrc"
	}
	return hint.New(hint.Build, way, "%s", resp.Status)
}

// A watched body restarts the timer of silence with each read.
type watched struct {
	io.Reader
	silence *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.silence.Reset(maxSilence)
	return n, err
}

// init makes the client.
func (c *Client) init() {
	c.http = http.Client{
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return hint.New(hint.Usage, "", "more than %d redirects", maxRedirects)
			}
			check := Check
			if via[0].URL.Scheme == "http" && !loopback(via[0].URL) { // an archive of packages
				check = CheckArchive
			}
			if _, err := check(req.URL.String()); err != nil {
				return fmt.Errorf("it redirects to %s: %w", req.URL.Redacted(), err)
			}
			if req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host {
				req.Header.Del("Authorization")
			}
			if loopback(req.URL) && !loopback(via[0].URL) {
				return hint.New(hint.Usage, "", "it redirects to this machine, %s", req.URL.Host)
			}
			return nil
		},
		Transport: &http.Transport{Proxy: c.proxy, DialContext: c.dial, ForceAttemptHTTP2: true, DisableCompression: true, IdleConnTimeout: time.Minute},
	}
}

// proxy returns the proxy of a request, which the user has chosen in the environment.
func (c *Client) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if u != nil {
		c.proxies.Store(u.Hostname(), true)
	}
	return u, err
}

// dial connects to a server whose address may be dialled: this machine only if the URL names
// it by address, and no private network.
func (c *Client) dial(ctx context.Context, network, to string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	_, proxy := c.proxies.Load(host)
	own := loopback(&url.URL{Host: to})
	d := net.Dialer{Timeout: 30 * time.Second, ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(resolved)
		if err != nil || proxy || own && at.Addr().Unmap().IsLoopback() {
			return err
		}
		return address.Check(at.Addr(), true)
	}}
	conn, err := d.DialContext(ctx, network, to)
	if denied := (address.Error{}); errors.As(err, &denied) {
		return nil, &hint.Error{Kind: hint.Usage, Err: denied, Hint: "a server of your own network is reached through a proxy alone: set HTTPS_PROXY or HTTP_PROXY"}
	}
	return conn, err
}

// bsd matches a line as sha256 of BSD writes it.
var bsd = regexp.MustCompile(`^SHA256 \((.+)\) = ([0-9A-Fa-f]{64})$`)

// Sum returns the sum of a file in a list of sums, as sha256sum or BSD's sha256 writes it, or in
// a file that has only a sum. ok is false if there is none, or if two differ.
func Sum(list, file string) (sum string, ok bool) {
	lines := strings.Split(strings.TrimSpace(list), "\n")
	for _, line := range lines {
		name, its := "", ""
		if fields := strings.Fields(line); len(fields) == 2 && isSum(fields[0]) {
			its, name = fields[0], strings.TrimPrefix(strings.TrimPrefix(fields[1], "*"), "./")
		} else if m := bsd.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			name, its = m[1], m[2]
		} else if len(fields) == 1 && len(lines) == 1 && isSum(fields[0]) {
			its, name = fields[0], file
		}
		if name != file {
			continue
		}
		if its = strings.ToLower(its); sum != "" && sum != its {
			return "", false
		}
		sum = its
	}
	return sum, sum != ""
}

// isSum reports whether text is a sha256 in hexadecimal digits.
func isSum(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == sha256.Size
}
