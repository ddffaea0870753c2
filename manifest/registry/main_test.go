package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/goleak"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

func TestMain(m *testing.M) {
	for _, key := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY"} {
		if err := os.Unsetenv(key); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// login is a keychain with one pair of credentials for every host.
type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	if l.user == "" {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: l.user, Password: l.password}, nil
}

// naps records how long a client would have slept, without sleeping.
type naps struct {
	mu   sync.Mutex
	took []time.Duration
}

func (n *naps) sleep(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.took = append(n.took, d)
	return context.Cause(ctx)
}

// client returns a client without credentials that never really sleeps.
func client(*testing.T) *registry.Client {
	return &registry.Client{Keychain: login{}, Sleep: (&naps{}).sleep}
}

// verifyTag pulls ref with go-containerregistry directly from the judge, and requires that
// it is complete and has the digest want.
func verifyTag(t *testing.T, r *regtest.Registry, repoTag string, want manifest.Content) {
	t.Helper()
	ref, err := name.ParseReference(r.Judge() + "/" + repoTag)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Get(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != wanted {
		t.Fatalf("%s names %s, want %s", repoTag, got.Digest, wanted)
	}
	if !got.MediaType.IsIndex() {
		img, err := got.Image()
		if err := errors.Join(err, validate.Image(img)); err != nil {
			t.Fatal(err)
		}
		return
	}
	idx, err := got.ImageIndex()
	if err := errors.Join(err, validate.Index(idx)); err != nil {
		t.Fatal(err)
	}
}

// expect compares the tally of r with want.
func expect(t *testing.T, r *regtest.Registry, want map[string]int) {
	t.Helper()
	if got := r.Tally(); !maps.Equal(got, want) {
		t.Errorf("requests %v\n    want %v", got, want)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func put(t *testing.T, c *registry.Client, ref string, content manifest.Content) {
	t.Helper()
	if err := c.Put(t.Context(), ref, content); err != nil {
		t.Fatal(err)
	}
}

func hintOf(err error) string { return hint.Of(err) }

// settingOf returns the setting that the hint names.
func settingOf(err error) string {
	var e *registry.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Setting
}

var five = []string{"amd64", "arm64", "arm", "ppc64le", "s390x"}

// program makes the index of five platforms that a push of a program is: each
// image the base's layer for its platform and one of its own.
func program(t *testing.T, bases map[string]v1.Image, size int64) v1.ImageIndex {
	t.Helper()
	images := map[string]v1.Image{}
	for _, arch := range five {
		images[arch] = regtest.OnBase(t, bases[arch], arch, size)
	}
	return regtest.Index(t, images, five...)
}

// basesAt pushes a base for each of the five platforms to ref and returns what c
// gets from there.
func basesAt(t *testing.T, c *registry.Client, ref string) map[string]v1.Image {
	t.Helper()
	put(t, client(t), ref, regtest.RandomIndex(t, 2000, 1, five...))
	content := must(c.Get(t.Context(), ref))(t)
	idx, ok := content.(v1.ImageIndex)
	if !ok {
		t.Fatalf("%T", content)
	}
	im := must(idx.IndexManifest())(t)
	bases := map[string]v1.Image{}
	for _, d := range im.Manifests {
		bases[d.Platform.Architecture] = must(idx.Image(d.Digest))(t)
	}
	return bases
}

func digestOf(t *testing.T, c manifest.Content) v1.Hash {
	t.Helper()
	return must(c.Digest())(t)
}

func by(r *regtest.Registry, repo string, h v1.Hash) string {
	return fmt.Sprintf("%s/%s@%s", r.Host, repo, h)
}
