// Package serve is a registry in a directory, for a first try, and what its server has
// in common with the other servers of mabuild: no account, no TLS.
//
// [Store] is what lies on the disk; [NewRegistry] speaks the distribution specification
// over it; [Policy] and [Serve] hold a server against browsers that show the pages of
// others, and against neighbours that want all its memory, disk or connections.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxPage is how many names a list has at most.
const maxPage = 1000

// NewRegistry answers requests to a store by the distribution specification. hosts are
// those of a [Policy], whose flag is --host. The logger gets a line a request.
func NewRegistry(s *Store, hosts []string, logger *log.Logger) http.Handler {
	api := &api{store: s, log: logger}
	policy := Policy{Hosts: hosts, Flag: "--host", Log: logger, Refuse: api.fail}
	return api.logged(policy.Protect(api))
}

type api struct {
	store *Store
	log   *log.Logger
}

// A target is what the path of a request names. Reference is a tag, a digest or the ID of
// an upload.
type target struct {
	kind       string
	repository string
	reference  string
}

// parsePath returns the target of a path; its kind is "" if it is none of the
// specification's.
func parsePath(path string) target {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || path == "/v2/":
		return target{kind: "base"}
	case !ok:
		return target{}
	case rest == "_catalog":
		return target{kind: "catalog"}
	}
	parts := strings.Split(rest, "/")
	last := func(n int) (repository string, tail []string) {
		if len(parts) < n {
			return "", make([]string, n)
		}
		at := len(parts) - n
		return strings.Join(parts[:at], "/"), parts[at:]
	}
	if repository, tail := last(3); tail[0] == "blobs" && tail[1] == "uploads" {
		if tail[2] == "" {
			return target{"uploads", repository, ""}
		}
		return target{"upload", repository, tail[2]}
	}
	repository, tail := last(2)
	switch {
	case tail[0] == "blobs" && tail[1] == "uploads":
		return target{"uploads", repository, ""}
	case tail[0] == "tags" && tail[1] == "list":
		return target{"tags", repository, ""}
	case slices.Contains([]string{"manifests", "blobs", "referrers"}, tail[0]):
		return target{tail[0], repository, tail[1]}
	}
	return target{}
}

type handler func(http.ResponseWriter, *http.Request, target) error

// methods returns what a kind of target answers to.
func (a *api) methods(kind string) map[string]handler {
	switch kind {
	case "base":
		return reads(a.base)
	case "catalog":
		return reads(a.catalog)
	case "tags":
		return reads(a.tags)
	case "referrers":
		return reads(a.referrers)
	case "manifests":
		m := reads(a.getManifest)
		m[http.MethodPut], m[http.MethodDelete] = a.putManifest, a.deleteManifest
		return m
	case "blobs":
		m := reads(a.getBlob)
		m[http.MethodDelete] = a.deleteBlob
		return m
	case "uploads":
		return map[string]handler{http.MethodPost: a.startUpload}
	case "upload":
		m := reads(a.uploadStatus)
		m[http.MethodPatch], m[http.MethodPut], m[http.MethodDelete] = a.writeUpload, a.finishUpload, a.cancelUpload
		return m
	}
	return nil
}

func reads(h handler) map[string]handler {
	return map[string]handler{http.MethodGet: h, http.MethodHead: h}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	t := parsePath(r.URL.Path)
	methods := a.methods(t.kind)
	handle := methods[r.Method]
	switch {
	case methods == nil:
		a.fail(w, r, refuse(http.StatusNotFound, "UNSUPPORTED", "the registry has no such path"))
	case handle == nil:
		w.Header().Set("Allow", allow(methods))
		a.fail(w, r, refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the path does not support %.20s", r.Method))
	default:
		if t.repository != "" || t.kind != "base" && t.kind != "catalog" {
			if err := checkRepository(t.repository); err != nil {
				a.answerError(w, r, err)
				return
			}
		}
		if err := handle(w, r, t); err != nil {
			a.answerError(w, r, err)
		}
	}
}

func allow(methods map[string]handler) string {
	names := make([]string, 0, len(methods))
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// A line is what the log says of a request beside its name.
type line struct {
	status  int
	outcome string
}

type lineKey struct{}

type statusWriter struct {
	http.ResponseWriter
	line *line
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) WriteHeader(status int) {
	w.line.status = status
	w.ResponseWriter.WriteHeader(status)
}

// logged writes a line for each request, in ASCII: a request holds what its client wants.
func (a *api) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := &line{status: http.StatusOK}
		defer func() {
			quoted := strconv.QuoteToASCII(r.RequestURI)
			a.log.Printf("%s %s %d%s", r.Method, quoted[1:len(quoted)-1], l.status, l.outcome)
		}()
		h.ServeHTTP(&statusWriter{w, l}, r.WithContext(context.WithValue(r.Context(), lineKey{}, l)))
	})
}

