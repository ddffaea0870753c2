package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
)

// A narrow proxy refuses a body that is larger than its limit.
type narrow struct {
	limit, least int64
	status       int // the status that refuses a chunk; a complete blob is refused with 413

	mu     sync.Mutex
	sizes  []int64 // of the accepted chunks
	denied int     // chunks
}

func (n *narrow) start(t *testing.T, r *regtest.Registry) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Judge()})
	transport := &http.Transport{}
	proxy.Transport = transport
	proxy.ModifyResponse = func(resp *http.Response) error {
		if n.least > 0 && resp.StatusCode == http.StatusAccepted {
			resp.Header.Set("OCI-Chunk-Min-Length", fmt.Sprint(n.least))
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n.mu.Lock()
		over, chunk := req.ContentLength > n.limit, req.Method == http.MethodPatch
		switch {
		case over && chunk:
			n.denied++
		case chunk:
			n.sizes = append(n.sizes, req.ContentLength)
		}
		n.mu.Unlock()
		if over {
			_, _ = io.Copy(io.Discard, req.Body)
			w.WriteHeader(map[bool]int{true: n.status, false: http.StatusRequestEntityTooLarge}[chunk])
			return
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.Listener.Addr().String()
}

// A chunk that is too large is halved until it is accepted. The size is used for the host
// for the rest of the run.
func TestChunksThatAreTooLarge(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	const mega = 1 << 20
	for name, one := range map[string]struct {
		limit, least int64
		status       int
		wrong        bool
	}{
		"1 MiB":                     {limit: mega, status: 413},
		"1 MiB, 416":                {limit: mega, status: 416},
		"100 KiB":                   {limit: 100 << 10, status: 413},
		"the floor":                 {limit: 64 << 10, status: 413},
		"below the floor":           {limit: 10 << 10, status: 413, wrong: true},
		"below the floor, 416":      {limit: 10 << 10, status: 416, wrong: true},
		"below the least of theirs": {limit: mega, least: 2 * mega, status: 413, wrong: true},
		"the least of theirs":       {limit: mega, least: mega, status: 413},
	} {
		t.Run(name, func(t *testing.T) {
			n := narrow{limit: one.limit, least: one.least, status: one.status}
			host := n.start(t, r)
			c := client(t)
			layer := must(random.Layer(3*mega+12345, types.OCILayer, random.WithSource(regtest.Source(t))))(t)
			err := c.Carry(t.Context(), host+"/app:v1", layer)
			if one.wrong {
				if err == nil || !strings.Contains(err.Error(), fmt.Sprint(one.status)) || !strings.Contains(hintOf(err), "client_max_body_size") {
					t.Errorf("got %v, hint %q", err, hintOf(err))
				}
				if n.denied > 16 {
					t.Errorf("%d chunks were refused", n.denied)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			denied := n.denied
			if denied == 0 || denied > 12 {
				t.Errorf("%d chunks were refused", denied)
			}
			for _, size := range n.sizes[:len(n.sizes)-1] {
				if size > n.limit || size < max(n.limit/2, n.least) {
					t.Errorf("a chunk of %d bytes", size)
				}
			}
			other := must(random.Layer(2*mega, types.OCILayer, random.WithSource(regtest.Source(t))))(t)
			if err := c.Carry(t.Context(), host+"/other:v1", other); err != nil || n.denied != denied {
				t.Errorf("%v, %d more chunks were refused", err, n.denied-denied)
			}
		})
	}
}

// A layer from another registry is read in parts while it is sent, and not from its
// beginning for each chunk.
func TestChunksOfAnotherRegistry(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]regtest.Options{"ranges": {}, "no ranges": {NoRanges: true}} {
		t.Run(name, func(t *testing.T) {
			source, target := regtest.Start(t, o), regtest.Start(t, regtest.Options{})
			n := narrow{limit: 300_000, status: 413}
			host := n.start(t, target)
			img := regtest.Image(t, "amd64", 2_000_000, 1)
			put(t, client(t), source.Host+"/app:v1", img)
			source.Reset()
			c := client(t)
			put(t, c, host+"/app:v1", must(c.Get(t.Context(), source.Host+"/app:v1"))(t).(v1.Image))
			verifyTag(t, target, "app:v1", img)
			down := int64(0)
			for _, req := range source.Requests() {
				down += req.Down
			}
			if o.NoRanges {
				return
			}
			if most := int64(2_000_000 * 5); down > most { // complete, and halved three times
				t.Errorf("%d bytes were read", down)
			}
		})
	}
}
