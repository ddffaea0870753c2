package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// The size of a chunk in bytes, for a registry or proxy that does not accept a whole
// blob: at first, and at least. It is halved each time a chunk is refused as too large.
const (
	chunkSize  = 64 << 20
	chunkFloor = 64 << 10
)

// maxRenewals bounds how often one upload continues with new credentials, and how often
// its session may be at another offset than expected.
const maxRenewals = 3

// An upload is the state of sending one blob. It begins with a single PUT of the whole
// blob (distribution-spec, "POST then PUT") and changes to chunks ("Pushing a blob in
// chunks") if that is refused or cut. Each failure is answered by one of four changes:
// new credentials, smaller chunks, a new session, or continuing at the offset that the
// session reports. It is used by one goroutine.
type upload struct {
	c        *Client
	repo     repository
	blob     blob
	session  *uploadSession // nil: the next try opens one
	offset   int64          // bytes that the session has
	most     int64          // the largest offset so far; progress beyond it resets the tries
	refused  int            // how often a session or the whole blob was declined; at most 2
	renewed  int            // how often it continued with new credentials
	chunk    int64          // size of the last chunk
	strayed  int            // how often the session was at an unexpected offset
	progress *transfer
	tries    *transport.Retries
}

// upload sends b through session s, or through a new one if s is nil. It owns s: a
// session that is not used up is closed. It returns nil only if the registry has
// confirmed the blob.
func (c *Client) upload(ctx context.Context, r repository, b blob, s *uploadSession) error {
	u := &upload{c: c, repo: r, blob: b, session: s}
	u.progress = c.transfer(ctx, "upload", r, b.Digest, b.Size)
	u.tries = c.transport.Retries(r.host)
	for {
		err := u.send(ctx)
		if err == nil {
			u.progress.done()
			return nil
		}
		done, err := u.recover(ctx, err)
		if done {
			u.progress.done()
			return nil
		}
		if err != nil {
			u.abandon(ctx)
			return err
		}
	}
}

// send opens a session if u has none and sends what the session lacks: the whole blob
// with one PUT if the session is empty and the host accepts whole blobs, else chunks and
// a PUT without a body.
func (u *upload) send(ctx context.Context) error {
	if u.session == nil {
		s, err := u.c.open(ctx, u.repo, u.blob.Digest.String())
		if err != nil {
			return err
		}
		u.session, u.offset = s, 0
	}
	if u.offset == 0 && u.c.session.hosts.chunk(u.repo.host.Name) == 0 {
		return u.commit(ctx, &transport.Body{Size: u.blob.Size, Open: u.blob.reader, OnProgress: u.progress.at})
	}
	for u.offset < u.blob.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.commit(ctx, nil)
}

// request returns a request to the session's URL.
func (u *upload) request(method string) *transport.Request {
	return &transport.Request{
		Method: method, Registry: u.repo.host, Repository: u.repo.name, Reference: u.blob.Digest.String(),
		URL: u.session.url, Header: http.Header{}, Scopes: u.c.scopes(u.repo), Policy: transport.NoRetry,
	}
}

// commit ends the session with a PUT that has the digest. Other query parameters of the
// session's URL stay, since a registry may keep its state there. body is nil after
// chunks.
func (u *upload) commit(ctx context.Context, body *transport.Body) error {
	req := u.request(http.MethodPut)
	at := *u.session.url
	query := at.Query()
	query.Set("digest", u.blob.Digest.String())
	at.RawQuery = query.Encode()
	req.URL, req.Body = &at, body
	req.Want = []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := u.c.transport.Ask(ctx, req)
	if err != nil {
		return u.mark(err, body == nil || body.SentWhole())
	}
	switch named, wrong := stated(resp.Header, u.blob.Digest); {
	case wrong:
		return mismatch("%s: the registry stored digest %s", u.repo.by(u.blob.Digest), transport.Clean(resp.Header.Get(contentDigest)))
	case !named && resp.StatusCode != http.StatusCreated:
		return u.doubt(ctx, req, resp)
	}
	return nil
}

