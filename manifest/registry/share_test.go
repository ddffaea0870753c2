package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// copies puts what c reads at from into n repositories of to at once.
func copies(t *testing.T, c *registry.Client, from string, to *regtest.Registry, n int) v1.Image {
	t.Helper()
	content := must(c.Get(t.Context(), from))(t)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := c.Put(t.Context(), fmt.Sprintf("%s/copy%d:v1", to.Host, i), content); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range n {
		verifyTag(t, to, fmt.Sprintf("copy%d:v1", i), content)
	}
	return content.(v1.Image)
}

// A blob for several repositories of a host is read and sent once; the others mount it.
func TestBlobIsSentOnce(t *testing.T) {
	const n = 8
	from, to := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	put(t, client(t), from.Host+"/app:v1", regtest.Image(t, "amd64", 300_000, 2))
	from.Reset()
	copies(t, client(t), from.Host+"/app:v1", to, n)
	expect(t, from, map[string]int{"GET manifest": 1, "GET blob": 3})
	expect(t, to, map[string]int{
		"HEAD manifest": n, "HEAD blob": 3, "POST upload": 3, "PUT upload": 3,
		"POST mount": 3 * (n - 1), "PUT manifest": n,
	})
}

// If the host does not mount, the blob is sent to each repository. If one repository
// refuses the upload, it is sent to the next, and the others mount it.
func TestBlobIsSentAllTheSame(t *testing.T) {
	const n = 4
	from, to := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	put(t, client(t), from.Host+"/app:v1", regtest.Image(t, "amd64", 1000, 1))
	to.Inject(regtest.Fault{Path: "mount=", Status: 403, Times: -1})
	copies(t, client(t), from.Host+"/app:v1", to, n)
	if got := to.Tally()["PUT upload"]; got != 2*n {
		t.Errorf("%d uploads, want %d", got, 2*n)
	}

	other := regtest.Start(t, regtest.Options{})
	other.Inject(regtest.Fault{Method: "POST", Path: "/refused/", Times: -1, Status: 403})
	c := client(t)
	content := must(c.Get(t.Context(), from.Host+"/app:v1"))(t)
	var all sync.WaitGroup
	all.Go(func() {
		if err := c.Put(t.Context(), other.Host+"/refused:v1", content); !errors.Is(err, registry.ErrCredentials) {
			t.Errorf("got %v", err)
		}
	})
	copies(t, c, from.Host+"/app:v1", other, n)
	all.Wait()
	if got := other.Tally()["PUT upload"]; got != 2 {
		t.Errorf("%d uploads, want 2", got)
	}
}

// If the sender of a shared blob fails, a waiting caller sends it. A cancelled caller stops
// waiting.
func TestBlobIsSentByTheNext(t *testing.T) {
	to := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 1000, 1)
	c := client(t)
	to.Inject(regtest.Fault{Method: "PUT", Path: "/first/blobs/", Times: -1, Action: regtest.Stall})
	start := func(repo string) (stop context.CancelFunc, done chan error) {
		ctx, stop := context.WithCancel(t.Context())
		done = make(chan error, 1)
		go func() { done <- c.Put(ctx, to.Host+"/"+repo+":v1", img) }()
		return stop, done
	}
	first, firstDone := start("first")
	defer first()
	until(t, func() bool { return to.Tally()["PUT upload"] == 2 })
	second, secondDone := start("second")
	defer second()
	third, thirdDone := start("third")
	defer third()
	until(t, func() bool { return to.Tally()["HEAD manifest"] == 3 })
	third()
	if err := <-thirdDone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	first()
	if err := <-firstDone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-secondDone; err != nil {
		t.Error(err)
	}
	verifyTag(t, to, "second:v1", manifest.Content(img))
}

// until waits for the next requests of the registry.
func until(t *testing.T, seen func() bool) {
	t.Helper()
	for !seen() {
		if t.Context().Err() != nil {
			t.Fatal("it does not come")
		}
		time.Sleep(time.Millisecond)
	}
}
