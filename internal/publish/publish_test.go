package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startRegistry returns a registry that ends with the test.
func startRegistry(t *testing.T) *regtest.Registry {
	t.Helper()
	r, err := regtest.New(regtest.Options{})
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

// If the tag names an image, the layers of a base are sent while the program compiles only
// if the image is recorded with another base. Otherwise they cost no request.
func TestLayersOfANewBaseTravelAtOnce(t *testing.T) {
	r := startRegistry(t)
	index := regtest.RandomIndex(t, 1000, 2, "amd64", "arm64")
	children, err := index.IndexManifest()
	check(t, err)
	base, err := index.Image(children.Manifests[0].Digest)
	check(t, err)
	digest, err := base.Digest()
	check(t, err)
	other := children.Manifests[1].Digest
	records, err := cache.Open(t.TempDir())
	check(t, err)
	for _, c := range []struct {
		what     string
		recorded v1.Hash
		named    bool
		requests bool
	}{
		{"a new tag", v1.Hash{}, false, true},
		{"a tag without a record", v1.Hash{}, true, false},
		{"the same base", digest, true, false},
		{"another base", other, true, true},
	} {
		pub := &Publisher{Client: &registry.Client{}, Cache: records, Log: slog.New(slog.DiscardHandler)}
		run := pub.newRun(Plan{Tags: []string{r.Host + "/app:v1"}})
		repo := run.repos[0]
		close(repo.ready)
		if c.named {
			repo.current.Digest = other
		}
		pub.recordBase(repo.name, "linux/amd64", c.recorded)
		r.Reset()
		check(t, run.onBase(t.Context(), ocispec.Platform{OS: "linux", Architecture: "amd64"}, base))
		if got := r.Total() > 0; got != c.requests {
			t.Errorf("%s: requests: %t, want %t", c.what, got, c.requests)
		}
	}
}

// hello returns a publisher and the plan of a program for two platforms, with two tags in
// one repository and one in another.
func hello(t *testing.T, r *regtest.Registry) (*Publisher, Plan) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	pub := &Publisher{
		Client: &registry.Client{}, Log: slog.New(slog.DiscardHandler),
		SBOM: attest.SPDX, SBOMDir: filepath.Join(dir, "sboms"), Builder: &build.Builder{Work: t.TempDir()},
	}
	spec, err := pub.Builder.Resolve(t.Context(), build.Spec{
		Dir: dir, Program: build.GoPackage{Package: "."}, Base: build.Scratch,
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}},
	})
	check(t, err)
	return pub, Plan{Spec: spec, Tags: []string{r.Host + "/one/app:v1", r.Host + "/other/app:v1", r.Host + "/one/app:latest"}}
}

// names returns what a reference names, asked by a client that remembers nothing.
func names(t *testing.T, ref string) (v1.Hash, error) {
	t.Helper()
	d, err := new(registry.Client).Resolve(t.Context(), ref)
	return d.Digest, err
}

// A statement is signed once for all repositories, when all images are stored there. Gate is
// asked for each repository after that. The tags move after Gate, all or none.
func TestSignerAndGateComeBeforeTheTags(t *testing.T) {
	r := startRegistry(t)
	closed := errors.New("closed")
	for _, c := range []struct {
		what       string
		sign, gate error
		want       error
		steps      []string
	}{
		{"refused by the signer", closed, nil, closed, []string{"sign"}},
		{"refused by Gate", nil, closed, closed, []string{"gate one/app", "gate other/app", "sign"}},
		{"allowed", nil, nil, nil, []string{"gate one/app", "gate other/app", "sign"}},
	} {
		pub, plan := hello(t, r)
		steps := make(chan string, 10)
		pub.SignFormat, pub.AttachTo = "bundle", "auto"
		pub.SignerID = c.what // or the signature of the case before is kept
		pub.Signer = signer(func(statement []byte) ([]byte, error) {
			s, err := attest.ParseStatement(statement)
			check(t, err)
			// The index, two images and their SBOMs.
			if s.PredicateType == attest.SPDX.PredicateType() && len(s.Subject) == 1 {
				return []byte("{}"), c.sign
			}
			if len(s.Subject) != 5 || s.PredicateType != attest.PredicateSignature {
				t.Errorf("%s: %s", c.what, statement)
			}
			steps <- "sign"
			return []byte("{}"), c.sign
		})
		pub.Gate = func(_ context.Context, image string, out *Result) error {
			if at, err := names(t, image); err != nil || at != out.Digest {
				t.Errorf("%s: %s is not stored before Gate: %v", c.what, image, err)
			}
			steps <- "gate " + image[len(r.Host)+1:len(image)-len(out.Digest.String())-1]
			return c.gate
		}
		out, err := pub.Publish(t.Context(), plan)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		close(steps)
		got := slices.Sorted(func(yield func(string) bool) {
			for s := range steps {
				yield(s)
			}
		})
		if !slices.Equal(got, c.steps) {
			t.Errorf("%s: steps %v, want %v", c.what, got, c.steps)
		}
		for _, tag := range plan.Tags {
			at, err := names(t, tag)
			switch {
			case c.want != nil && !errors.Is(err, manifest.ErrNotFound):
				t.Errorf("%s: %s names %s: %v", c.what, tag, at, err)
			case c.want == nil && (err != nil || at != out.Digest):
				t.Errorf("%s: %s names %s, want %s: %v", c.what, tag, at, out.Digest, err)
			}
		}
		if moved := len(out.Tags); (moved > 0) != (c.want == nil) || out.Anywhere() != (c.want == nil) {
			t.Errorf("%s: the result has tags %v", c.what, out.Tags)
		}
		files, err := os.ReadDir(pub.SBOMDir)
		if err != nil || len(files) != 2 {
			t.Errorf("%s: SBOM files: %v, %v", c.what, files, err)
		}
	}
}

