package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A download reads a blob with as many requests as necessary. If the connection is cut,
// it continues at the byte where it was cut with a Range request (RFC 9110, 14.2). It is
// not safe for concurrent use.
type download struct {
	ctx      context.Context
	client   *Client
	repo     repository
	want     v1.Descriptor
	part     bool  // only a range is read, which has no digest to compare
	end      int64 // the offset where reading ends
	hash     hash.Hash
	got      int64  // the offset of the next byte
	from     source // of resp
	resp     *http.Response
	request  *transport.Request
	tries    *transport.Retries
	seen     int64 // got at the last failed try; more since then resets the tries
	progress *transfer
}

// download opens a blob from its start. The caller closes it. Digest and size are
// compared with want.
func (c *Client) download(ctx context.Context, r repository, want v1.Descriptor) (io.ReadCloser, error) {
	return c.downloadPart(ctx, r, want, 0, want.Size)
}

// downloadPart opens the bytes of a blob from one offset up to another. If that is not
// the whole blob, the content is not verified: the caller needs a recipient that verifies
// the whole, such as the registry that gets it in chunks.
func (c *Client) downloadPart(ctx context.Context, r repository, want v1.Descriptor, from, to int64) (io.ReadCloser, error) {
	hasher, err := v1.Hasher(want.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	if want.Size < 0 {
		return nil, mismatch("%s: a blob of %d bytes", r.by(want.Digest), want.Size)
	}
	d := &download{ctx: ctx, client: c, repo: r, want: want, hash: hasher, tries: c.transport.Retries(r.host)}
	d.got, d.seen, d.end, d.part = from, from, to, from > 0 || to < want.Size
	d.progress = c.transfer(ctx, "download", r, want.Digest, want.Size)
	return d, d.open()
}

// open requests the bytes from got to end.
func (d *download) open() error {
	for {
		req := d.repo.blob(http.MethodGet, d.want.Digest)
		switch {
		case d.end < d.want.Size:
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.got, d.end-1))
			req.Want = append(req.Want, http.StatusPartialContent)
		case d.got > 0:
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.got))
			req.Want = append(req.Want, http.StatusPartialContent)
		}
		var misaligned error
		err := d.client.read(d.ctx, d.repo, req, func(from source, resp *http.Response) error {
			d.from, d.request, d.resp = from, req, resp
			misaligned = d.align(resp)
			return misaligned
		})
		if misaligned == nil || !errors.Is(err, misaligned) {
			return err
		}
		if err := d.tries.Again(d.ctx, req.Fault(err)); err != nil {
			return err
		}
	}
}

// align makes the next byte of resp the one at offset got. A registry may ignore Range
// and answer 200 with the whole blob; the bytes before got are then read and dropped. A
// 206 must have exactly the requested range.
func (d *download) align(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		if resp.ContentLength >= 0 && resp.ContentLength != d.want.Size {
			return mismatch("got a blob of %d bytes for %d", resp.ContentLength, d.want.Size)
		}
		_, err := io.CopyN(io.Discard, resp.Body, d.got)
		return err
	}
	first, last, size, err := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return err
	case first != d.got || last != d.end-1 || size >= 0 && size != d.want.Size:
		return fmt.Errorf("asked for bytes %d-%d and got %d-%d of %d", d.got, d.end-1, first, last, size)
	}
	return nil
}

// Read returns the next bytes and reconnects after an error. An error that comes together
// with bytes is dropped, since the next read returns it again. More bytes than the
// descriptor's size are refused at once: a registry must not be able to fill a disk.
func (d *download) Read(p []byte) (int, error) {
	for {
		left := d.end - d.got
		if d.end < d.want.Size { // the answer may be longer than the range
			if p = p[:min(int64(len(p)), left)]; left == 0 {
				return 0, io.EOF
			}
		}
		n, err := d.resp.Body.Read(p)
		if int64(n) > left {
			return 0, mismatch("%s: more than %d bytes", d.repo.by(d.want.Digest), d.want.Size)
		}
		_, _ = d.hash.Write(p[:n]) // a hash never fails
		d.got += int64(n)
		d.progress.at(d.got)
		switch {
		case d.got == d.end && err == nil:
			return n, d.finish(nil)
		case d.got == d.end: // all bytes are here, however the answer ended
			return n, d.finish(io.EOF)
		case err == nil || n > 0:
			return n, nil
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err := d.resume(err); err != nil {
			return 0, err
		}
	}
}

// resume opens the download again after err. Tries are counted from the last progress, so
// that a large blob on a bad line can be cut any number of times.
func (d *download) resume(err error) error {
	_ = d.resp.Body.Close()
	if d.ctx.Err() != nil {
		return d.request.Stopped(d.ctx)
	}
	if d.got > d.seen {
		d.seen = d.got
		d.tries.Progressed()
	}
	if err := d.tries.Again(d.ctx, d.request.Fault(err)); err != nil {
		return err
	}
	return d.open()
}

// finish compares the digest after the last byte. If a mirror sent wrong bytes, the
// mirror is not used again, and a caller that opens the blob again gets it from the next
// source.
func (d *download) finish(err error) error {
	is := v1.Hash{Algorithm: d.want.Digest.Algorithm, Hex: hex.EncodeToString(d.hash.Sum(nil))}
	if is != d.want.Digest && !d.part {
		return d.from.mismatch(mismatch("%s: got digest %s", d.repo.by(d.want.Digest), is))
	}
	if errors.Is(err, io.EOF) {
		d.progress.done()
	}
	return err
}

// Close ends the download and gives its permit back.
func (d *download) Close() error { return d.resp.Body.Close() }

// errContentRange is not final: another node of the registry may answer correctly.
var errContentRange = errors.New("an answer with an invalid Content-Range")

// parseContentRange reads "bytes first-last/size" (RFC 9110, 14.4); size is -1 for "*".
func parseContentRange(value string) (first, last, size int64, err error) {
	span, ok := strings.CutPrefix(value, "bytes ")
	span, total, found := strings.Cut(span, "/")
	from, to, dashed := strings.Cut(span, "-")
	if !ok || !found || !dashed {
		return 0, 0, 0, errContentRange
	}
	first, err1 := parseDigits(from)
	last, err2 := parseDigits(to)
	size, err3 := int64(-1), error(nil)
	if total != "*" {
		size, err3 = parseDigits(total)
	}
	if errors.Join(err1, err2, err3) != nil || first > last || size >= 0 && last >= size {
		return 0, 0, 0, errContentRange
	}
	return first, last, size, nil
}

// parseDigits reads a number that consists of digits only: ParseInt would accept a sign.
func parseDigits(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
