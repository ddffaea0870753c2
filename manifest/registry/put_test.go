package registry_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A push of five platforms costs HEAD, POST and PUT a blob (base layer, program,
// config), HEAD and PUT a child, PUT of the index and HEAD of the tag; pushed
// again, HEAD of the tag and of each child.
func TestPutCost(t *testing.T) {
	t.Parallel()
	bases, target := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	c := client(t)
	idx := program(t, basesAt(t, c, bases.Host+"/base:1"), 3000)
	bases.Reset()

	ref := target.Host + "/acme/app:v1"
	now, release, err := c.Prepare(t.Context(), ref)
	if err != nil || now.Digest != (v1.Hash{}) {
		t.Fatal(now, err)
	}
	put(t, c, ref, idx)
	release()
	release()
	expect(t, target, map[string]int{
		"HEAD manifest": 6, "HEAD blob": 15, "POST upload": 15, "PUT upload": 15, "PUT manifest": 6,
	})
	expect(t, bases, map[string]int{"GET blob": 5})
	verifyTag(t, target, "acme/app:v1", idx)

	target.Reset()
	put(t, c, target.Host+"/acme/app:latest", idx)
	expect(t, target, map[string]int{"HEAD manifest": 1, "PUT manifest": 1})

	target.Reset()
	put(t, client(t), ref, idx)
	expect(t, target, map[string]int{"HEAD manifest": 6})
}

// A new push of five platforms, with each image pushed by digest as soon as it is complete,
// needs 52 requests: HEAD of the tag, HEAD, POST and PUT for each blob, PUT for each image,
// PUT of the index. An image is not requested if its config does not exist.
func TestFreshPushCost(t *testing.T) {
	t.Parallel()
	bases, target := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	c := client(t)
	idx := program(t, basesAt(t, c, bases.Host+"/base:1"), 3000)
	putImages(t, c, target.Host+"/acme/app", "v1", idx)
	expect(t, target, map[string]int{
		"HEAD manifest": 1, "HEAD blob": 15, "POST upload": 15, "PUT upload": 15, "PUT manifest": 6,
	})
	if n := target.Total(); n != 52 {
		t.Errorf("%d requests, want 52", n)
	}
	verifyTag(t, target, "acme/app:v1", idx)
}

// Under a new tag, existing content costs a HEAD for each config and for each image. A
// deleted image is sent again.
func TestFreshTagOfWhatIsThere(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 500, 1, five...)
	putImages(t, client(t), r.Host+"/app", "v1", idx)
	r.Reset()
	putImages(t, client(t), r.Host+"/app", "v2", idx)
	expect(t, r, map[string]int{
		"HEAD manifest": 6, "HEAD blob": 5, "POST upload": 1, "DELETE upload": 1, "PUT manifest": 1,
	})
	gone := must(idx.IndexManifest())(t).Manifests[2].Digest
	if err := remote.Delete(must(name.NewDigest(r.Judge() + "/app@" + gone.String()))(t)); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	putImages(t, client(t), r.Host+"/app", "v3", idx)
	expect(t, r, map[string]int{
		"HEAD manifest": 6, "HEAD blob": 6, "POST upload": 1, "DELETE upload": 1, "PUT manifest": 2,
	})
	verifyTag(t, r, "app:v3", idx)
}

