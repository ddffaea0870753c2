package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	theirs "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
)

// referrer returns an artifact of one blob with the subject.
func referrer(t *testing.T, subject manifest.Content, kind string) v1.Image {
	t.Helper()
	img := mutate.MediaType(regtest.Image(t, "amd64", 50, 1), types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.MediaType("application/vnd.example."+kind))
	img = mutate.Annotations(img, map[string]string{"kind": kind}).(v1.Image)
	return mutate.Subject(img, must(manifest.Describe(subject))(t)).(v1.Image)
}

// referrersOf lists the referrers of subject, as a new client of ours and
// go-containerregistry see them.
func referrersOf(t *testing.T, host, repo string, subject manifest.Content) []string {
	t.Helper()
	h := digestOf(t, subject)
	var ours, others []string
	for _, d := range must(client(t).Referrers(t.Context(), host+"/"+repo, h))(t) {
		ours = append(ours, d.ArtifactType+" "+d.Annotations["kind"])
	}
	idx := must(remote.Referrers(must(name.NewDigest(host + "/" + repo + "@" + h.String()))(t)))(t)
	for _, d := range must(idx.IndexManifest())(t).Manifests {
		others = append(others, d.ArtifactType+" "+d.Annotations["kind"])
	}
	slices.Sort(ours)
	slices.Sort(others)
	if !slices.Equal(ours, others) {
		t.Errorf("we see %v, they see %v", ours, others)
	}
	return ours
}

// In a registry without the referrers API a referrer is listed under the fallback tag of
// its subject: one request for the API in a run, GET and PUT of the list. A listed referrer
// costs one GET of the list, and nothing later in the run.
func TestReferrerIsListed(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	sbom, sig := referrer(t, img, "sbom"), referrer(t, img, "sig")
	c := client(t)
	r.Reset()
	put(t, c, by(r, "app", digestOf(t, sbom)), sbom)
	expect(t, r, map[string]int{
		"HEAD manifest": 1, "HEAD blob": 2, "POST upload": 2, "PUT upload": 2,
		"PUT manifest": 2, "GET referrers": 1, "GET manifest": 1,
	})
	r.Reset()
	put(t, c, by(r, "app", digestOf(t, sig)), sig)
	put(t, c, by(r, "app", digestOf(t, sig)), sig)
	expect(t, r, map[string]int{
		"HEAD manifest": 1, "HEAD blob": 2, "POST upload": 2, "PUT upload": 2, "PUT manifest": 2, "GET manifest": 1,
	})
	r.Reset()
	put(t, client(t), by(r, "app", digestOf(t, sig)), sig)
	expect(t, r, map[string]int{"HEAD manifest": 1, "GET referrers": 1, "GET manifest": 1})
	want := []string{"application/vnd.example.sbom sbom", "application/vnd.example.sig sig"}
	if got := referrersOf(t, r.Host, "app", img); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	verifyTag(t, r, "app:v1", img)
}