// answerError answers with what a client may know of err; the log has all of it.
func (a *api) answerError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.As(err, new(readError)) {
		code := "BLOB_UPLOAD_INVALID"
		if parsePath(r.URL.Path).kind == "manifests" {
			code = "MANIFEST_INVALID"
		}
		err = cutOff(err, code)
	}
	e := answerTo(err)
	if e.Status >= http.StatusInternalServerError {
		a.log.Printf("%s: %s", r.Method, err)
	}
	a.fail(w, r, e)
}

// fail answers with an error of the specification.
func (a *api) fail(w http.ResponseWriter, r *http.Request, e *Error) {
	if l, ok := r.Context().Value(lineKey{}).(*line); ok {
		l.outcome = " " + e.Code + " " + e.Message
	}
	if e.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	writeJSON(w, e.Status, "application/json", map[string][]problem{"errors": {{e.Code, e.Message}}})
}

func writeJSON(w http.ResponseWriter, status int, mediaType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // only text, numbers and lists are written
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

func (a *api) base(w http.ResponseWriter, _ *http.Request, _ target) error {
	writeJSON(w, http.StatusOK, "application/json", struct{}{})
	return nil
}

func (a *api) catalog(w http.ResponseWriter, r *http.Request, _ target) error {
	names, err := a.store.Repositories()
	if err != nil {
		return err
	}
	page, err := paginate(w, r, names)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", map[string][]string{"repositories": page})
	return nil
}

func (a *api) tags(w http.ResponseWriter, r *http.Request, t target) error {
	names, err := a.store.Tags(t.repository)
	if err != nil {
		return err
	}
	page, err := paginate(w, r, names)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{t.repository, page})
	return nil
}

// paginate returns the names after the query's last, at most n of them, and sets the Link
// header if there are more.
func paginate(w http.ResponseWriter, r *http.Request, names []string) ([]string, error) {
	query := r.URL.Query()
	most, err := pageSize(query)
	if err != nil {
		return nil, err
	}
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(names, last)
		if found {
			at++
		}
		names = names[at:]
	}
	if len(names) <= most {
		return append([]string{}, names...), nil
	}
	if most > 0 { // a page of none has no last
		next := url.Values{"last": {names[most-1]}, "n": {strconv.Itoa(most)}}
		link(w, r, next)
	}
	return append([]string{}, names[:most]...), nil
}

// link names the next page (RFC 8288).
func link(w http.ResponseWriter, r *http.Request, query url.Values) {
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
}

func pageSize(query url.Values) (int, error) {
	text := query.Get("n")
	if text == "" {
		return maxPage, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, refuse(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is %.50q, not a number of names", text)
	}
	return int(min(n, maxPage)), nil
}

func (a *api) referrers(w http.ResponseWriter, r *http.Request, t target) error {
	subject, err := parseDigest(t.reference)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	artifactType := query.Get("artifactType")
	list, more, err := a.store.Referrers(t.repository, subject, artifactType, query.Get("last"))
	if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if more {
		next := url.Values{"last": {list[len(list)-1].Digest.String()}}
		if artifactType != "" {
			next.Set("artifactType", artifactType)
		}
		link(w, r, next)
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list}
	index.SchemaVersion = 2
	writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, index)
	return nil
}

func setDigest(w http.ResponseWriter, d digest.Digest) {
	w.Header().Set("Docker-Content-Digest", d.String())
}