// putImages stores idx as push does: the tag is prepared, each image goes by its
// digest, and the index last.
func putImages(t *testing.T, c *registry.Client, repo, tag string, idx v1.ImageIndex) {
	t.Helper()
	_, release, err := c.Prepare(t.Context(), repo+":"+tag)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var wg sync.WaitGroup
	for _, d := range must(idx.IndexManifest())(t).Manifests {
		img := must(idx.Image(d.Digest))(t)
		wg.Go(func() {
			if err := c.Put(t.Context(), repo+"@"+d.Digest.String(), img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	put(t, c, repo+":"+tag, idx)
}

// Layers of a base in the same registry are mounted: one request each, and no byte is read.
func TestPutMounts(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	c := client(t)
	idx := program(t, basesAt(t, c, r.Host+"/base:1"), 3000)
	r.Reset()
	put(t, c, r.Host+"/app:v1", idx)
	expect(t, r, map[string]int{
		"HEAD manifest": 6, "POST mount": 5, "HEAD blob": 10, "POST upload": 10, "PUT upload": 10, "PUT manifest": 6,
	})
	verifyTag(t, r, "app:v1", idx)
}

// A registry that does not mount opens an upload session, which is used. It gets no further
// mount from that source.
func TestPutMountRefused(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, status := range []int{401, 403, 404, 500} {
		c := client(t)
		base := basesAt(t, c, r.Host+"/base:1")["amd64"]
		img := regtest.OnBase(t, base, "amd64", 100)
		r.Reset()
		r.Inject(regtest.Fault{Path: "mount=", Status: status, Times: -1})
		put(t, c, r.Host+"/refused:v1", img)
		verifyTag(t, r, "refused:v1", img)
	}
}

func TestCarryThenPut(t *testing.T) {
	t.Parallel()
	bases, target := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	c := client(t)
	images := basesAt(t, c, bases.Host+"/base:1")
	idx := program(t, images, 3000)
	ref := target.Host + "/app:v1"
	var wg sync.WaitGroup
	for _, img := range images {
		layers := must(img.Layers())(t)
		wg.Go(func() {
			if err := c.Carry(t.Context(), ref, layers...); err != nil {
				t.Error(err)
			}
		})
	}
	put(t, c, ref, idx)
	wg.Wait()
	expect(t, target, map[string]int{
		"HEAD manifest": 6, "HEAD blob": 15, "POST upload": 15, "PUT upload": 15, "PUT manifest": 6,
	})
	verifyTag(t, target, "app:v1", idx)
}

// An upload session that Prepare opened and that was not used is closed.
func TestPrepareReleases(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	_, release, err := client(t).Prepare(t.Context(), r.Host+"/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	release()
	release()
	expect(t, r, map[string]int{"HEAD manifest": 1, "POST upload": 1, "DELETE upload": 1})
}

// An image that was deleted below a tag is stored again.
func TestPutHeals(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 500, 1, five...)
	ref := r.Host + "/app:v1"
	put(t, client(t), ref, idx)
	gone := must(idx.IndexManifest())(t).Manifests[2].Digest
	doomed := must(name.NewDigest(r.Judge() + "/app@" + gone.String()))(t)
	if err := remote.Delete(doomed); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	put(t, client(t), ref, idx)
	expect(t, r, map[string]int{"HEAD manifest": 6, "HEAD blob": 2, "PUT manifest": 1})
	verifyTag(t, r, "app:v1", idx)
}

// Whatever fails, the tag names the old index until everything below the new one exists.
func TestTagMovesLast(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/app:v1"
	before := regtest.RandomIndex(t, 500, 1, five...)
	put(t, client(t), ref, before)
	var after v1.ImageIndex
	for nth := 1; nth <= 6; nth++ {
		after = regtest.RandomIndex(t, 500, 1, five...)
		r.Reset()
		r.Inject(regtest.Fault{Method: "PUT", Path: "/manifests/", Nth: nth, Times: -1, Status: 500})
		if err := client(t).Put(t.Context(), ref, after); err == nil {
			t.Fatal("the push succeeded though a PUT always fails")
		}
		verifyTag(t, r, "app:v1", before)
	}
	r.Reset()
	put(t, client(t), ref, after)
	verifyTag(t, r, "app:v1", after)
}

// A body with another digest is never sent completely.
func TestPutWrongBytes(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, change := range []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return append(b, 0) },
	} {
		layer := must(random.Layer(100_000, types.OCILayer, random.WithSource(regtest.Source(t))))(t)
		err := client(t).Carry(t.Context(), r.Host+"/app:v1", twisted{layer, change})
		if !errors.Is(err, manifest.ErrMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
	}
	last := map[string]int{} // of the session: deleted or unknown
	for _, req := range r.Requests() {
		if req.Kind() == "DELETE upload" || req.Kind() == "GET upload" {
			last[req.Path] = req.Status
		}
	}
	for path, status := range last {
		if status != http.StatusNoContent && status != http.StatusNotFound {
			t.Errorf("%s stays open: %d", path, status)
		}
	}
	if len(last) != 3 {
		t.Errorf("%d of 3 uploads closed", len(last))
	}
}

// twisted is a layer whose content does not have its digest.
type twisted struct {
	v1.Layer
	change func([]byte) []byte
}

func (l twisted) Compressed() (io.ReadCloser, error) {
	rc, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(rc)
	return io.NopCloser(bytes.NewReader(l.change(b))), err
}

// The source of a layer for mounts is known even if the layer is wrapped.
func TestMountThroughWrapping(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	c := client(t)
	base := basesAt(t, c, r.Host+"/base:1")["amd64"]
	r.Reset()
	wrapped := must(partial.CompressedToLayer(must(base.Layers())(t)[0]))(t)
	if err := c.Carry(t.Context(), r.Host+"/app:v1", wrapped); err != nil {
		t.Fatal(err)
	}
	expect(t, r, map[string]int{"POST mount": 1})
}

// With one permit for a host, a blob can be read from and written to it at the same time,
// also if a token is needed.
func TestOnePermit(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{User: "me", Password: "secret", Bearer: true, TokenLife: time.Minute})
	c := client(t)
	c.Keychain, c.MaxPerHost = login{"me", "secret"}, 1
	idx := regtest.RandomIndex(t, 300_000, 3, five...)
	put(t, c, r.Host+"/from:v1", idx)
	r.Inject(regtest.Fault{Path: "mount=", Times: -1, Status: 405})
	c = client(t)
	c.Keychain, c.MaxPerHost = login{"me", "secret"}, 1
	content := must(c.Get(t.Context(), r.Host+"/from:v1"))(t)
	put(t, c, r.Host+"/to:v1", content)
	verifyTag(t, r, "to:v1", idx)
}

// An image without content must exist in the registry. If it does not, the error is not
// that of a missing source.
func TestPutChildWithoutContent(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	d := must(manifest.Describe(img))(t)
	d.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	idx := must(manifest.Index([]manifest.Child{{Descriptor: d}}, nil))(t)
	err := client(t).Put(t.Context(), r.Host+"/app:v1", idx)
	if err == nil || errors.Is(err, manifest.ErrNotFound) || !strings.Contains(err.Error(), d.Digest.String()) {
		t.Errorf("got %v", err)
	}
	put(t, client(t), by(r, "app", d.Digest), img)
	put(t, client(t), r.Host+"/app:v1", idx)
	verifyTag(t, r, "app:v1", idx)
}

// If a mount opens an upload session because the blob does not exist, that session is used.
func TestPutMountTurnsIntoUpload(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	c := client(t)
	img := regtest.Image(t, "amd64", 1000, 1)
	put(t, c, r.Host+"/from:v1", img)
	layer := must(img.Layers())(t)[0]
	doomed := "http://" + r.Judge() + "/v2/from/blobs/" + must(layer.Digest())(t).String()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodDelete, doomed, nil))(t)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	r.Reset()
	if err := c.Carry(t.Context(), r.Host+"/to:v1", layer); err != nil {
		t.Fatal(err)
	}
	expect(t, r, map[string]int{"POST mount": 1, "HEAD blob": 1, "PUT upload": 1})
	put(t, c, r.Host+"/to:v1", img)
	verifyTag(t, r, "to:v1", img)
}