// doubt asks for the blob after a 2xx that lacks what the specification requires. If the
// registry does not answer, the PUT of the manifest will show whether the blob exists.
func (u *upload) doubt(ctx context.Context, req *transport.Request, resp *http.Response) error {
	there, answered, err := u.c.has(ctx, u.repo, u.blob)
	if err == nil && answered && !there {
		err = req.NoEffect(resp)
	}
	return err
}

// A replyLost error is the failure of a PUT that was sent completely: the registry may
// have stored the blob although its answer was lost.
type replyLost struct{ error }

func (l replyLost) Unwrap() error { return l.error }

// mark returns err as replyLost if the whole body was sent and the failure is a lost
// connection or a 5xx.
func (u *upload) mark(err error, whole bool) error {
	if s := transport.StatusOf(err); whole && (s == 0 || s >= http.StatusInternalServerError) {
		return replyLost{err}
	}
	return err
}

// patch sends the next chunk. The registry's answer has the URL for the next request,
// which may change, and the range that it has; if the range is not the expected one, that
// is an error, after which the upload is aligned.
func (u *upload) patch(ctx context.Context) error {
	u.chunk = min(max(cmp.Or(u.c.session.hosts.chunk(u.repo.host.Name), chunkSize), u.session.minChunk), u.blob.Size-u.offset)
	from, size := u.offset, u.chunk
	req := u.request(http.MethodPatch)
	req.Want = []int{http.StatusAccepted, http.StatusNoContent, http.StatusCreated}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", from, from+size-1))
	req.Body = &transport.Body{
		Size:       size,
		Open:       func() (io.ReadCloser, error) { return u.blob.section(from, size) },
		OnProgress: func(sent int64) { u.progress.at(from + sent) },
	}
	resp, err := u.c.transport.Ask(ctx, req)
	if err != nil {
		return err
	}
	next, err := newUploadSession(resp)
	if err == nil {
		next.minChunk = u.session.minChunk
		u.session = next
	}
	u.offset = from + size
	if has, ok := parseRange(resp.Header.Get("Range")); ok && has != u.offset {
		e := req.Fault(fmt.Errorf("the registry has %d bytes of %d", has, u.offset))
		return e
	}
	return nil
}

// recover decides what happens after err. done means that the blob exists after all; a
// nil error without done means to send again; any other error ends the upload. Changes
// that cost no retry come first: new credentials, another mirror of the source, smaller
// chunks, a new session. All others wait and count as a try.
func (u *upload) recover(ctx context.Context, err error) (done bool, _ error) {
	if transport.Renewed(err) && u.renewed < maxRenewals {
		u.renewed++
		u.align(ctx)
		return false, nil
	}
	if isMirrorMismatch(err) { // the source's mirror is excluded now, so this ends
		u.abandon(ctx)
		return false, nil
	}
	narrowed, err := u.narrowed(ctx, err)
	if narrowed || u.declined(ctx, err) {
		return false, nil
	}
	if end := u.tries.Again(ctx, err); end != nil {
		return false, end
	}
	if errors.As(err, new(replyLost)) {
		if there, _, err := u.c.has(ctx, u.repo, u.blob); there || err != nil {
			return there, err
		}
	}
	u.align(ctx)
	return false, nil
}

// declined reports whether the registry declined the session or the way of sending, and
// prepares another way: first a new session, then chunks. Registries differ in the status
// with which they decline a whole blob. DIGEST_INVALID is tried again once: the client
// has verified what it read, so the bytes were changed on the way.
func (u *upload) declined(ctx context.Context, err error) bool {
	e := transport.As(err)
	if e == nil || u.session == nil || u.refused == 2 || transport.HasCode(e, "NAME_UNKNOWN") || chunkRefused(e) {
		return false
	}
	spoilt := transport.HasCode(e, "DIGEST_INVALID", "SIZE_INVALID") && u.refused == 0 // verified here
	gone := spoilt || e.Status == http.StatusNotFound || transport.HasCode(e, "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN")
	whole := []int{
		http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented,
	}
	if !gone && !slices.Contains(whole, e.Status) {
		return false
	}
	if u.refused++; !gone || u.refused == 2 && !transport.HasCode(e, "DIGEST_INVALID", "SIZE_INVALID") {
		u.c.session.hosts.shrink(u.repo.host.Name, chunkSize)
	}
	u.abandon(ctx) // also if it is said not to exist, which may be wrong
	return true
}

