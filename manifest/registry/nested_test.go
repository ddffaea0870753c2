package registry_test

import (
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
)

// nest puts an index into others, so that levels of them are nested in each other. Each
// lists an image of its own besides.
func nest(t *testing.T, idx v1.ImageIndex, levels int) v1.ImageIndex {
	t.Helper()
	for range levels - 1 {
		idx = mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
			mutate.IndexAddendum{Add: regtest.Image(t, "amd64", 100, 1)}, mutate.IndexAddendum{Add: idx})
	}
	return idx
}

// Put takes as many nested indexes as a walk does. It refuses more before it sends
// anything.
func TestPutBoundsNestedIndexes(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	deep := nest(t, regtest.RandomIndex(t, 100, 1, "amd64"), manifest.MaxDepth)
	put(t, client(t), r.Host+"/app:v1", deep)
	verifyTag(t, r, "app:v1", deep)
	r.Reset()
	deeper := nest(t, deep, 2)
	for _, ref := range []string{"/app:v1", "/app:v2", "/app@" + digestOf(t, deeper).String()} {
		err := client(t).Put(t.Context(), r.Host+ref, deeper)
		if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), "nested more than 8 deep") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	expect(t, r, map[string]int{})
	verifyTag(t, r, "app:v1", deep)
}

// An index under an unknown media type counts too. It is found when it is opened, so what
// is beside it may be stored, but the tag is not.
func TestPutBoundsNestedIndexesOfAnyType(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 100, 1, "amd64")
	for range manifest.MaxDepth {
		idx = disguised{mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
			Add: idx, Descriptor: v1.Descriptor{MediaType: "application/vnd.example"},
		}), idx}
	}
	err := client(t).Put(t.Context(), r.Host+"/app:v1", idx)
	if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), "nested more than 8 deep") {
		t.Errorf("%v", err)
	}
	if n := r.Tally()["PUT manifest"]; n != 0 {
		t.Errorf("%d manifests were stored", n)
	}
}

type plainIndex = v1.ImageIndex

// A disguised index opens its only entry whatever the entry's media type is.
type disguised struct {
	plainIndex
	inner manifest.Content
}

func (d disguised) Other(v1.Hash) (manifest.Content, error) { return d.inner, nil }

// The depth is found without reading an index twice, and a second tag reads none.
func TestNestedIndexesAreReadOnce(t *testing.T) {
	t.Parallel()
	from, to := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	put(t, client(t), from.Host+"/app:v1", nest(t, regtest.RandomIndex(t, 100, 1, "amd64"), 4))
	from.Reset()
	c := client(t)
	content := must(c.Get(t.Context(), from.Host+"/app:v1"))(t)
	put(t, c, to.Host+"/app:v1", content)
	put(t, c, to.Host+"/app:v2", content)
	expect(t, from, map[string]int{"GET manifest": 8, "GET blob": 8})
	expect(t, to, map[string]int{"HEAD manifest": 9, "PUT manifest": 9, "HEAD blob": 8, "POST upload": 8, "PUT upload": 8})
}
