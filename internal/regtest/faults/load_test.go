//go:build chaos && unix

package faults

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

var six = []string{"amd64", "arm64", "arm", "ppc64le", "s390x", "riscv64"}

// load pushes n images of six platforms at once through one client. It returns the number
// of requests and the highest memory.
func load(t *testing.T, b *bench, n int) (requests int, memory uint64) {
	t.Helper()
	c := &registry.Client{Keychain: login{user, password}}
	images := make([]v1.ImageIndex, n)
	for i := range images {
		images[i] = regtest.RandomIndex(t, 2_000, 2, six...)
	}
	memory = watchMemory(func() {
		var pushing sync.WaitGroup
		for i, idx := range images {
			pushing.Go(func() {
				repo := fmt.Sprintf("load%d", i)
				if err := push(t.Context(), c, b.Host+"/"+repo, idx); err != nil {
					t.Error(err)
					return
				}
				b.verifyTag(t, repo, nil, idx)
			})
		}
		pushing.Wait()
	})
	for _, r := range b.Requests() {
		if r.Path != "/token" {
			requests++
		}
	}
	return requests, memory
}

// watchMemory returns the highest memory of the process while work ran, with Go's own
// frequency of garbage collections: TestMain sets a lower one.
func watchMemory(work func()) (most uint64) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	debug.FreeOSMemory()
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.Sys-m.HeapReleased)
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	work()
	close(stop)
	watching.Wait()
	return most
}

// Two hundred pushes at once in one process.
func TestChaosLoad(t *testing.T) {
	b := start(t, regtest.Options{})
	began := time.Now()
	requests, memory := load(t, b, count(t, "MABUILD_CHAOS_PUSHES", 200))
	t.Logf("%d requests in %v, %d MiB, %d connections", requests, time.Since(began).Round(time.Second), memory>>20, b.MostConnections())
	if memory > 300<<20 || b.MostConnections() > 64 {
		t.Errorf("%d MiB, %d connections", memory>>20, b.MostConnections())
	}
}

// The same if one request in a hundred fails and one in two hundred is interrupted, and
// with a limit of fifty requests a second: above it, a 429 asks for a pause of a second.
func TestChaosSoak(t *testing.T) {
	chance := dice(t)
	n := count(t, "MABUILD_CHAOS_SOAK", 200)
	calm := start(t, regtest.Options{})
	least, _ := load(t, calm, n)
	b := start(t, regtest.Options{Rate: 50})
	b.Inject(
		regtest.Fault{Chance: chance, Times: -1, Status: 503},
		regtest.Fault{Chance: chance, OneIn: 200, Times: -1, Action: regtest.Abort},
	)
	began := time.Now()
	requests, memory := load(t, b, n)
	inside := insidePauses(t, b.Requests())
	t.Logf("%d requests where %d would do, in %v, %d MiB, %d connections, %d inside a pause", requests, least, time.Since(began).Round(time.Second), memory>>20, b.MostConnections(), inside)
	if memory > 300<<20 || b.MostConnections() > 64 || inside > 0 {
		t.Errorf("%d MiB, %d connections, %d inside a pause", memory>>20, b.MostConnections(), inside)
	}
	if float64(requests) > 1.3*float64(least) {
		t.Errorf("%d requests, %d without faults", requests, least)
	}
}

// insidePauses counts the requests that arrive during a pause that the registry asked for,
// except those that were sent before.
func insidePauses(t *testing.T, all []regtest.Request) (inside int) {
	t.Helper()
	const underway = 500 * time.Millisecond // tolerance for a busy machine
	for i, told := range all {
		if told.Status != http.StatusTooManyRequests {
			continue
		}
		for _, later := range all[i+1:] {
			since := later.At.Sub(told.At)
			if since >= time.Second {
				break
			}
			if since > underway && later.Path != "/token" {
				t.Logf("%s came %v after %s was told to wait", later.Kind(), since, told.Kind())
				inside++
			}
		}
	}
	return inside
}

// blockSize is the size of the blocks of a long blob, which differ only in their number.
const blockSize = 64 << 10

// A long is a generated blob of any size.
type long struct {
	size, at int64
	block    [blockSize]byte
}

func (l *long) Read(p []byte) (int, error) {
	if l.at >= l.size {
		return 0, io.EOF
	}
	inner := l.at % blockSize
	binary.BigEndian.PutUint64(l.block[:], uint64(l.at/blockSize))
	n := copy(p[:min(int64(len(p)), l.size-l.at)], l.block[inner:])
	l.at += int64(n)
	return n, nil
}

func (l *long) Seek(offset int64, whence int) (int64, error) {
	l.at = map[int]int64{io.SeekStart: 0, io.SeekCurrent: l.at, io.SeekEnd: l.size}[whence] + offset
	return l.at, nil
}

// A layer of 2 GiB whose download is interrupted five times arrives completely, with little
// memory and few bytes sent twice.
func TestChaosDownload(t *testing.T) {
	chance := dice(t)
	size := int64(count(t, "MABUILD_CHAOS_MIB", 2048)) << 20
	hash := sha256.New()
	if _, err := io.Copy(hash, &long{size: size}); err != nil {
		t.Fatal(err)
	}
	layer := fmt.Sprintf("sha256:%x", hash.Sum(nil))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%x","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
		types.OCIManifestSchema1, sha256.Sum256([]byte("{}")), layer, size)
	var sent atomic.Int64
	var cuts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(req.URL.Path, layer) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			_, _ = io.WriteString(w, manifest)
			return
		}
		to := &cutting{ResponseWriter: w, sent: &sent, left: 1 << 62}
		if n := cuts.Add(1); n <= 5 {
			to.left = size/8 + chance.Int64N(size/16)
		}
		http.ServeContent(to, req, "", time.Time{}, &long{size: size})
	}))
	defer server.Close()
	c := &registry.Client{Keychain: login{}}
	content, err := c.Get(t.Context(), server.Listener.Addr().String()+"/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := content.(v1.Image).Layers()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	memory := watchMemory(func() {
		var rc io.ReadCloser
		if rc, err = layers[0].Compressed(); err == nil {
			_, err = io.Copy(io.Discard, rc)
			err = errors.Join(err, rc.Close())
		}
	})
	t.Logf("%d MiB in %v, %d requests, %.3f %% sent twice, %d MiB", size>>20, time.Since(began).Round(time.Second), cuts.Load(), 100*float64(sent.Load()-size)/float64(size), memory>>20)
	if err != nil || cuts.Load() != 6 || sent.Load() > size+size/100 || memory > 64<<20 {
		t.Errorf("%v after %d requests, %d bytes sent, %d MiB", err, cuts.Load(), sent.Load(), memory>>20)
	}
}

// cutting counts the bytes it writes, and closes the connection after a number of them.
type cutting struct {
	http.ResponseWriter
	sent *atomic.Int64
	left int64
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p)
	c.sent.Add(int64(n))
	c.left -= int64(n)
	return n, err
}