// Referrers of one subject that are put together are listed by one request, beside those of
// others. What the list has already costs one GET.
func TestPutReferrers(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	one, two := regtest.Image(t, "amd64", 100, 1), regtest.Image(t, "arm64", 100, 2)
	put(t, client(t), r.Host+"/app:v1", one)
	put(t, client(t), r.Host+"/app:v2", two)
	sbom, sig, other := referrer(t, one, "sbom"), referrer(t, one, "sig"), referrer(t, two, "sig")
	c := client(t)
	put(t, c, by(r, "app", digestOf(t, sbom)), sbom)
	r.Reset()
	if err := c.PutReferrers(t.Context(), r.Host+"/app", sbom, sig, other, referrer(t, one, "provenance")); err != nil {
		t.Fatal(err)
	}
	tally := r.Tally()
	if tally["PUT manifest"] != 3+2 || tally["GET manifest"] != 2 || tally["GET referrers"] != 0 {
		t.Errorf("requests: %v", tally)
	}
	if got, want := referrersOf(t, r.Host, "app", one), []string{"application/vnd.example.provenance provenance", "application/vnd.example.sbom sbom", "application/vnd.example.sig sig"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := referrersOf(t, r.Host, "app", two); len(got) != 1 {
		t.Errorf("of the other image: %v", got)
	}
	r.Reset()
	if err := client(t).PutReferrers(t.Context(), r.Host+"/app", sbom, sig); err != nil {
		t.Fatal(err)
	}
	expect(t, r, map[string]int{"HEAD manifest": 2, "GET referrers": 1, "GET manifest": 1})

	// Bad references and a registry that refuses are errors.
	if err := c.PutReferrers(t.Context(), "not a repository", sig); err == nil {
		t.Error("a bad repository")
	}
	r.Inject(regtest.Fault{Method: http.MethodPut, Path: "/manifests/", Times: -1, Status: http.StatusForbidden})
	if err := client(t).PutReferrers(t.Context(), r.Host+"/new", sig); err == nil {
		t.Error("a registry that refuses")
	}
}

// The tag of a referrer is stored after the referrer is listed: one PUT more than by
// digest.
func TestTagOfAReferrerMovesLast(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	old, sbom := referrer(t, img, "old"), referrer(t, img, "sbom")
	put(t, client(t), r.Host+"/app:sbom", old)
	r.Reset()
	r.Inject(regtest.Fault{Method: "PUT", Path: "/manifests/sha256-", Times: -1, Status: 403})
	if err := client(t).Put(t.Context(), r.Host+"/app:sbom", sbom); err == nil {
		t.Error("the list could not be written, and nobody says so")
	}
	verifyTag(t, r, "app:sbom", old)
	r.Reset()
	put(t, client(t), r.Host+"/app:sbom", sbom)
	if n := r.Tally()["PUT manifest"]; n != 3 {
		t.Errorf("%d PUTs for the referrer, the list and the tag", n)
	}
	verifyTag(t, r, "app:sbom", sbom)
}

// Concurrent referrers of one subject are all listed, whatever their type.
func TestReferrersAtOnce(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 100, 1, "amd64")
	put(t, client(t), r.Host+"/app:v1", idx)
	c := client(t)
	const n = 10
	var all sync.WaitGroup
	for i := range n {
		content := manifest.Content(referrer(t, idx, fmt.Sprint(i)))
		if i == 0 {
			own := mutate.Annotations(regtest.RandomIndex(t, 50, 1, "arm64"), map[string]string{"kind": "index"}).(v1.ImageIndex)
			content = mutate.Subject(own, must(manifest.Describe(idx))(t)).(v1.ImageIndex)
		}
		all.Go(func() { put(t, c, by(r, "app", digestOf(t, content)), content) })
	}
	all.Wait()
	if got := referrersOf(t, r.Host, "app", idx); len(got) != n || got[0] != " index" {
		t.Errorf("got %v", got)
	}
	verifyTag(t, r, "app:v1", idx)
}

// An existing fallback tag is extended only if it is a list of referrers, and only by those
// entries that still exist.
func TestReferrersTagIsTaken(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	tag := r.Host + "/app:" + strings.Replace(digestOf(t, img).String(), ":", "-", 1)
	var last v1.Image
	for i, taken := range []manifest.Content{img, regtest.RandomIndex(t, 50, 1, "amd64", "arm64")} {
		put(t, client(t), tag, taken)
		last = referrer(t, img, fmt.Sprint(i))
		put(t, client(t), by(r, "app", digestOf(t, last)), last)
		want := []string{fmt.Sprintf("application/vnd.example.%d %d", i, i)}
		if got := referrersOf(t, r.Host, "app", img); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if err := r.Delete("app/manifests/" + digestOf(t, last).String()); err != nil {
		t.Fatal(err)
	}
	next := referrer(t, img, "next")
	put(t, client(t), by(r, "app", digestOf(t, next)), next)
	if got := referrersOf(t, r.Host, "app", img); !slices.Equal(got, []string{"application/vnd.example.next next"}) {
		t.Errorf("got %v", got)
	}
	verifyTag(t, r, "app:v1", img)
}

// A registry with the API lists referrers itself. One request in a run finds out, whether
// or not the response to the PUT has OCI-Subject. No tag is made.
func TestReferrerByAPI(t *testing.T) {
	for _, says := range []bool{true, false} {
		var mu sync.Mutex
		seen := map[string]int{}
		registryOfTheirs := theirs.New(theirs.WithReferrersSupport(true), theirs.Logger(log.New(io.Discard, "", 0)))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			seen[regtest.Request{Method: req.Method, Path: req.URL.Path}.Kind()]++
			mu.Unlock()
			if says && req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
				w.Header().Set("OCI-Subject", "sha256:"+strings.Repeat("0", 64))
			}
			registryOfTheirs.ServeHTTP(w, req)
		}))
		defer server.Close()
		host := server.Listener.Addr().String()
		img := regtest.Image(t, "amd64", 100, 1)
		put(t, client(t), host+"/app:v1", img)
		clear(seen)
		c := client(t)
		for _, kind := range []string{"a", "b"} {
			artifact := referrer(t, img, kind)
			put(t, c, host+"/app@"+digestOf(t, artifact).String(), artifact)
		}
		if seen["GET referrers"] != 1 || seen["PUT manifest"] != 2 || seen["GET manifest"] != 0 {
			t.Errorf("says %t: %v", says, seen)
		}
		if got := referrersOf(t, host, "app", img); len(got) != 2 {
			t.Errorf("got %v", got)
		}
		if tags := must(client(t).Tags(t.Context(), host+"/app"))(t); !slices.Equal(tags, []string{"v1"}) {
			t.Errorf("tags %v", tags)
		}
	}
}

