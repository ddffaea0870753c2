package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

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
	debug.SetGCPercent(400) // each random layer takes a compressor of 1 MB
	goleak.VerifyTestMain(m)
}

// credentials are those of every registry in this package.
const user, password = "me", "s3cr3t-of-the-tests"

type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: l.user, Password: l.password}, nil
}

// A clock sums the time that a client would have slept. It sleeps only for a moment, for
// the other side.
type clock struct {
	mu    sync.Mutex
	slept time.Duration
	naps  int
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.slept += d
	c.naps++
	c.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
	return ctx.Err()
}

// A bench is a registry with the number of its cases.
type bench struct {
	*regtest.Registry
	cases  atomic.Int32
	counts map[string]int // of requests, by what matches them
	turn   int            // number of the next case, which selects the request
	ca     string         // of a registry with TLS
}

// start starts a registry on disk that demands tokens.
func start(t *testing.T, o regtest.Options) *bench {
	t.Helper()
	o.Dir, o.User, o.Password, o.Bearer = memory(t), user, password, true
	b := &bench{Registry: regtest.Start(t, o), counts: map[string]int{}}
	if o.TLS {
		var err error
		if b.ca, err = b.CA(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// memory returns a directory for t in a file system in memory, if there is one, since the
// judge syncs each file.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mabuild-faults-") //nolint:usetesting // not just anywhere
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// client returns the client of one run, with its clock.
func (b *bench) client() (*registry.Client, *clock) {
	k := &clock{}
	return &registry.Client{Keychain: login{user, password}, Sleep: k.sleep, CAFile: b.ca}, k
}

// direct returns a client that talks to the judge directly.
func (b *bench) direct() *registry.Client {
	return &registry.Client{Keychain: authn.NewMultiKeychain()}
}

// program returns an index for two platforms, of a layer of the base and another layer, of
// size bytes each.
func program(t testing.TB, size int64) v1.ImageIndex {
	t.Helper()
	return regtest.RandomIndex(t, size, 2, "amd64", "arm64")
}

// push does what mabuild push does: it requests the tag and checks the permission, sends
// the base's layers, pushes each image by digest, stores what is attached to the index, and
// updates the tag.
func push(ctx context.Context, c *registry.Client, repo string, idx v1.ImageIndex, attached ...v1.Image) error {
	tag := repo + ":v1"
	_, release, err := c.Prepare(ctx, tag)
	if err != nil {
		return err
	}
	defer release()
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	for _, d := range im.Manifests {
		group.Go(func() error {
			img, err := idx.Image(d.Digest)
			if err != nil {
				return err
			}
			layers, err := img.Layers()
			if err != nil {
				return err
			}
			if err := c.Carry(inner, tag, layers[0]); err != nil {
				return err
			}
			return c.Put(inner, repo+"@"+d.Digest.String(), img)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(attached) > 0 {
		digest, err := idx.Digest()
		if err != nil {
			return err
		}
		if err := c.Put(ctx, repo+"@"+digest.String(), idx); err != nil {
			return err
		}
		if err := c.PutReferrers(ctx, repo, attached...); err != nil {
			return err
		}
	}
	return c.Put(ctx, tag, idx)
}

// pull reads everything below ref.
func pull(ctx context.Context, c *registry.Client, ref string) error {
	content, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	idx, ok := content.(v1.ImageIndex)
	if !ok {
		return fmt.Errorf("%T", content)
	}
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range im.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			return err
		}
		if _, err := img.RawConfigFile(); err != nil {
			return err
		}
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			rc, err := l.Compressed()
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, rc)
			if err := errors.Join(err, rc.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyTag checks in the judge that repo:v1 names old or next and is complete. It reports
// whether it is next.
func (b *bench) verifyTag(t testing.TB, repo string, old, next manifest.Content) bool {
	t.Helper()
	is, err := b.Verify(repo, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var before v1.Hash
	if old != nil {
		if before, err = old.Digest(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := next.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if is != before && is != after {
		t.Fatalf("%s:v1 names %s, neither old nor new", repo, is)
	}
	return is == after
}
