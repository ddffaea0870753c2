package serve_test

import (
	"bytes"
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

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/serve"
)

// start serves dir until stop is called or the test ends. It returns the host and the log.
func start(t *testing.T, dir string) (host string, stop func()) {
	t.Helper()
	s, err := serve.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(serve.NewRegistry(s, nil, log.New(t.Output(), "", 0)))
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return strings.TrimPrefix(server.URL, "http://"), stop
}

func tag(t *testing.T, text string) name.Tag {
	t.Helper()
	n, err := name.NewTag(text, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 1, random.WithSource(regtest.Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// go-containerregistry can push, pull, list and delete.
func TestAnotherClient(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: randomImage(t)})
	if err := remote.WriteIndex(tag(t, host+"/a/b:v1"), index); err != nil {
		t.Fatal(err)
	}
	stop()
	host, stop = start(t, dir)
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
	if tags, err := remote.List(tag(t, host+"/a/b").Repository); err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags %v, %v", tags, err)
	}
	registry, err := name.NewRegistry(host, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := remote.Catalog(t.Context(), registry); err != nil || len(names) != 1 || names[0] != "a/b" {
		t.Errorf("catalog %v, %v", names, err)
	}
	if err := remote.Delete(tag(t, host+"/a/b:v1")); err != nil {
		t.Fatal(err)
	}
	stop()
	host, _ = start(t, dir)
	if _, err := remote.Head(tag(t, host+"/a/b:v1")); err == nil {
		t.Error("a deleted tag exists after a restart")
	}
}

// The log names a manifest with a missing part when the store is opened.
func TestIncompleteManifestsAreNamed(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	var lost v1.Hash
	for _, repo := range []string{"/a/whole:v1", "/b/broken:v1"} {
		img := randomImage(t)
		var err error
		if lost, err = img.Digest(); err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(tag(t, host+repo), mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := os.Remove(filepath.Join(dir, "repositories", "b", "broken", "_manifests", "sha256", lost.Hex)); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	s, err := serve.Open(dir, log.New(&told, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if text := told.String(); !strings.Contains(text, "v1 of b/broken is incomplete") || !strings.Contains(text, lost.Hex) || strings.Contains(text, "a/whole") {
		t.Error(text)
	}
}
