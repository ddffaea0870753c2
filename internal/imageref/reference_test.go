package imageref

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

// All names of one image of Docker Hub have one canonical form. Other names do not change.
func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"alpine": "docker.io/library/alpine", "library/alpine:3": "docker.io/library/alpine:3",
		"docker.io/alpine": "docker.io/library/alpine", "docker.io/library/alpine": "docker.io/library/alpine",
		"index.docker.io/library/alpine": "docker.io/library/alpine", "index.docker.io/alpine:3": "docker.io/library/alpine:3",
		"acme/app": "docker.io/acme/app", "docker.io/acme/app": "docker.io/acme/app",
		"localhost/app": "localhost/app", "localhost:5000/app:v1": "localhost:5000/app:v1", "[::1]:5000/a/b": "[::1]:5000/a/b",
		"ghcr.io/app@sha256:00": "ghcr.io/app@sha256:00", "docker.io/*": "docker.io/*",
	} {
		if got := Cut(text).Canonical(); got.String() != want || got.Canonical() != got {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// A valid name is printed as written. It and its canonical form mean the same image as in
// go-containerregistry.
func FuzzReference(f *testing.F) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, host := range []string{"", "docker.io/", "index.docker.io/", "localhost/", "localhost:5000/", "ghcr.io/", "127.0.0.1:80/", "[::1]:5000/", "[fe80::1]/"} {
		for _, path := range []string{"alpine", "library/alpine", "a/b/c", "a.b/c_d"} {
			for _, end := range []string{"", ":v1", "@" + digest, ":v1@" + digest, ":", "@"} {
				f.Add(host + path + end)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		theirs, err := name.ParseReference(text)
		if err != nil {
			return
		}
		ours := Cut(text)
		if ours.String() != text || Cut(ours.String()) != ours {
			t.Errorf("%q: %+v prints %q", text, ours, ours)
		}
		// The oracle counts the path as it is written, up to 255 characters.
		if len(ours.Canonical().Path()) > 255 {
			return
		}
		canonical, err := name.ParseReference(ours.Canonical().String())
		if err != nil || canonical.Name() != theirs.Name() {
			t.Errorf("%q: %s is another image, %v", text, ours.Canonical(), err)
		}
	})
}
