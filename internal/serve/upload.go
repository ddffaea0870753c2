package serve

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// The bounds of unfinished uploads.
const (
	maxUploads     = 256
	maxUploadBytes = 64 << 30  // of one
	maxUnfinished  = 128 << 30 // of all
	uploadIdle     = time.Hour // since the last request
	uploadLifetime = 24 * time.Hour
)

// uploads are those that are open.
type uploads struct {
	mu    sync.Mutex
	open  map[string]*Upload
	bytes int64 // of all, on the disk

	most, mostBytes, mostOfOne int64 // tests make them smaller
}

func newUploads() uploads {
	return uploads{open: map[string]*Upload{}, most: maxUploads, mostBytes: maxUnfinished, mostOfOne: maxUploadBytes}
}

// An Upload is a blob that is not finished, as a file. One request at a time writes to
// it ([Store.Write]); others see how far it is, or cancel it.
type Upload struct {
	ID         string
	repository string
	born       time.Time
	expiry     *time.Timer

	size atomic.Int64
	gone atomic.Bool // it is not open any more, and its file goes with the request that writes

	writing sync.Mutex // held by that request
	hash    hash.Hash  // sha256 of what is in the file
	removed bool
}

// Size returns how many bytes have arrived.
func (u *Upload) Size() int64 { return u.size.Load() }

func uploadFile(id string) string { return path.Join(uploadsDir, id) }

