package registry_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Any text of a registry, however long, becomes one clean line of at most 512 bytes, and no
// more is read than needed.
func TestErrorBodies(t *testing.T) {
	words := map[string]string{"lines": "one", "escapes": "red", "bidirectional": "evil", "zero width": "b", "ten thousand": "éé"}
	for name, text := range map[string]string{
		"lines":         "one\r\ntwo\n\nthree\x0bfour",
		"escapes":       "\x1b[31mred\x1b]0;title\x07 \u009b2J",
		"bidirectional": "\u202eevil\u2066x\u2069",
		"invalid UTF-8": "\xff\xfe\xc3(\xed\xa0\x80",
		"NUL":           "a\x00b",
		"zero width":    "a\u200bb\ufeffc",
		"ten thousand":  strings.Repeat("é", 10_000),
		"without end":   "",
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				quoted := strconv.Quote(text) // valid JSON, except for bytes that are not UTF-8
				if said, err := json.Marshal(text); err == nil && utf8.ValidString(text) {
					quoted = string(said)
				}
				_, _ = io.WriteString(w, `{"errors":[{"code":`+quoted+`,"message":`+strings.TrimSuffix(quoted, `"`))
				n := int64(0)
				if name == "without end" {
					n, _ = io.Copy(w, io.LimitReader(endless{}, 1<<30))
				}
				sent.Store(n)
				_, _ = io.WriteString(w, `"}]}`)
			}))
			defer server.Close()
			_, err := client(t).Get(t.Context(), server.Listener.Addr().String()+"/app:v1")
			var e *registry.Error
			if !errors.As(err, &e) || e.Status != http.StatusTeapot {
				t.Fatalf("got %v", err)
			}
			got := err.Error()
			if e.Err != nil && len(e.Err.Error()) > 512 || len(got) > 1024 || strings.ToValidUTF8(got, "") != got {
				t.Errorf("%d bytes: %q", len(got), got)
			}
			if want := words[name]; !strings.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
			if strings.ContainsAny(got, "\r\n\x0b\x1b\x07\x00\u009b\u202e\u2066\u2069\u200b\ufeff") {
				t.Errorf("%q", got)
			}
			server.Close() // when the handler has ended
			if n := sent.Load(); n > 32<<20 {
				t.Errorf("%d bytes were taken", n) // including data in buffers
			}
		})
	}
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// If the response to HEAD lacks a digest or a length, or if only HEAD is denied, a GET
// follows.
func TestHalfAnAnswerToHEAD(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
	put(t, client(t), r.Host+"/app:v1", idx)
	kind := string(must(idx.MediaType())(t))
	for _, fault := range []regtest.Fault{
		{Status: 200},
		{Status: 200, Header: http.Header{"Content-Type": {kind}}},
		{Status: 200, Header: http.Header{"Content-Type": {kind}, "Docker-Content-Digest": {"sha256:short"}}},
		{Status: 405},
		{Status: 415},
		{Status: 413},
		{Status: 501},
	} {
		r.Reset()
		fault.Method, fault.Path, fault.Times = "HEAD", "/manifests/v1", -1
		r.Inject(fault)
		d, err := client(t).Resolve(t.Context(), r.Host+"/app:v1")
		if err != nil || d.Digest != digestOf(t, idx) {
			t.Errorf("%+v: %s, %v", fault, d.Digest, err)
		}
		expect(t, r, map[string]int{"HEAD manifest": 1, "GET manifest": 1})
	}
}
