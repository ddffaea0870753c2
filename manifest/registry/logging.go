package registry

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// logRequest logs one request at debug level. The text has no secrets, so that a user can
// paste it into a bug report.
func (w *transport) logRequest(req *http.Request, resp *http.Response, err error, took time.Duration) {
	ctx := req.Context()
	if !w.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", req.Method),
		slog.String("url", redact(req.URL)),
		slog.Duration("duration", took.Round(time.Microsecond)),
	}
	if resp != nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", clean(err.Error())))
	}
	w.log.LogAttrs(ctx, slog.LevelDebug, "request", attrs...)
}

// redact returns u without what may be secret: user, fragment, and every query parameter
// that the specifications do not define, since signed URLs have their signature there.
func redact(u *url.URL) string {
	plain := []string{"digest", "mount", "from", "n", "last", "scope", "service", "artifactType", "ns"}
	kept := url.Values{}
	hidden := false
	for key, values := range u.Query() {
		if slices.Contains(plain, key) {
			kept[key] = values
		} else {
			hidden = true
		}
	}
	query := kept.Encode()
	if hidden {
		query = strings.TrimPrefix(query+"&…", "&")
	}
	text := u.Scheme + "://" + u.Host + u.EscapedPath()
	if query != "" {
		text += "?" + query
	}
	return clean(text)
}

// A transfer logs the progress of a blob, at most ten times a second. It is safe for
// concurrent use.
type transfer struct {
	ctx    context.Context
	log    *slog.Logger
	op     string
	repo   repository
	digest v1.Hash
	size   int64

	mu   sync.Mutex
	next time.Time
}

// transfer returns the transfer of a blob. op is one of those that [LevelTransfer] lists.
func (c *Client) transfer(ctx context.Context, op string, r repository, h v1.Hash, size int64) *transfer {
	return &transfer{ctx: ctx, log: c.transport.log, op: op, repo: r, digest: h, size: size}
}

// at logs the number of bytes that have moved. It never logs the whole size: only done
// does, after the digest is verified or the registry has confirmed the blob.
func (t *transfer) at(bytes int64) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) || bytes >= t.size {
		return
	}
	t.next = now.Add(100 * time.Millisecond)
	t.tell(bytes)
}

// done logs that the transfer has succeeded.
func (t *transfer) done() { t.tell(t.size) }

// tell writes one record; [LevelTransfer] describes it.
func (t *transfer) tell(bytes int64) {
	t.log.LogAttrs(t.ctx, LevelTransfer, "transfer",
		slog.String("op", t.op),
		slog.String("host", t.repo.host.name),
		slog.String("repository", t.repo.name),
		slog.String("digest", t.digest.String()),
		slog.Int64("bytes", bytes),
		slog.Int64("size", t.size),
	)
}
