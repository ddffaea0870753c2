// Package serve is a registry in a directory, for a first try: no account, no
// TLS, no limits.
//
// It is go-containerregistry's registry, which keeps manifests in memory and
// takes images whose blobs it has never seen, made to keep all on disk and to
// refuse what is incomplete.
package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest bounds a manifest, as registries commonly do.
const maxManifest = 4 << 20

// A Server is an http.Handler that speaks the distribution specification.
type Server struct {
	dir   string
	inner http.Handler
	log   *log.Logger

	mu sync.Mutex // held while manifests change, in memory and on disk
}

// stored is a manifest as it lies on disk.
type stored struct {
	Repository string          `json:"repository"`
	Reference  string          `json:"reference"`
	MediaType  types.MediaType `json:"mediaType"`
	Body       []byte          `json:"body"`
}

// New serves what is in dir, which it creates. log gets a line a request, and one for
// each manifest that is on disk and cannot be served again; nil gets none.
func New(ctx context.Context, dir string, logger *log.Logger) (*Server, error) {
	if logger == nil {
		logger = log.New(io.Discard, "", 0)
	}
	blobs := filepath.Join(dir, "blobs")
	s := &Server{dir: filepath.Join(dir, "manifests"), log: logger}
	for _, d := range []string{blobs, s.dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	s.inner = registry.New(
		registry.Logger(logger), registry.WithReferrersSupport(true),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
	)
	return s, s.restore(ctx)
}

var manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := manifestPath.FindStringSubmatch(r.URL.Path)
	switch {
	case m != nil && r.Method == http.MethodPut:
		s.put(w, r, stored{Repository: m[1], Reference: m[2], MediaType: types.MediaType(r.Header.Get("Content-Type"))})
	case m != nil && r.Method == http.MethodDelete:
		s.delete(w, r, stored{Repository: m[1], Reference: m[2]})
	default:
		s.inner.ServeHTTP(w, r)
	}
}

// put takes a manifest whose children and blobs are all there.
func (s *Server) put(w http.ResponseWriter, r *http.Request, m stored) {
	var err error
	if m.Body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest)); err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := s.missing(r.Context(), m); missing != "" {
		refuse(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", missing+" is not in the repository")
		return
	}
	a := s.ask(r.Context(), http.MethodPut, "/v2/"+m.Repository+"/manifests/"+m.Reference, m)
	if a.code == http.StatusCreated {
		if err := s.keep(m); err != nil {
			refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
	}
	a.pass(w)
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, m stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := newAnswer()
	s.inner.ServeHTTP(a, r)
	if a.code == http.StatusAccepted {
		if err := os.Remove(s.file(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
	}
	a.pass(w)
}

// missing names something that the manifest reaches and the registry lacks.
// Children of an index are the inner registry's to check.
func (s *Server) missing(ctx context.Context, m stored) string {
	if !m.MediaType.IsImage() {
		return ""
	}
	parsed, err := v1.ParseManifest(bytes.NewReader(m.Body))
	if err != nil {
		return ""
	}
	for _, d := range append(slices.Clone(parsed.Layers), parsed.Config) {
		if len(d.URLs) > 0 {
			continue
		}
		a := s.ask(ctx, http.MethodHead, "/v2/"+m.Repository+"/blobs/"+d.Digest.String(), stored{})
		if a.code != http.StatusOK {
			return d.Digest.String()
		}
	}
	return ""
}

// ask asks the inner registry, with m as the body.
func (s *Server) ask(ctx context.Context, method, path string, m stored) *answer {
	a := newAnswer()
	r, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(m.Body))
	if err != nil { // a path that is none
		a.code = http.StatusBadRequest
		return a
	}
	r.Header.Set("Content-Type", string(m.MediaType))
	s.inner.ServeHTTP(a, r)
	return a
}

func (s *Server) file(m stored) string {
	h, _, _ := v1.SHA256(strings.NewReader(m.Repository + "\x00" + m.Reference)) // a string reads without an error
	return filepath.Join(s.dir, h.Hex)
}

// keep writes a manifest to disk, whole or not at all.
func (s *Server) keep(m stored) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	temp := s.file(m) + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, s.file(m))
}

// restore puts what is on disk back, children before the indexes that hold them.
func (s *Server) restore(ctx context.Context) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var waiting []stored
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".new" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return err
		}
		var m stored
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
		waiting = append(waiting, m)
	}
	codes := map[string]int{}
	for n := -1; len(waiting) != n; {
		n = len(waiting)
		waiting = slices.DeleteFunc(waiting, func(m stored) bool {
			code := s.ask(ctx, http.MethodPut, "/v2/"+m.Repository+"/manifests/"+m.Reference, m).code
			codes[s.file(m)] = code
			return code == http.StatusCreated
		})
	}
	for _, m := range waiting {
		s.log.Printf("%s of %s is on disk, in %s, and is not served: %d %s", m.Reference, m.Repository, s.file(m), codes[s.file(m)], http.StatusText(codes[s.file(m)]))
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.NewEncoder(w).Encode(map[string][]problem{"errors": {{code, message}}}) // the client has gone, or not
}

// An answer is the inner registry's, held back until it is known to be good.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, code: http.StatusOK} }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) pass(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes()) // the client has gone, or not
}
