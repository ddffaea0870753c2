package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// withLayer is an image with one layer.
type withLayer struct {
	v1.Image
	layer v1.Layer
}

func (w withLayer) Layers() ([]v1.Layer, error) { return []v1.Layer{w.layer}, nil }

// cache verify finds a record with the program of another key, and exits with 5. Nothing else
// finds it if the registry mounts the layer.
func TestForgedRecordIsFound(t *testing.T) {
	r, err := regtest.New(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	dir := t.TempDir()
	regtest.Lay(t, dir, map[string]string{
		"go.mod":        "module example.com/app\n\ngo 1.26\n",
		"good/main.go":  "package main\n\nfunc main() { println(1) }\n",
		"evil/main.go":  "package main\n\nfunc main() { println(2) }\n",
		"other/main.go": "package main\n\nfunc main() { println(3) }\n",
	})
	t.Chdir(dir)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("MABUILD_PROGRESS", "none")
	t.Setenv("MABUILD_PLATFORMS", "linux/amd64")
	t.Setenv("MABUILD_CACHE_REPO", r.Host+"/records")
	mabuild := func(args ...string) (int, string) {
		t.Helper()
		t.Setenv("MABUILD_CACHE", t.TempDir())
		var out, errs bytes.Buffer
		code := run(args, strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, said := mabuild("warm", "./...", "--path", "/app"); code != 0 || strings.Count(said, "compiled") != 3 {
		t.Fatalf("%d: %s", code, said)
	}
	// The layers differ in the program alone, since --path gives all of them one name.
	client := &registry.Client{}
	tags, err := client.Tags(t.Context(), r.Host+"/records")
	must(t, err)
	recorded := map[string]v1.Image{}
	key := map[string]string{}
	for _, tag := range tags {
		content, err := client.Get(t.Context(), r.Host+"/records:"+tag)
		must(t, err)
		raw, err := content.RawManifest()
		must(t, err)
		var m ocispec.Manifest
		must(t, json.Unmarshal(raw, &m))
		name := m.Annotations["dev.mabuild.program"]
		recorded[name], key[name] = content.(v1.Image), m.Annotations["dev.mabuild.key"]
	}
	if len(recorded) != 3 {
		t.Fatalf("the tags are %q", tags)
	}
	repo := &records.Repository{Name: r.Host + "/records", Client: &registry.Client{}, Write: true, Log: slog.New(slog.DiscardHandler)}
	// A repository keeps the record that it has, so the forger deletes it first.
	tag := tags[slices.IndexFunc(tags, func(tag string) bool {
		return strings.HasPrefix(key["example.com/app/good"], strings.TrimPrefix(tag, "b1-"))
	})]
	was, err := client.Resolve(t.Context(), r.Host+"/records:"+tag)
	must(t, err)
	must(t, client.Delete(t.Context(), r.Host+"/records@"+was.Digest.String()))
	evil, err := repo.Recall(t.Context(), ocispec.Platform{OS: "linux", Architecture: "amd64"}, key["example.com/app/evil"])
	must(t, err)
	repo.Store(t.Context(), build.Image{
		Image: withLayer{recorded["example.com/app/good"], evil}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Key: key["example.com/app/good"],
	})
	code, said := mabuild("cache", "verify", "./...", "--path", "/app")
	want := "mabuild: the build record of good linux/amd64 in " + r.Host + "/records has another layer than the compiler makes\n"
	if code != exitContent || !strings.Contains(said, want) || strings.Count(said, "verified\n") != 2 {
		t.Errorf("exit code %d: %s", code, said)
	}
}
