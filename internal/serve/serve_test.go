package serve_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/serve"
)

// start serves dir until the test ends, and returns the host.
func start(t *testing.T, dir string) (host string, stop func()) {
	t.Helper()
	s, err := serve.New(context.Background(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), server.Close
}

func tag(t *testing.T, text string) name.Tag {
	t.Helper()
	n, err := name.NewTag(text, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatWasPushedIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	if err := remote.WriteIndex(tag(t, host+"/a/b:v1"), index); err != nil {
		t.Fatal(err)
	}
	stop()
	host, _ = start(t, dir)
	got, err := remote.Index(tag(t, host+"/a/b:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil && !strings.Contains(err.Error(), "platform fields") {
		t.Error(err)
	}
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := got.Digest(); err != nil || d != want {
		t.Errorf("%s, %v; want %s", d, err, want)
	}
	if err := remote.Delete(tag(t, host+"/a/b:v1")); err != nil {
		t.Fatal(err)
	}
	host, _ = start(t, dir)
	if _, err := remote.Head(tag(t, host+"/a/b:v1")); err == nil {
		t.Error("a deleted tag is back after a restart")
	}
}

func TestManifestsWithoutTheirBlobsAreRefused(t *testing.T) {
	host, _ := start(t, t.TempDir())
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	// Put sends the manifest alone.
	if err := remote.Put(tag(t, host+"/a:v1"), img); err == nil || !strings.Contains(err.Error(), "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("an image without its blobs: %v", err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	if err := remote.Put(tag(t, host+"/a:v1"), index); err == nil {
		t.Error("an index without its children was taken")
	}
}
