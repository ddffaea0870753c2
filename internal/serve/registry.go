// Package serve is a registry in a directory, for trying mabuild without a registry
// service, and the HTTP server that it shares with mirror --listen. It has neither
// accounts nor TLS: everyone who can reach the address can read and write.
//
// [Store] is the content on disk. [NewRegistry] implements the OCI distribution
// specification over it, and shows the content to browsers. [Policy] and [Serve] protect a server against web pages of other
// sites in a browser, and against clients that would use up its memory, disk or
// connections.
//
// The registry supports pulling, pushing with monolithic and chunked uploads, mounting,
// deleting, listing and the referrers API with its filter. It does not redirect, does not
// delete blobs that no manifest names, and does not scan or rewrite content.
package serve

import (
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

	"github.com/mabuild/mabuild/internal/web"
)

// maxPage is the largest number of names in one page of a listing. A larger n in a
// request is reduced to it.
const maxPage = 1000

// NewRegistry returns a handler that serves a store by the OCI distribution
// specification, and pages to browsers on other paths than those of the specification. hosts are the [Policy]'s; refusals name its flag --host. logger gets one
// line for each request, and one with the cause of each failure of the server. The
// handler is safe for concurrent use, and does not close the store.
func NewRegistry(s *Store, hosts []string, logger *log.Logger) http.Handler {
	api := &api{store: s, log: logger}
	pages := web.Handler((&browser{s, logger}).page)
	policy := Policy{Hosts: hosts, Flag: "--host", Log: logger, Requests: true, Refuse: api.fail}
	return policy.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if browses(r) {
			pages.ServeHTTP(w, r)
		} else {
			api.ServeHTTP(w, r)
		}
	}))
}

// An api holds what the handlers of the specification's endpoints share.
type api struct {
	store *Store
	log   *log.Logger
}

// A target is the parsed path of a request. reference is a tag, a digest or the ID of an
// upload, by kind. Neither name is checked when the path is parsed.
type target struct {
	// kind is one of base, catalog, tags, referrers, manifests, blobs, uploads (all
	// sessions of a repository) and upload (one of them).
	kind       string
	repository string
	reference  string
}

// parsePath returns the target of a path. kind is "" for a path that the specification
// does not have. A repository name may contain any of the words that the endpoints use,
// such as blobs or tags, so a path is parsed from its end.
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
	// last splits the path before its last n elements; tail always has n elements.
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

// A handler answers one request. An error that it returns is answered by
// [api.answerError], so it must not have written the header before.
type handler func(http.ResponseWriter, *http.Request, target) error

// methods returns the handlers of a kind of target by HTTP method, nil for an unknown
// kind.
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

// reads returns a map with h for GET and HEAD. net/http drops the body of an answer to
// HEAD.
func reads(h handler) map[string]handler {
	return map[string]handler{http.MethodGet: h, http.MethodHead: h}
}

// ServeHTTP selects the handler by path and method and checks the name of the repository
// for all of them.
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

// allow returns the value of the Allow header, which a 405 requires (RFC 9110, 15.5.6).
func allow(methods map[string]handler) string {
	names := make([]string, 0, len(methods))
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// answerError answers with the part of err that a client may see. The log gets the whole
// error if it is a failure of the server.
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

// fail answers with an error body of the specification ("Error codes"). A 429 asks the
// client to wait for 10 seconds.
func (a *api) fail(w http.ResponseWriter, _ *http.Request, e *Error) {
	// The message is logged too: the log has what the client was told.
	if m, ok := w.(*mover); ok {
		m.outcome = " " + e.Code + " " + e.Message
	}
	if e.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	writeJSON(w, e.Status, "application/json", map[string][]*Error{"errors": {e}})
}

// writeJSON answers with value as JSON. value must be encodable.
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

// base answers GET /v2/, by which a client finds out that this is a registry
// ("Determining Support").
func (a *api) base(w http.ResponseWriter, _ *http.Request, _ target) error {
	writeJSON(w, http.StatusOK, "application/json", struct{}{})
	return nil
}

// catalog lists the repositories, as Docker Distribution does; the specification does not
// have this endpoint.
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

// tags lists the tags of a repository ("Listing Tags"), in the order of their bytes.
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

// paginate returns at most n names after the query's last, and sets the Link header if
// there are more. names must be sorted. last need not be one of them: a name that was
// deleted between two pages does not end the listing.
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
	if most > 0 { // n=0 is valid and gives an empty page
		next := url.Values{"last": {names[most-1]}, "n": {strconv.Itoa(most)}}
		link(w, r, next)
	}
	return append([]string{}, names[:most]...), nil
}

// link sets the Link header to the next page (RFC 8288). The target is relative to the
// host, so that it is right behind a proxy.
func link(w http.ResponseWriter, r *http.Request, query url.Values) {
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
}

// pageSize returns the query's n, limited to maxPage. A number that is too large for an
// integer counts as maxPage; anything else that is not a number is refused.
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

// referrers lists the manifests with a subject ("Listing Referrers"). A subject that does
// not exist has an empty list with status 200, as the specification requires. The filter
// by artifact type is applied here and announced with OCI-Filters-Applied.
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

// setDigest sets the digest of the content that an answer is about.
func setDigest(w http.ResponseWriter, d digest.Digest) {
	w.Header().Set("Docker-Content-Digest", d.String())
}
