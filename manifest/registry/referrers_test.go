package registry_test

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Five images of the target's repository, by name.
func sources(t *testing.T, r *regtest.Registry) (list []manifest.Item) {
	t.Helper()
	for _, arch := range five {
		put(t, client(t), r.Host+"/app:"+arch, regtest.Image(t, arch, 500, 2))
		p, err := platform.Declared("linux/" + arch)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, manifest.Item{Ref: r.Host + "/app:" + arch, Platform: p})
	}
	r.Reset()
	return list
}

// An index of five images of the same repository costs HEAD of the target, five manifests,
// five configs and its PUT; with trusted platforms only HEADs and its PUT. If nothing
// changed, it costs only HEADs.
func TestAssemblyCost(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	items := sources(t, r)
	assemble := func(a manifest.Assembly, tag, dir string) manifest.Content {
		t.Helper()
		c := client(t)
		c.CacheDir = dir
		a.Items = items
		idx := must(a.Create(t.Context(), c))(t)
		put(t, c, r.Host+"/app:"+tag, idx)
		return idx
	}
	dir := t.TempDir()
	idx := assemble(manifest.Assembly{}, "v1", dir)
	expect(t, r, map[string]int{"HEAD manifest": 1, "GET manifest": 5, "GET blob": 5, "PUT manifest": 1})
	verifyTag(t, r, "app:v1", idx)
	r.Reset()
	assemble(manifest.Assembly{}, "v1", dir)
	expect(t, r, map[string]int{"HEAD manifest": 6})
	r.Reset()
	trusted := assemble(manifest.Assembly{TrustPlatforms: true}, "v2", "")
	expect(t, r, map[string]int{"HEAD manifest": 6, "PUT manifest": 1})
	verifyTag(t, r, "app:v2", trusted)
	r.Reset()
	assemble(manifest.Assembly{TrustPlatforms: true}, "v2", "")
	expect(t, r, map[string]int{"HEAD manifest": 6})
}

// For another repository of the registry, blobs are mounted; for another registry, they are
// streamed and read once each.
func TestAssemblyTravels(t *testing.T) {
	r, other := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	items := sources(t, r)
	c := client(t)
	idx := must(manifest.Assembly{Items: items}.Create(t.Context(), c))(t)
	put(t, c, r.Host+"/far/away:v1", idx)
	verifyTag(t, r, "far/away:v1", idx)
	expect(t, r, map[string]int{"GET manifest": 5, "GET blob": 5, "HEAD manifest": 6, "POST mount": 15, "PUT manifest": 6})
	r.Reset()
	put(t, c, other.Host+"/app:v1", idx)
	verifyTag(t, other, "app:v1", idx)
	expect(t, r, map[string]int{"GET blob": 10})

	// not read before they are copied
	c = client(t)
	idx = must(manifest.Assembly{Items: items, TrustPlatforms: true}.Create(t.Context(), c))(t)
	put(t, c, other.Host+"/trusted:v1", idx)
	verifyTag(t, other, "trusted:v1", idx)
}

// Content that was just read is not requested again, but content of a mirror says nothing
// about the registry.
func TestSeenOnlyWhereItWasRead(t *testing.T) {
	r, mirror := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 500, 1)
	put(t, client(t), mirror.Host+"/app:v1", img)
	put(t, client(t), r.Host+"/app:v1", img)
	r.Reset()
	p, err := platform.Declared("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t)
	c.Hosts = map[string]registry.Host{r.Host: {Mirrors: []string{mirror.Host}}}
	idx := must(manifest.Assembly{Items: []manifest.Item{{Ref: r.Host + "/app:v1", Platform: p}}}.Create(t.Context(), c))(t)
	put(t, c, r.Host+"/app:v2", idx)
	verifyTag(t, r, "app:v2", idx)
	expect(t, r, map[string]int{"HEAD manifest": 2, "PUT manifest": 1})
}

func TestReferrersByTag(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	subject := digestOf(t, img)
	tag := r.Host + "/app:" + strings.Replace(subject.String(), ":", "-", 1)
	ref := r.Host + "/app:v1"

	r.Reset()
	c := client(t)
	if list := must(c.Referrers(t.Context(), ref, subject, "sig"))(t); len(list) != 0 {
		t.Errorf("referrers of a bare image: %v", list)
	}
	expect(t, r, map[string]int{"GET referrers": 1, "GET manifest": 1, "HEAD manifest": 1})
	r.Reset()
	must(c.Referrers(t.Context(), ref, subject))(t)
	expect(t, r, map[string]int{"GET manifest": 1}) // it has no API

	// GitLab resolves the tag to the image itself.
	put(t, client(t), tag, img)
	if list := must(client(t).Referrers(t.Context(), ref, subject))(t); len(list) != 0 {
		t.Errorf("the image refers to itself: %v", list)
	}
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.example.sbom")
	put(t, client(t), tag, mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: artifact, Descriptor: v1.Descriptor{ArtifactType: "application/vnd.example.sbom"},
	}))
	put(t, client(t), tag+".sig", regtest.Image(t, "amd64", 10, 1))
	list := must(client(t).Referrers(t.Context(), ref, subject, "sig", "att"))(t)
	if len(list) != 2 || list[0].ArtifactType != "application/vnd.example.sbom" || !strings.HasSuffix(list[1].Tag, ".sig") {
		t.Errorf("%+v", list)
	}
}

