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
)

// How much of a blob is sent at once to a registry, or a proxy before it, that does not
// take it whole: at first, and at least. Between them it is halved as often as a chunk
// is refused for its size.
const (
	chunkSize  = 64 << 20
	chunkFloor = 64 << 10
)

// maxRenewals is how often the credentials of one upload may end in its middle.
const maxRenewals = 3

// An upload is one blob on its way.
type upload struct {
	c        *Client
	repo     repository
	blob     blob
	session  *uploadSession
	offset   int64 // what the session has
	most     int64 // that any session had: only tries without progress count
	refused  int   // how often a session was refused
	renewed  int   // how often credentials were
	chunk    int64 // how large the last chunk was
	strayed  int   // how often the session was not where it was left
	progress *transfer
	tries    *retries
}

// upload sends b through s, or through a session of its own if s is nil: one PUT
// where the registry takes that, chunks where it does not. After a cut it goes on
// where the session is, or begins again if that is gone. A session that is not
// used up is closed.
func (c *Client) upload(ctx context.Context, r repository, b blob, s *uploadSession) error {
	u := &upload{c: c, repo: r, blob: b, session: s}
	u.progress = c.transfer(ctx, "upload", r, b.Digest, b.Size)
	u.tries = c.transport.retries(r.host)
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

// send sends what the session does not have.
func (u *upload) send(ctx context.Context) error {
	if u.session == nil {
		s, err := u.c.open(ctx, u.repo, u.blob.Digest.String())
		if err != nil {
			return err
		}
		u.session, u.offset = s, 0
	}
	if u.offset == 0 && u.c.session.hosts.chunk(u.repo.host.name) == 0 {
		return u.commit(ctx, &requestBody{size: u.blob.Size, open: u.blob.reader, onProgress: u.progress.at})
	}
	for u.offset < u.blob.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.commit(ctx, nil)
}

// request begins a request to the session.
func (u *upload) request(method string) *request {
	return &request{
		method: method, host: u.repo.host, repo: u.repo.name, ref: u.blob.Digest.String(),
		url: u.session.url, header: http.Header{}, scopes: u.c.scopes(u.repo), policy: noRetry,
	}
}

// commit ends the session with a PUT, which carries body or nothing.
func (u *upload) commit(ctx context.Context, body *requestBody) error {
	k := u.request(http.MethodPut)
	at := *u.session.url
	query := at.Query()
	query.Set("digest", u.blob.Digest.String())
	at.RawQuery = query.Encode()
	k.url, k.body = &at, body
	k.want = []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}
	k.header.Set("Content-Type", "application/octet-stream")
	resp, err := u.c.transport.do(ctx, k)
	if err != nil {
		return u.mark(err, body == nil || body.sentWhole())
	}
	discard(resp)
	switch named, wrong := stated(resp.Header, u.blob.Digest); {
	case wrong:
		return mismatch("%s: the registry stored digest %s", u.repo.by(u.blob.Digest), clean(resp.Header.Get(contentDigest)))
	case !named && resp.StatusCode != http.StatusCreated:
		return u.doubt(ctx, k, resp)
	}
	return nil
}

// doubt looks for the blob after an answer that no registry gives, but a page that
// stands before one may. Where the registry does not say, the PUT of the manifest does.
func (u *upload) doubt(ctx context.Context, k *request, resp *http.Response) error {
	there, answered, err := u.c.has(ctx, u.repo, u.blob)
	if err == nil && answered && !there {
		err = k.noEffect(resp)
	}
	return err
}

// A replyLost error is of a PUT that may have arrived though its answer did not.
type replyLost struct{ error }

func (l replyLost) Unwrap() error { return l.error }

func (u *upload) mark(err error, whole bool) error {
	if s := statusOf(err); whole && (s == 0 || s >= http.StatusInternalServerError) {
		return replyLost{err}
	}
	return err
}

// patch sends the next chunk.
func (u *upload) patch(ctx context.Context) error {
	u.chunk = min(max(cmp.Or(u.c.session.hosts.chunk(u.repo.host.name), chunkSize), u.session.minChunk), u.blob.Size-u.offset)
	from, size := u.offset, u.chunk
	k := u.request(http.MethodPatch)
	k.want = []int{http.StatusAccepted, http.StatusNoContent, http.StatusCreated}
	k.header.Set("Content-Type", "application/octet-stream")
	k.header.Set("Content-Range", fmt.Sprintf("%d-%d", from, from+size-1))
	k.body = &requestBody{
		size:       size,
		open:       func() (io.ReadCloser, error) { return u.blob.section(from, size) },
		onProgress: func(sent int64) { u.progress.at(from + sent) },
	}
	resp, err := u.c.transport.do(ctx, k)
	if err != nil {
		return err
	}
	discard(resp)
	next, err := newUploadSession(resp)
	if err == nil {
		next.minChunk = u.session.minChunk
		u.session = next
	}
	u.offset = from + size
	if has, ok := parseRange(resp.Header.Get("Range")); ok && has != u.offset {
		e := k.fault(fmt.Errorf("the registry has %d bytes of %d", has, u.offset))
		return e
	}
	return nil
}

