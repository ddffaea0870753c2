package serve_test

import (
	"context"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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

// What is on disk and cannot be served again, since a part of it is gone, is named.
func TestWhatIsIncompleteAfterARestartIsNamed(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	var lost v1.Hash
	for _, repo := range []string{"/a/whole:v1", "/b/broken:v1"} {
		img, err := random.Image(1000, 1)
		if err != nil {
			t.Fatal(err)
		}
		if lost, err = img.Digest(); err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(tag(t, host+repo), mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	files, err := filepath.Glob(filepath.Join(dir, "manifests", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), `"reference":"`+lost.String()) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	var told strings.Builder
	if _, err := serve.New(t.Context(), dir, log.New(&told, "", 0)); err != nil {
		t.Fatal(err)
	}
	if text := told.String(); !strings.Contains(text, "v1 of b/broken is on disk, in "+dir) || strings.Contains(text, "a/whole is on disk") {
		t.Error(text)
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
