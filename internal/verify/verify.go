// Package verify reads content and holds it against its digest.
package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrMismatch is in the chain of the error of a [Reader] whose content is not that of the
// digest.
var ErrMismatch = errors.New("content differs from its digest")

// A mismatch says how content differs. Its text does not repeat [ErrMismatch].
type mismatch string

func (m mismatch) Error() string        { return string(m) }
func (m mismatch) Is(target error) bool { return target == ErrMismatch }

// A Reader hands on what it reads. If the size is known, an error stands in the place of
// the last bytes of wrong content, so that it is never whole; if not, the error stands in
// the place of io.EOF.
type Reader struct {
	r      io.Reader
	digest v1.Hash
	size   int64
	hash   hash.Hash
	got    int64
}

// NewReader reads r, which must have digest and size; a size of -1 is not known.
func NewReader(r io.Reader, digest v1.Hash, size int64) (*Reader, error) {
	hasher, err := v1.Hasher(digest.Algorithm)
	if err != nil {
		return nil, err
	}
	return &Reader{r: r, digest: digest, size: size, hash: hasher}, nil
}

func (v *Reader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.hash.Write(p[:n]) // a hash never fails
	v.got += int64(n)
	if err != nil && err != io.EOF {
		return 0, err // the last bytes may be wrong
	}
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
	if err == nil { // whoever has size bytes may ask for no more
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

func (v *Reader) sum() error {
	if is := hex.EncodeToString(v.hash.Sum(nil)); is != v.digest.Hex {
		return mismatch(fmt.Sprintf("%s: the content has digest %s:%s", v.digest, v.digest.Algorithm, is))
	}
	return nil
}