// recover decides what to do after err: nil means to send again, done that the
// blob is there after all.
func (u *upload) recover(ctx context.Context, err error) (done bool, _ error) {
	if e := asError(err); e != nil && e.renewed && u.renewed < maxRenewals {
		u.renewed++
		u.align(ctx)
		return false, nil
	}
	if isMisled(err) { // a mirror is asked no more, so this ends
		u.abandon(ctx)
		return false, nil
	}
	if u.narrowed(ctx, err) || u.declined(ctx, err) {
		return false, nil
	}
	if end := u.tries.again(ctx, err); end != nil {
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

// declined reports whether the registry declined the session or the way that the
// blob was sent, and makes the next try another way: a new session, then chunks.
func (u *upload) declined(ctx context.Context, err error) bool {
	e := asError(err)
	if e == nil || u.session == nil || u.refused == 2 || e.has("NAME_UNKNOWN") || chunkRefused(e) {
		return false
	}
	spoilt := e.has("DIGEST_INVALID", "SIZE_INVALID") && u.refused == 0 // on the way: we proved what we sent
	gone := spoilt || e.Status == http.StatusNotFound || e.has("BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN")
	whole := []int{
		http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented,
	}
	if !gone && !slices.Contains(whole, e.Status) {
		return false
	}
	if u.refused++; !gone || u.refused == 2 && !e.has("DIGEST_INVALID", "SIZE_INVALID") {
		u.c.session.hosts.shrink(u.repo.host.name, chunkSize)
	}
	u.abandon(ctx) // also one that is said to be gone: that may be said of the request
	return true
}

// chunkRefused reports whether err is about a chunk that is too large, or not what comes
// next (distribution-spec, "Pushing a blob in chunks").
func chunkRefused(e *Error) bool {
	return e.Op == http.MethodPatch && (e.Status == http.StatusRequestEntityTooLarge || e.Status == http.StatusRequestedRangeNotSatisfiable)
}

// narrowed reports whether a chunk was refused and the next try is another one: half as
// long, for this host and the rest of the run, or what the session says comes next. A
// chunk is not made smaller than the floor, or than the registry wants it.
func (u *upload) narrowed(ctx context.Context, err error) bool {
	e := asError(err)
	if e == nil || u.session == nil || !chunkRefused(e) {
		return false
	}
	host, least, was := u.repo.host.name, max(chunkFloor, u.session.minChunk), u.offset
	if e.Status == http.StatusRequestedRangeNotSatisfiable || was > 0 {
		u.align(ctx)
	} else {
		u.abandon(ctx)
	}
	strayed := e.Status == http.StatusRequestedRangeNotSatisfiable && (u.session != nil && u.offset != was || u.session == nil && u.chunk <= least)
	if strayed && u.strayed < maxRenewals {
		u.strayed++
		return true
	}
	if u.chunk <= least {
		e.hint = fmt.Sprintf("a proxy in front of %s may limit the size of requests (client_max_body_size in nginx); it must accept %d bytes", host, least)
		return false
	}
	u.c.session.hosts.shrink(host, max(u.chunk/2, least))
	u.c.transport.log.Debug("smaller chunks", "host", host, "bytes", u.c.session.hosts.chunk(host))
	return true
}

// align asks the session how much it has. One that does not say is given up.
func (u *upload) align(ctx context.Context) {
	if u.session == nil {
		return
	}
	k := u.request(http.MethodGet)
	k.want = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	resp, err := u.c.transport.do(ctx, k)
	if err != nil {
		u.abandon(ctx)
		return
	}
	discard(resp)
	has, ok := parseRange(resp.Header.Get("Range"))
	next, err := newUploadSession(resp)
	if !ok || err != nil || has > u.blob.Size {
		u.abandon(ctx)
		return
	}
	u.session, u.offset = next, has
	if has > u.most {
		u.most, u.tries.tries = has, 0
	}
}

// abandon closes the session.
func (u *upload) abandon(ctx context.Context) {
	u.c.cancel(ctx, u.repo, u.session)
	u.session, u.offset = nil, 0
}

// parseRange reads "0-last" (distribution-spec, "Pushing a blob in chunks") and
// returns how many bytes that is. "0-0" is what registries say of nothing as
// well as of one byte, and counts as nothing known.
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

// section opens size bytes of b from an offset. All of b is proved on the way;
// of a part only the registry can say whether the whole is right.
func (b blob) section(from, size int64) (io.ReadCloser, error) {
	if from == 0 && size == b.Size {
		return b.reader()
	}
	if b.part != nil {
		inner, err := b.part(from, from+size)
		if err != nil {
			return nil, err
		}
		return &part{Reader: io.LimitReader(inner, size), Closer: inner}, nil
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
	return &part{Reader: io.LimitReader(inner, size), Closer: inner}, nil
}

type part struct {
	io.Reader
	io.Closer
}
