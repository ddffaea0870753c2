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

	"github.com/mabuild/mabuild/internal/stream"
)

// The bounds of unfinished uploads, over all repositories. They keep a client from
// filling the disk with uploads that it never finishes. Finished blobs have no bound. A
// [Store] has the first three as fields, which tests reduce.
const (
	maxUploads     = 256
	maxUploadBytes = 64 << 30       // bytes of one upload
	maxUnfinished  = 128 << 30      // bytes of all uploads
	uploadIdle     = time.Hour      // an upload ends so long after its last request
	uploadLifetime = 24 * time.Hour // and so long after its first
)

// An Upload is an unfinished blob, as a file in uploadsDir. One request at a time writes
// to it ([Store.Write], [Store.Finish]); others may read its size or cancel it.
//
// Two parties may end an upload: a request that writes, which holds writing, and any
// other one, which must not wait for a slow body. The other one sets gone and tries to
// lock writing. If it gets the lock, it cleans up itself; if not, the request that writes
// sees gone when it unlocks and cleans up. Whoever cleans up sets removed, so that it
// happens once.
type Upload struct {
	ID         string
	repository string
	born       time.Time
	expiry     *time.Timer

	size atomic.Int64
	gone atomic.Bool // the upload has ended; set before its file is removed and never cleared

	// writing is held by the request that writes. It is only tried, never waited for, and
	// it is taken before uploads.mu.
	writing sync.Mutex
	// hash is the sha256 of the bytes in the file; writing guards it.
	hash hash.Hash
	// removed says that the file is removed and its bytes are no longer counted; writing
	// guards it.
	removed bool
}

// Size returns how many bytes have arrived. It may be called while a request writes.
func (u *Upload) Size() int64 { return u.size.Load() }

// uploadFile returns the path of an upload in the store.
func uploadFile(id string) string { return path.Join(uploadsDir, id) }

// uploadName is the form of file names in uploadsDir: the ID of an upload (a UUID's form,
// RFC 9562), or the text of crypto/rand.Text for a body that is spooled.
var uploadName = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Z2-7]{26})$`)

// isUpload reports whether a file name in uploadsDir is one of this package.
func isUpload(name string) bool { return uploadName.MatchString(name) }

// uploadUnknown is the answer for an upload that does not exist, has ended or is another
// repository's.
func uploadUnknown() *Error {
	return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload; it may have expired")
}

// StartUpload opens an upload to a repository. It ends with [Store.Finish],
// [Store.Cancel], a failure of the disk, an hour without requests, or after a day. Its ID
// is random, so that only the client that opened it can write to it.
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

// Upload returns an open upload of a repository and restarts its idle time.
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

// renew restarts the idle time within the lifetime. The caller holds uploads.mu.
func (u *Upload) renew() {
	u.expiry.Reset(min(uploadIdle, max(0, uploadLifetime-time.Since(u.born))))
}

// expire ends an upload whose time is over. While a request writes to it, the upload
// stays open for the rest of its lifetime, since a large chunk may take longer than the
// idle time.
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

// Cancel ends an upload and removes its file. An upload that has ended is left as it is.
func (s *Store) Cancel(u *Upload) { s.end(u) }

// end marks an upload as ended and cleans up, unless a request writes to it.
func (s *Store) end(u *Upload) {
	u.gone.Store(true)
	if u.writing.TryLock() {
		s.release(u)
		return
	}
	s.forget(u) // the request that writes removes the file
}

// forget removes an upload from the list of open ones.
func (s *Store) forget(u *Upload) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u.expiry.Stop()
	delete(s.uploads.open, u.ID)
}

// acquire makes the caller the only writer of an upload until [Store.release]. It fails
// with 409 if there is one, and with 404 if the upload has ended.
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

// release ends what acquire began, and cleans up if the upload has ended. Another request
// may set gone between the check and Unlock, and then fails to lock writing: it relies on
// this function to clean up. So release checks gone once more after Unlock, and cleans up
// itself if it gets the lock back.
func (s *Store) release(u *Upload) {
	for {
		if u.gone.Load() && !u.removed {
			u.removed = true
			s.forget(u)
			_ = s.root.Remove(uploadFile(u.ID)) // missing if published
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

// endUploads cancels all uploads. The list is copied, because end takes uploads.mu.
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

// A Chunk is a part of a blob. First is its offset, or -1 for the end of what has
// arrived; Length is its length in bytes, or -1 if it is unknown.
type Chunk struct {
	Body          io.Reader
	First, Length int64
}

// Write appends a chunk to an upload. A chunk that does not begin where the last one
// ended is refused (416), and so is a chunk while another arrives (409). If a body is cut
// off, the bytes that arrived stay, and the client continues after them. A failure of the
// disk, or a bound that is exceeded, ends the upload.
func (s *Store) Write(u *Upload, c Chunk) error {
	if err := s.acquire(u); err != nil {
		return err
	}
	defer s.release(u)
	return s.append(u, c)
}

// Finish appends the last chunk and makes the upload the blob d. If the digest is wrong,
// nothing is stored and the upload ends (DIGEST_INVALID). If the last chunk is cut off,
// the upload stays open. sha256 is computed while chunks arrive; any other algorithm
// costs a second read.
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

// append writes a chunk to the file of an upload. The caller has acquired the upload. A
// failure that is not the client's sets gone: the file may then have bytes that the hash
// does not.
func (s *Store) append(u *Upload, c Chunk) error {
	if c.First >= 0 && c.First != u.Size() {
		return uploadInvalid(http.StatusRequestedRangeNotSatisfiable, "the chunk begins at %d, and %d bytes have arrived", c.First, u.Size())
	}
	f, err := s.root.OpenFile(uploadFile(u.ID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		u.gone.Store(true)
		return err
	}
	// The bytes are counted before the file gets them, and hashed when it has taken them.
	file := s.writer(f)
	w := stream.Writer(func(p []byte) (int, error) {
		if err := s.reserve(u, int64(len(p))); err != nil {
			return 0, err
		}
		n, err := file.Write(p)
		u.hash.Write(p[:n])
		return n, err
	})
	body := fromClient(c.Body)
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

// reserve counts n bytes before they are written, so that two uploads cannot exceed a
// bound together.
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