// uploadName is what the files of uploads are called: the ID of a session (RFC 9562), or
// what crypto/rand.Text returns for a body that is read whole.
var uploadName = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Z2-7]{26})$`)

func isUpload(name string) bool { return uploadName.MatchString(name) }

func uploadUnknown() *Error {
	return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload; it may have expired")
}

// StartUpload begins an upload to a repository. It ends with Finish, Cancel, an error of
// the disk, an hour without requests, or after a day.
func (s *Store) StartUpload(repository string) (*Upload, error) {
	if err := checkRepository(repository); err != nil {
		return nil, err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	u := &Upload{
		ID:         fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		repository: repository, born: time.Now(), hash: sha256.New(),
	}
	s.uploads.mu.Lock()
	if int64(len(s.uploads.open)) >= s.uploads.most {
		s.uploads.mu.Unlock()
		return nil, tooMany("%d uploads are open", s.uploads.most)
	}
	s.uploads.open[u.ID] = u
	u.expiry = time.AfterFunc(uploadIdle, func() { s.expire(u) })
	s.uploads.mu.Unlock()
	f, err := s.create(u.ID)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		s.end(u)
		return nil, err
	}
	return u, nil
}

// Upload returns an open upload of a repository, whose time begins anew.
func (s *Store) Upload(repository, id string) (*Upload, error) {
	if err := checkRepository(repository); err != nil {
		return nil, err
	}
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u := s.uploads.open[id]
	if u == nil || u.repository != repository {
		return nil, uploadUnknown()
	}
	u.renew()
	return u, nil
}

// renew is called with uploads.mu held.
func (u *Upload) renew() {
	u.expiry.Reset(min(uploadIdle, max(0, uploadLifetime-time.Since(u.born))))
}

// expire ends an upload whose time is over. One that a request writes to lives on, within
// its lifetime.
func (s *Store) expire(u *Upload) {
	if !u.writing.TryLock() {
		if time.Since(u.born) >= uploadLifetime {
			s.end(u)
			return
		}
		s.uploads.mu.Lock()
		defer s.uploads.mu.Unlock()
		if s.uploads.open[u.ID] == u {
			u.renew()
		}
		return
	}
	u.gone.Store(true)
	s.release(u)
}

// Cancel ends an upload and removes its file.
func (s *Store) Cancel(u *Upload) { s.end(u) }

func (s *Store) end(u *Upload) {
	u.gone.Store(true)
	if u.writing.TryLock() {
		s.release(u)
		return
	}
	s.forget(u) // the request that writes removes the file
}

func (s *Store) forget(u *Upload) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u.expiry.Stop()
	delete(s.uploads.open, u.ID)
}

// acquire lets the caller alone write to an upload, until release.
func (s *Store) acquire(u *Upload) error {
	if !u.writing.TryLock() {
		return uploadInvalid(http.StatusConflict, "another request writes to this upload")
	}
	if u.gone.Load() {
		s.release(u)
		return uploadUnknown()
	}
	return nil
}

// release ends what acquire began. The file of an upload that has ended is removed, by
// whoever holds it last.
func (s *Store) release(u *Upload) {
	for {
		if u.gone.Load() && !u.removed {
			u.removed = true
			s.forget(u)
			_ = s.root.Remove(uploadFile(u.ID)) // published, or removed again when the store is opened
			s.uploads.mu.Lock()
			s.uploads.bytes -= u.size.Load()
			s.uploads.mu.Unlock()
		}
		u.writing.Unlock()
		if !u.gone.Load() || !u.writing.TryLock() {
			return
		}
		if u.removed {
			u.writing.Unlock()
			return
		}
	}
}

// endUploads cancels all.
func (s *Store) endUploads() {
	s.uploads.mu.Lock()
	var all []*Upload
	for _, u := range s.uploads.open {
		all = append(all, u)
	}
	s.uploads.mu.Unlock()
	for _, u := range all {
		s.end(u)
	}
}

// A Chunk is a part of a blob. First is where it begins, or -1 for the end of what has
// arrived; Length is its length, or -1 if it is not known.
type Chunk struct {
	Body          io.Reader
	First, Length int64
}

// Write appends a chunk to an upload. A chunk that does not begin where the last one
// ended is refused (416), as is a second one while the first arrives (409). What arrived
// of a body that was cut off stays. An error of the disk, or a bound, ends the upload.
func (s *Store) Write(u *Upload, c Chunk) error {
	if err := s.acquire(u); err != nil {
		return err
	}
	defer s.release(u)
	return s.append(u, c)
}

// Finish appends the last chunk and makes the upload the blob d. If the digest is wrong
// the upload ends.
func (s *Store) Finish(u *Upload, c Chunk, d digest.Digest) error {
	if err := s.acquire(u); err != nil {
		return err
	}
	defer s.release(u)
	if err := s.append(u, c); err != nil {
		return err
	}
	u.gone.Store(true)
	got := digest.NewDigest(digest.SHA256, u.hash)
	if d.Algorithm() != digest.SHA256 {
		var err error
		if got, err = s.sum(uploadFile(u.ID), d.Algorithm()); err != nil {
			return err
		}
	}
	if got != d {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the blob's digest is %s", got)
	}
	if info, err := s.stat(blobFile(d)); err == nil && info.Size() == u.Size() {
		return nil
	}
	return s.publish(uploadFile(u.ID), blobFile(d))
}

// sum returns the digest of a file.
func (s *Store) sum(name string, algorithm digest.Algorithm) (digest.Digest, error) {
	f, _, err := s.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	return algorithm.FromReader(f)
}

// append is called by the request that holds the upload.
func (s *Store) append(u *Upload, c Chunk) error {
	if c.First >= 0 && c.First != u.Size() {
		return uploadInvalid(http.StatusRequestedRangeNotSatisfiable, "the chunk begins at %d, and %d bytes have arrived", c.First, u.Size())
	}
	f, err := s.root.OpenFile(uploadFile(u.ID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		u.gone.Store(true)
		return err
	}
	w := &uploadWriter{store: s, upload: u, file: &faultyWriter{s, f}}
	body := io.Reader(bodyReader{c.Body})
	if c.Length >= 0 {
		body = io.LimitReader(body, c.Length)
	}
	n, err := io.Copy(w, body)
	if err == nil && n == c.Length {
		if more, _ := c.Body.Read(make([]byte, 1)); more > 0 {
			err = readError{uploadInvalid(http.StatusBadRequest, "the body is longer than %d bytes", n)}
		}
	}
	err = errors.Join(err, f.Close())
	switch {
	case errors.As(err, new(readError)):
	case err != nil:
		u.gone.Store(true)
	case c.Length >= 0 && n != c.Length:
		err = readError{io.ErrUnexpectedEOF}
	}
	return err
}

// An uploadWriter counts and sums what it writes to the file of an upload.
type uploadWriter struct {
	store  *Store
	upload *Upload
	file   io.Writer
}

func (w *uploadWriter) Write(p []byte) (int, error) {
	if err := w.store.reserve(w.upload, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.file.Write(p)
	w.upload.hash.Write(p[:n])
	return n, err
}

// reserve counts n bytes that are about to be written.
func (s *Store) reserve(u *Upload, n int64) error {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	switch {
	case u.gone.Load():
		return uploadUnknown()
	case u.Size()+n > s.uploads.mostOfOne:
		return refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a blob has at most %d bytes", s.uploads.mostOfOne)
	case s.uploads.bytes+n > s.uploads.mostBytes:
		return tooMany("the unfinished uploads have %d bytes", s.uploads.bytes)
	}
	s.uploads.bytes += n
	u.size.Add(n)
	return nil
}