// chunkRefused reports whether a chunk was refused because it is too large (413) or is
// not the next one (416; "Pushing a blob in chunks").
func chunkRefused(e *Error) bool {
	return e.Op == http.MethodPatch && (e.Status == http.StatusRequestEntityTooLarge || e.Status == http.StatusRequestedRangeNotSatisfiable)
}

// narrowed reports whether a chunk was refused and another one is sent next: one of half
// the size, for this host and the rest of the run, or the one that the session's offset
// requires. A chunk is never smaller than chunkFloor or than the registry's minimum
// (OCI-Chunk-Min-Length); if that size is refused too, the error gets a hint about
// proxies.
func (u *upload) narrowed(ctx context.Context, err error) (bool, error) {
	e := transport.As(err)
	if e == nil || u.session == nil || !chunkRefused(e) {
		return false, err
	}
	host, least, was := u.repo.host.Name, max(chunkFloor, u.session.minChunk), u.offset
	if e.Status == http.StatusRequestedRangeNotSatisfiable || was > 0 {
		u.align(ctx)
	} else {
		u.abandon(ctx)
	}
	strayed := e.Status == http.StatusRequestedRangeNotSatisfiable && (u.session != nil && u.offset != was || u.session == nil && u.chunk <= least)
	if strayed && u.strayed < maxRenewals {
		u.strayed++
		return true, nil
	}
	if u.chunk <= least {
		return false, transport.Explained(e, e.Err, fmt.Sprintf("a proxy in front of %s may limit the size of requests (client_max_body_size in nginx); it must accept %d bytes", host, least))
	}
	u.c.session.hosts.shrink(host, max(u.chunk/2, least))
	u.c.transport.Log.Debug("smaller chunks", "host", host, "bytes", u.c.session.hosts.chunk(host))
	return true, nil
}

// align asks the session for its offset and continues there. A session that does not
// answer with a valid offset is closed, and the upload begins again.
func (u *upload) align(ctx context.Context) {
	if u.session == nil {
		return
	}
	req := u.request(http.MethodGet)
	req.Want = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	resp, err := u.c.transport.Ask(ctx, req)
	if err != nil {
		u.abandon(ctx)
		return
	}
	has, ok := parseRange(resp.Header.Get("Range"))
	next, err := newUploadSession(resp)
	if !ok || err != nil || has > u.blob.Size {
		u.abandon(ctx)
		return
	}
	u.session, u.offset = next, has
	if has > u.most {
		u.most = has
		u.tries.Progressed()
	}
}

// abandon closes the session; the next try opens a new one.
func (u *upload) abandon(ctx context.Context) {
	u.c.cancel(ctx, u.repo, u.session)
	u.session, u.offset = nil, 0
}

// parseRange reads "0-last" ("Pushing a blob in chunks") and returns the number of bytes.
// Registries send "0-0" for an empty upload as well as for one byte, so it is treated as
// unknown. Some send "bytes=" before the range.
func parseRange(value string) (has int64, ok bool) {
	first, last, found := strings.Cut(strings.TrimPrefix(value, "bytes="), "-")
	if !found || first != "0" {
		return 0, false
	}
	n, err := parseDigits(last)
	if err != nil || n == 0 || n == math.MaxInt64 {
		return 0, false
	}
	return n + 1, true
}

// section opens size bytes of b from an offset. The whole blob is verified while it is
// read. A part cannot be verified: the registry compares the digest when the upload ends.
// A source that supports neither ranges nor Seek is read from its start.
func (b blob) section(from, size int64) (io.ReadCloser, error) {
	if from == 0 && size == b.Size {
		return b.reader()
	}
	if b.part != nil {
		inner, err := b.part(from, from+size)
		if err != nil {
			return nil, err
		}
		return stream.WithClose(io.LimitReader(inner, size), inner.Close), nil
	}
	inner, err := b.open()
	if err != nil {
		return nil, err
	}
	if seeker, ok := inner.(io.Seeker); ok {
		_, err = seeker.Seek(from, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, inner, from)
	}
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	return stream.WithClose(io.LimitReader(inner, size), inner.Close), nil
}
