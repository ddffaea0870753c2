// Package verify compares content with its digest and size while it is read, so that
// content of any size needs no buffer. It supports the algorithms of [v1.Hasher] and
// opens and closes nothing.
package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrMismatch is in the chain of the error of a [Reader] whose content does not have the
// digest or the size that was promised.
var ErrMismatch = errors.New("content differs from its digest")

// A mismatch is the text of an error that says how content differs. It matches
// [ErrMismatch] by Is instead of wrapping it, so that the text does not say the same
// twice.
type mismatch string

func (m mismatch) Error() string        { return string(m) }
func (m mismatch) Is(target error) bool { return target == ErrMismatch }

// A Reader passes on what it reads. If the size is known, it returns an error in place of
// the last bytes of wrong content, so that a consumer never has all bytes of it. If the
// size is unknown, the error takes the place of io.EOF, after the last bytes, and a
// consumer must read up to io.EOF. Bytes before the end may be wrong in both cases.
//
// A Reader is not safe for concurrent use, and it does not close what it reads.
type Reader struct {
	r      io.Reader
	digest v1.Hash
	size   int64 // -1 if unknown
	hash   hash.Hash
	got    int64 // bytes read so far
}

// NewReader returns a Reader of r, whose content must have digest and size. A size of -1
// means unknown. The error is that of an algorithm which is not supported.
func NewReader(r io.Reader, digest v1.Hash, size int64) (*Reader, error) {
	hasher, err := v1.Hasher(digest.Algorithm)
	if err != nil {
		return nil, err
	}
	return &Reader{r: r, digest: digest, size: size, hash: hasher}, nil
}

// Read implements io.Reader. It may return 0 bytes with an error although r gave some:
// bytes that come with an error of r, or that complete wrong content, are withheld.
func (v *Reader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.hash.Write(p[:n]) // a hash never fails
	v.got += int64(n)
	if err != nil && err != io.EOF {
		return 0, err // the last bytes may be wrong
	}
	// A size that is unknown leaves only io.EOF as the moment to compare. Otherwise the
	// digest is compared as soon as all bytes are there: a consumer that knows the size
	// may stop before it sees io.EOF.
	switch {
	case v.size < 0 && err == io.EOF:
		if wrong := v.sum(); wrong != nil {
			return 0, wrong
		}
		return n, io.EOF
	case v.size < 0:
		return n, err
	case v.got > v.size:
		return 0, v.longer()
	case v.got < v.size && err == io.EOF:
		return 0, mismatch(fmt.Sprintf("%s has %d of %d bytes", v.digest, v.got, v.size))
	case v.got < v.size:
		return n, err
	}
	if wrong := v.sum(); wrong != nil {
		return 0, wrong
	}
	if err == nil { // a consumer may stop at size bytes, so look now for one more
		_, err = io.ReadFull(v.r, make([]byte, 1))
	}
	if err == nil {
		return 0, v.longer()
	}
	if err == io.EOF {
		return n, io.EOF
	}
	return 0, err
}

func (v *Reader) longer() error {
	return mismatch(fmt.Sprintf("%s has more than %d bytes", v.digest, v.size))
}

// sum compares the digest of what was read so far. It does not change the state of the
// hash.
func (v *Reader) sum() error {
	if is := hex.EncodeToString(v.hash.Sum(nil)); is != v.digest.Hex {
		return mismatch(fmt.Sprintf("%s: the content has digest %s:%s", v.digest, v.digest.Algorithm, is))
	}
	return nil
}
