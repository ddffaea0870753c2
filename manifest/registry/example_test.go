package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	theirs "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// The zero Client uses the credentials of Docker's config. It allows plain http for
// loopback addresses, such as this one; other hosts need a setting in Hosts.
func ExampleClient() {
	ctx := context.Background()
	server := httptest.NewServer(theirs.New(theirs.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	client := &registry.Client{Hosts: map[string]registry.Host{"registry.local": {PlainHTTP: true}}}
	if err := client.Put(ctx, host+"/acme/app:v1", empty.Image); err != nil {
		log.Fatal(err)
	}
	content, err := client.Get(ctx, host+"/acme/app:v1")
	if err != nil {
		log.Fatal(err)
	}
	digest, err := content.Digest()
	if err != nil {
		log.Fatal(err)
	}
	want, _ := empty.Image.Digest()
	fmt.Println(digest == want)

	_, err = client.Resolve(ctx, host+"/acme/app:v2")
	fmt.Println(errors.Is(err, manifest.ErrNotFound))
	// Output:
	// true
	// true
}

// The type of an error has the details; its text need not be parsed.
func ExampleError() {
	server := httptest.NewServer(theirs.New(theirs.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	client := new(registry.Client)
	_, err := client.Get(context.Background(), strings.TrimPrefix(server.URL, "http://")+"/acme/app:v9")
	var e *registry.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, e.Repository, e.Reference, e.Status, e.Kind())
	}
	// Output: GET acme/app v9 404 not found
}

// Attaches an artifact to an image, and lists what refers to the image. A registry without
// the referrers API gets a list under the tag sha256-….
func ExampleClient_Referrers() {
	ctx := context.Background()
	server := httptest.NewServer(theirs.New(theirs.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/acme/app"
	client := new(registry.Client)
	if err := client.Put(ctx, repository+":v1", empty.Image); err != nil {
		log.Fatal(err)
	}
	image, err := client.Resolve(ctx, repository+":v1")
	if err != nil {
		log.Fatal(err)
	}
	note := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	note = mutate.ConfigMediaType(note, "application/vnd.example.note")
	artifact := mutate.Subject(note, image).(v1.Image)
	digest, err := artifact.Digest()
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Put(ctx, repository+"@"+digest.String(), artifact); err != nil {
		log.Fatal(err)
	}
	referrers, err := client.Referrers(ctx, repository, image.Digest)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range referrers {
		fmt.Println(r.ArtifactType, r.Digest == digest)
	}
	// Output: application/vnd.example.note true
}

// Reads the credentials of one file, and sets how single registries are reached.
func ExampleConfigKeychain() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	auth := `{"auths": {"registry.example": {"username": "acme", "password": "secret"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(auth), 0o600); err != nil {
		log.Fatal(err)
	}
	keychain, err := registry.ConfigKeychain(dir)
	if err != nil {
		log.Fatal(err)
	}
	client := &registry.Client{
		Keychain: keychain,
		Hosts: map[string]registry.Host{
			"registry.example": {CAFile: "/etc/ssl/example.pem", MaxRequests: 4},
			"docker.io":        {Mirrors: []string{"mirror.example/hub"}, QuotaReserve: 10},
		},
	}
	host, err := name.NewRegistry("registry.example")
	if err != nil {
		log.Fatal(err)
	}
	found, err := client.Keychain.Resolve(host)
	if err != nil {
		log.Fatal(err)
	}
	config, err := found.Authorization()
	fmt.Println(config.Username, err)
	// Output: acme <nil>
}