// OCI-Subject alone is no proof of the API: without it, the tag lists the referrer.
func TestReferrerDespiteSubjectHeader(t *testing.T) {
	t.Parallel()
	without := theirs.New(theirs.WithReferrersSupport(false), theirs.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("OCI-Subject", "sha256:"+strings.Repeat("0", 64))
		without.ServeHTTP(w, req)
	}))
	defer server.Close()
	repo, img := server.Listener.Addr().String()+"/app", regtest.Image(t, "amd64", 100, 1)
	artifact := referrer(t, img, "a")
	put(t, client(t), repo+"@"+digestOf(t, artifact).String(), artifact)
	want := []string{manifest.ReferrersTag(digestOf(t, img))}
	if tags := must(client(t).Tags(t.Context(), repo))(t); !slices.Equal(tags, want) {
		t.Errorf("tags %v, want %v", tags, want)
	}
}

// All pages of a list of referrers are read, up to a limit.
func TestReferrersByPage(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	page := func(from, n int) string {
		list := make([]map[string]any, n)
		for i := range list {
			list[i] = map[string]any{"digest": fmt.Sprintf("sha256:%064x", from+i), "size": 1}
		}
		raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": list})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	answer := func(body, next string, times int) regtest.Fault {
		h := http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}}
		if next != "" {
			h.Set("Link", `</v2/app/referrers/x?last=`+next+`>; rel="next"`)
		}
		return regtest.Fault{Path: "/referrers/", Status: 200, Times: times, Header: h, Body: body}
	}
	h := digestOf(t, regtest.Image(t, "amd64", 10, 1))
	r.Inject(answer(page(0, 3), "a", 1), answer(page(3, 0), "b", 1), answer(page(3, 2), "", 1))
	if list := must(client(t).Referrers(t.Context(), r.Host+"/app", h))(t); len(list) != 5 || list[4].Digest.Hex[63] != '4' {
		t.Errorf("%v", list)
	}
	expect(t, r, map[string]int{"GET referrers": 3})
	if got := r.Requests()[1].Query; got.Get("last") != "a" {
		t.Errorf("asked for %v", got)
	}
	r.Reset()
	for i := range 12 {
		r.Inject(answer(page(i*1000, 1000), fmt.Sprint(i), 1))
	}
	if _, err := client(t).Referrers(t.Context(), r.Host+"/app", h); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("got %v", err)
	}
	expect(t, r, map[string]int{"GET referrers": 11})
}

// Of several concurrent referrers, one request checks for the API while that is unknown.
func TestOneAsksForTheReferrersAPI(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	c := client(t)
	subjects := make([]v1.Image, 6)
	for i := range subjects {
		subjects[i] = regtest.Image(t, "amd64", 100, i+1)
		put(t, c, by(r, "app", digestOf(t, subjects[i])), subjects[i])
	}
	r.Reset()
	var wg sync.WaitGroup
	for _, subject := range subjects {
		of := referrer(t, subject, "sbom")
		ref := by(r, "app", digestOf(t, of))
		wg.Go(func() {
			if err := c.Put(t.Context(), ref, of); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.Tally()["GET referrers"]; n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
}

// Found distinguishes what this run stored from what existed before.
func TestFound(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	ref := by(r, "app", digestOf(t, img))
	for i, want := range []bool{false, true} {
		c := client(t)
		if c.Found(ref) {
			t.Error("found before it was asked for")
		}
		put(t, c, ref, img)
		put(t, c, ref, img)
		if got := c.Found(ref); got != want {
			t.Errorf("run %d: found %t, want %t", i, got, want)
		}
	}
	if client(t).Found("no reference") {
		t.Error("what is no reference was found")
	}
}