func TestReferrersByAPI(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	answer := func(status int, kind, body string) ([]manifest.Referrer, error) {
		r.Reset()
		r.Inject(regtest.Fault{Path: "/referrers/", Times: -1, Status: status, Header: http.Header{"Content-Type": {kind}}, Body: body})
		return client(t).Referrers(t.Context(), r.Host+"/app:v1", digestOf(t, img))
	}
	const index = "application/vnd.oci.image.index.v1+json"
	list, err := answer(200, index, `{"schemaVersion":2,"manifests":[{"digest":"sha256:`+strings.Repeat("1", 64)+`","size":1,"artifactType":"a/b"},{"size":2}]}`)
	if err != nil || len(list) != 1 || list[0].ArtifactType != "a/b" {
		t.Errorf("%v, %v", list, err)
	}
	expect(t, r, map[string]int{"GET referrers": 1})
	for body, kind := range map[string]string{"<html>": "text/html", "[": index, `{"manifests":[{"digest":"../../x"}]}`: index} {
		if _, err := answer(200, kind, body); !errors.Is(err, manifest.ErrMismatch) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, status := range []int{400, 403, 404, 405} {
		if list, err := answer(status, index, ""); err != nil || len(list) != 0 {
			t.Errorf("%d: %v, %v", status, list, err)
		}
	}
	if _, err := answer(500, index, ""); err == nil || errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("500: %v", err)
	}
}

// The answer of one repository about the API does not apply to others, unless it cannot be
// specific to a repository. Each is requested once.
func TestReferrersOfOneRepositoryOfSeveral(t *testing.T) {
	const index = "application/vnd.oci.image.index.v1+json"
	h := digestOf(t, regtest.Image(t, "amd64", 10, 1))
	for _, c := range []struct {
		status int
		body   string
		asks   int // in three repositories, twice each
	}{
		{404, "", 1},
		{405, "", 1},
		{501, "", 1},
		{404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, 3 + 2},
		{403, `{"errors":[{"code":"DENIED"}]}`, 3 + 2},
		{400, "", 3 + 2},
	} {
		r := regtest.Start(t, regtest.Options{})
		there := `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("1", 64) + `","size":1,"artifactType":"a/b"}]}`
		r.Inject(
			regtest.Fault{Path: "/poor/referrers/", Times: -1, Status: c.status, Body: c.body},
			regtest.Fault{Path: "/referrers/", Times: -1, Status: 200, Header: http.Header{"Content-Type": {index}}, Body: there},
		)
		cl := client(t)
		for range 2 {
			for _, repo := range []string{"poor", "rich", "richer"} {
				list, err := cl.Referrers(t.Context(), r.Host+"/"+repo, h)
				if want := c.asks > 1 && repo != "poor"; err != nil || (len(list) == 1) != want {
					t.Errorf("%d %s: %s: %v, %v", c.status, c.body, repo, list, err)
				}
			}
		}
		if n := r.Tally()["GET referrers"]; n != c.asks {
			t.Errorf("%d %s: asked %d times, want %d", c.status, c.body, n, c.asks)
		}
		// a repository with the API revokes the conclusion for all
		cl = client(t)
		_, err := cl.Referrers(t.Context(), r.Host+"/rich", h)
		list, poor := cl.Referrers(t.Context(), r.Host+"/poor", h)
		again, rich := cl.Referrers(t.Context(), r.Host+"/richer", h)
		if err := errors.Join(err, poor, rich); err != nil || len(list) != 0 || len(again) != 1 {
			t.Errorf("%d %s: %v, %v, %v", c.status, c.body, list, again, err)
		}
	}
}

// A list with an entry for every two bytes would use fifty times its size in memory, so it
// is not parsed.
func TestListsAreBounded(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	for _, doc := range []string{`{"schemaVersion":2,"manifests":[`, `{"schemaVersion":2,"config":{},"layers":[`} {
		r.Reset()
		r.Inject(regtest.Fault{Path: "/manifests/", Times: -1, Status: 200, Body: doc + strings.Repeat("{},", 1_380_000) + "{}]}"})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := client(t).Get(t.Context(), r.Host+"/app:v1")
		runtime.ReadMemStats(&after)
		if !errors.Is(err, manifest.ErrMismatch) || after.TotalAlloc-before.TotalAlloc > 128<<20 {
			t.Errorf("%v, %d MiB", err, (after.TotalAlloc-before.TotalAlloc)>>20)
		}
	}
}
