package serve

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

// The handlers of manifests, blobs and uploads.

// getManifest answers GET and HEAD of a manifest ("Pulling manifests"). The media type is
// the one that it was pushed with.
func (a *api) getManifest(w http.ResponseWriter, r *http.Request, t target) error {
	m, err := a.store.Manifest(t.repository, t.reference)
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // only read
	w.Header().Set("Content-Type", m.MediaType)
	serveContent(w, r, m.Digest, m.Body)
	return nil
}

// serveContent answers with content, or with the range that the request asks for. The
// digest is the ETag: content under a digest never changes, so If-None-Match and If-Range
// are exact. It answers HEAD too.
func serveContent(w http.ResponseWriter, r *http.Request, d digest.Digest, content io.ReadSeeker) {
	setDigest(w, d)
	w.Header().Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
}

// putManifest stores a manifest under a tag or digest ("Pushing Manifests"). OCI-Subject
// tells the client that the manifest is listed as a referrer, so that it does not write
// the referrers tag.
func (a *api) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	d, subject, err := a.store.PutManifest(t.repository, t.reference, r.Header.Get("Content-Type"), r.Body)
	if err != nil {
		return err
	}
	if subject != "" {
		w.Header().Set("OCI-Subject", subject.String())
	}
	created(w, "/v2/"+t.repository+"/manifests/"+t.reference, d)
	return nil
}

// created answers 201 without a body.
func created(w http.ResponseWriter, location string, d digest.Digest) {
	setDigest(w, d)
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// deleteManifest deletes a tag or a manifest ("Content Management").
func (a *api) deleteManifest(w http.ResponseWriter, _ *http.Request, t target) error {
	if err := a.store.DeleteManifest(t.repository, t.reference); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// getBlob answers GET and HEAD of a blob ("Pulling blobs"). The type is octet-stream for
// every blob, so that a browser does not show one. The repository's name does not matter,
// see [api.startUpload].
func (a *api) getBlob(w http.ResponseWriter, r *http.Request, t target) error {
	d, err := parseDigest(t.reference)
	if err != nil {
		return err
	}
	f, err := a.store.Blob(d)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	w.Header().Set("Content-Type", "application/octet-stream")
	serveContent(w, r, d, f)
	return nil
}

// deleteBlob deletes a blob for all repositories, since they share it.
func (a *api) deleteBlob(w http.ResponseWriter, _ *http.Request, t target) error {
	d, err := parseDigest(t.reference)
	if err == nil {
		err = a.store.DeleteBlob(d)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// startUpload opens an upload session, unless the request carries the whole blob (POST
// with digest) or a blob to mount exists ("Pushing blobs"). All repositories share the
// blobs, so every mount of an existing blob succeeds, whatever repository from names. A
// mount that fails opens a session, as the specification requires.
func (a *api) startUpload(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	if query.Has("mount") {
		mounted, err := a.mount(w, query, t)
		if err != nil || mounted {
			return err
		}
	}
	var d digest.Digest
	if query.Has("digest") {
		var err error
		if d, err = parseDigest(query.Get("digest")); err != nil {
			return err
		}
	}
	u, err := a.store.StartUpload(t.repository)
	if err != nil {
		return err
	}
	if d == "" {
		uploadHeader(w, t.repository, u)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	defer a.store.Cancel(u) // does nothing after success
	// Without a length the chunk ends with the body; the digest proves that it is
	// complete.
	if err := a.store.Finish(u, Chunk{Body: r.Body, First: -1, Length: -1}, d); err != nil {
		return err
	}
	created(w, "/v2/"+t.repository+"/blobs/"+d.String(), d)
	return nil
}

// mount answers 201 if the blob exists, and reports whether it did.
func (a *api) mount(w http.ResponseWriter, query url.Values, t target) (bool, error) {
	d, err := parseDigest(query.Get("mount"))
	if err != nil {
		return false, err
	}
	if from := query.Get("from"); from != "" {
		if err := checkRepository(from); err != nil {
			return false, err
		}
	}
	there, err := a.store.HasBlob(d)
	if err != nil || !there {
		return false, err
	}
	created(w, "/v2/"+t.repository+"/blobs/"+d.String(), d)
	return true, nil
}

// uploadHeader sets where an upload continues and how many bytes have arrived. Like
// Docker Distribution it writes 0-0 for an upload without bytes as well as for one byte:
// the header cannot express an empty range.
func uploadHeader(w http.ResponseWriter, repository string, u *Upload) {
	h := w.Header()
	h.Set("Location", "/v2/"+repository+"/blobs/uploads/"+u.ID)
	h.Set("Docker-Upload-UUID", u.ID)
	h.Set("Range", "0-"+strconv.FormatInt(max(0, u.Size()-1), 10))
}

// uploadStatus answers GET of an upload: how far it is ("Pushing a blob in chunks").
func (a *api) uploadStatus(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	uploadHeader(w, t.repository, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// writeUpload appends a chunk. An error has the session's headers too, so that the client
// can continue at the right offset.
func (a *api) writeUpload(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	chunk, err := parseChunk(r)
	if err == nil {
		err = a.store.Write(u, chunk)
	}
	uploadHeader(w, t.repository, u)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// finishUpload appends the last chunk, which may be empty, and makes the upload a blob.
func (a *api) finishUpload(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	d, err := parseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	chunk, err := parseChunk(r)
	if err == nil {
		err = a.store.Finish(u, chunk, d)
	}
	if err != nil {
		uploadHeader(w, t.repository, u)
		return err
	}
	created(w, "/v2/"+t.repository+"/blobs/"+d.String(), d)
	return nil
}

// cancelUpload ends an upload and drops its bytes.
func (a *api) cancelUpload(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	a.store.Cancel(u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// contentRange is the format of the distribution specification, "Pushing a blob in
// chunks". It is not that of RFC 9110: it has neither a unit nor a size.
var contentRange = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// parseChunk returns what a request appends to an upload. Without Content-Range the chunk
// begins where the last one ended. A range and a Content-Length that contradict each
// other are refused before anything is read.
func parseChunk(r *http.Request) (Chunk, error) {
	c := Chunk{Body: r.Body, First: -1, Length: r.ContentLength}
	text := r.Header.Get("Content-Range")
	if text == "" {
		return c, nil
	}
	m := contentRange.FindStringSubmatch(text)
	if m == nil {
		return c, uploadInvalid(http.StatusBadRequest, "Content-Range is %.50q, not FIRST-LAST", text)
	}
	first, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits always fit
	last, _ := strconv.ParseInt(m[2], 10, 64)
	length := last - first + 1
	if length < 1 || c.Length >= 0 && c.Length != length {
		return c, refuse(http.StatusBadRequest, "SIZE_INVALID", "Content-Range %s does not fit a body of %d bytes", text, r.ContentLength)
	}
	c.First, c.Length = first, length
	return c, nil
}