// Whatever request fails, with all that follow it, a tag never names an index without its
// signature and its provenance: the state of a registry after a run that was killed there.
func TestTagIsNeverWithoutItsSignature(t *testing.T) {
	t.Parallel()
	r := startRegistry(t)
	run := func(repo string) (*Publisher, Plan) {
		pub, plan := hello(t, r)
		plan.Tags = []string{r.Host + "/" + repo + "/app:v1"}
		pub.SignFormat, pub.AttachTo, pub.Provenance = "bundle", "all", true
		plan.Origin = func(context.Context) (attest.Origin, error) { return attest.Origin{}, nil }
		pub.Signer = signer(func([]byte) ([]byte, error) { return []byte("{}"), nil })
		return pub, plan
	}
	sent := func(method string) (n int) {
		for kind, of := range r.Tally() {
			if strings.HasPrefix(kind, method+" ") {
				n += of
			}
		}
		return n
	}
	// The PUTs are the images and their SBOMs (8 blobs and 4 manifests with 2 lists), one
	// bundle for both statements, the index, 6 artifacts with 3 lists, and the tag. The GETs are the question for
	// the referrers API and 5 lists.
	pub, plan := run("whole")
	r.Reset()
	_, err := pub.Publish(t.Context(), plan)
	check(t, err)
	puts, gets := sent(http.MethodPut), sent(http.MethodGet)
	if puts != 26 || gets != 6 {
		t.Errorf("%d PUTs and %d GETs", puts, gets)
	}
	for _, c := range []struct {
		method string
		all    bool // strike each of the requests, else the first, the middle and the last
		most   int
	}{{http.MethodPut, true, puts}, {http.MethodGet, true, gets}, {http.MethodHead, false, sent(http.MethodHead)}, {http.MethodPost, false, sent(http.MethodPost)}} {
		for nth := 1; nth <= c.most; nth++ {
			if !c.all && nth != 1 && nth != (c.most+1)/2 && nth != c.most {
				continue
			}
			pub, plan := run(fmt.Sprintf("kill-%s-%d", strings.ToLower(c.method), nth))
			r.Reset()
			r.Inject(regtest.Fault{Method: c.method, Nth: nth, Times: -1, Status: http.StatusForbidden})
			out, err := pub.Publish(t.Context(), plan)
			n := sent(c.method)
			r.Reset()
			if n < nth {
				t.Errorf("%s: %d requests, and number %d was to be struck", c.method, n, nth)
			}
			at, absent := names(t, plan.Tags[0])
			if absent != nil {
				if err == nil {
					t.Errorf("%s %d failed, and the push did not: %v", c.method, nth, absent)
				}
				continue
			}
			if err != nil || at != out.Digest {
				t.Errorf("%s %d failed: %v, but the tag moved to %s", c.method, nth, err, at)
			}
			list, err := new(registry.Client).Referrers(t.Context(), plan.Tags[0], at)
			check(t, err)
			if len(list) != 2 {
				t.Errorf("%s %d failed: the tag has %d of 2 referrers", c.method, nth, len(list))
			}
		}
	}
}

// A signer is a sign.Signer for tests.
type signer func(statement []byte) ([]byte, error)

func (s signer) Sign(_ context.Context, statement []byte) ([]byte, error) { return s(statement) }

// MoveTags stores the content by digest first if there are several tags. An error between
// two tags names those that moved and those that did not.
func TestMoveTags(t *testing.T) {
	digest, refused := v1.Hash{Algorithm: "sha256", Hex: "ab"}, errors.New("refused")
	for _, c := range []struct {
		tags, puts []string
		fails      string
		moved      int
		err        string
	}{
		{tags: []string{"h/a:1"}, puts: []string{"h/a:1"}, moved: 1},
		{tags: []string{"h/a:1", "h/a:2"}, puts: []string{"h/a@sha256:ab", "h/a:1", "h/a:2"}, moved: 2},
		{tags: []string{"h/a:1"}, puts: []string{"h/a:1"}, fails: "h/a:1", err: "refused"},
		{tags: []string{"h/a:1", "h/a:2"}, puts: []string{"h/a@sha256:ab"}, fails: "h/a@sha256:ab", err: "refused"},
		{tags: []string{"h/a:1", "h/a:2", "h/a:3"}, puts: []string{"h/a@sha256:ab", "h/a:1", "h/a:2"}, fails: "h/a:2", moved: 1, err: "published h/a:1, but not h/a:2, h/a:3: refused"},
	} {
		var puts, moved []string
		err := MoveTags(c.tags, digest, func(ref string) error {
			if puts = append(puts, ref); ref == c.fails {
				return refused
			}
			return nil
		}, func(tag string) { moved = append(moved, tag) })
		if !slices.Equal(puts, c.puts) || !slices.Equal(moved, c.tags[:c.moved]) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%v: puts %v, moved %v, %v", c.tags, puts, moved, err)
		}
	}
}

func TestByRepository(t *testing.T) {
	got := ByRepository([]string{"h:1/a:x", "h:1/b", "h:1/a:y", "h:1/a@sha256:ab"})
	if len(got) != 2 || !slices.Equal(got[0], []string{"h:1/a:x", "h:1/a:y", "h:1/a@sha256:ab"}) || !slices.Equal(got[1], []string{"h:1/b"}) {
		t.Errorf("%q", got)
	}
}
