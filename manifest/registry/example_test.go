package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"

	theirs "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"

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
