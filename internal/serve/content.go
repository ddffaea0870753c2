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

// Manifests and blobs over HTTP.

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

// serveContent answers with content, or the range of it that was asked for.
func serveContent(w http.ResponseWriter, r *http.Request, d digest.Digest, content io.ReadSeeker) {
	setDigest(w, d)
	w.Header().Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
}

func (a *api) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	stored, err := a.store.PutManifest(t.repository, t.reference, r.Header.Get("Content-Type"), r.Body)
	if err != nil {
		return err
	}
	if stored.Subject != "" {
		w.Header().Set("OCI-Subject", stored.Subject.String())
	}
	created(w, "/v2/"+t.repository+"/manifests/"+t.reference, stored.Digest)
	return nil
}

func created(w http.ResponseWriter, location string, d digest.Digest) {
	setDigest(w, d)
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

func (a *api) deleteManifest(w http.ResponseWriter, _ *http.Request, t target) error {
	if err := a.store.DeleteManifest(t.repository, t.reference); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

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

// startUpload begins an upload, unless the blob comes with the request or is to be
// mounted and is there. Blobs belong to all repositories, so that any may mount them.
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
	defer a.store.Cancel(u) // nothing after success
	if err := a.store.Finish(u, Chunk{Body: r.Body, First: -1, Length: -1}, d); err != nil {
		return err
	}
	created(w, "/v2/"+t.repository+"/blobs/"+d.String(), d)
	return nil
}

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

// uploadHeader says where an upload goes on, and how far it is. As Distribution does, it
// says 0-0 of nothing as well as of one byte.
func uploadHeader(w http.ResponseWriter, repository string, u *Upload) {
	h := w.Header()
	h.Set("Location", "/v2/"+repository+"/blobs/uploads/"+u.ID)
	h.Set("Docker-Upload-UUID", u.ID)
	h.Set("Range", "0-"+strconv.FormatInt(max(0, u.Size()-1), 10))
}

func (a *api) uploadStatus(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	uploadHeader(w, t.repository, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

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

func (a *api) cancelUpload(w http.ResponseWriter, _ *http.Request, t target) error {
	u, err := a.store.Upload(t.repository, t.reference)
	if err != nil {
		return err
	}
	a.store.Cancel(u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// contentRange is that of the distribution specification, "Pushing a blob in chunks".
var contentRange = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// parseChunk returns what a request appends to an upload. Without Content-Range it goes
// where the last chunk ended.
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