// While a run continues, closing a session waits like other requests for a registry that
// asked for a pause.
func TestSessionsAreClosedAfterThePause(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	told := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	r.Inject(
		regtest.Fault{Method: "PUT", Path: "/uploads/", Status: 429, Header: told("2")},
		regtest.Fault{Method: "GET", Path: "/uploads/", Status: 429, Header: told("50")},
	)
	n := &naps{}
	c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
	img := regtest.Image(t, "amd64", 5000, 1)
	put(t, c, r.Host+"/app:v1", img)
	verifyTag(t, r, "app:v1", img)
	longest := time.Duration(0)
	for _, d := range n.took {
		longest = max(longest, d)
	}
	if got := r.Tally(); longest < 45*time.Second || longest > 50*time.Second || got["DELETE upload"] != 1 {
		t.Errorf("slept %v, requests %v", n.took, got)
	}
}

// A manifest in a Go type that does not say what it refers to is refused before anything
// is sent. A registry that does not look for the parts would store it without them.
func TestPutOfAnUnknownType(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := must(random.Image(100, 1, random.WithSource(regtest.Source(t))))(t)
	idx := must(random.Index(100, 1, 1, random.WithSource(regtest.Source(t))))(t)
	for _, content := range []manifest.Content{img, idx} {
		err := client(t).Put(t.Context(), r.Host+"/app:v1", struct{ manifest.Content }{content})
		if err == nil || !strings.Contains(err.Error(), r.Host+"/app: ") || !strings.Contains(err.Error(), "neither a v1.Image nor a v1.ImageIndex") {
			t.Errorf("%T: got %v", content, err)
		}
	}
	for _, req := range r.Requests() {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			t.Errorf("sent %s %s", req.Method, req.Path)
		}
	}
}

// A blob is mounted from an image that the registry has had before, without asking for the blob.
func TestPutMountsFromWhatExisted(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 2)
	at := r.Host + "/app@" + must(img.Digest())(t).String()
	put(t, client(t), at, img)
	r.Reset()
	c := client(t)
	put(t, c, at, img)
	put(t, c, r.Host+"/other:v1", img)
	expect(t, r, map[string]int{"HEAD manifest": 2, "POST mount": 3, "PUT manifest": 1})
	verifyTag(t, r, "other:v1", img)
}
