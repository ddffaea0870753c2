package registry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LevelTransfer is the level of the log records about the progress of a blob: message
// "transfer" with op (upload, download, mount, exists), host, repository, digest, bytes
// and size. The last record of a transfer that succeeds has bytes == size; a transfer
// that fails has none.
const LevelTransfer = slog.LevelDebug - 4

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
	return &transfer{ctx: ctx, log: c.transport.Log, op: op, repo: r, digest: h, size: size}
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
		slog.String("host", t.repo.host.Name),
		slog.String("repository", t.repo.name),
		slog.String("digest", t.digest.String()),
		slog.Int64("bytes", bytes),
		slog.Int64("size", t.size),
	)
}
