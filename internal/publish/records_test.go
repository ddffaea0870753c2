package publish

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/serve"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A machine is one that publishes with build records and remembers nothing else.
type machine struct {
	*Publisher
	warnings *bytes.Buffer
}

// newMachine returns a machine with a repository of build records.
func newMachine(t *testing.T, r *records.Repository) machine {
	t.Helper()
	m := machine{warnings: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(m.warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r.Client, r.Log = &registry.Client{Sleep: func(context.Context, time.Duration) error { return nil }}, log
	m.Publisher = &Publisher{Client: r.Client, Log: log, Records: r, Builder: &build.Builder{Work: t.TempDir(), Recalls: true}}
	return m
}

// publish publishes the program in a directory for a platform.
func (m machine) publish(t *testing.T, dir, arch, tag string) (*Result, error) {
	t.Helper()
	spec, err := m.Builder.Resolve(t.Context(), build.Spec{Dir: dir, Base: build.Scratch, Platforms: []ocispec.Platform{{OS: "linux", Architecture: arch}}})
	check(t, err)
	return m.Publish(t.Context(), Plan{Spec: spec, Tags: []string{tag}})
}

// must is publish without an error.
func (m machine) must(t *testing.T, dir, arch, tag string) *Result {
	t.Helper()
	r, err := m.publish(t, dir, arch, tag)
	check(t, err)
	return r
}

// secret returns a key that signs build records.
func secret(t *testing.T, name string) (ed25519.PrivateKey, ed25519.PublicKey) {
	t.Helper()
	key, err := records.KeyOf(strings.Repeat(name, 32))
	check(t, err)
	public, err := records.ParsePublicKey(records.PublicKey(key))
	check(t, err)
	return key, public
}

// layered is an image that has other layers than it says.
type layered struct {
	v1.Image
	layers []v1.Layer
}

func (l layered) Layers() ([]v1.Layer, error) { return l.layers, nil }

// depModule is a module that the tests of build records require, and depSums its go.sum. The
// module cache has it, since mabuild requires it, too.
const (
	depModule = "github.com/agext/levenshtein v1.2.3"
	depSums   = depModule + " h1:YB2fHEn0UJagG8T1rrWknE3ZQzWM06O8AMAatNn7lmo=\n" +
		depModule + "/go.mod h1:JEDfjyjHDjOF/1e4FlBE/PkbqA9OfWu2ki2W0IB5558=\n"
)

// Whatever is in the repository of build records, and whether or not it answers, the result
// is that of the compiler. What is wrong is said once.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	from, to := startRegistry(t), startRegistry(t)
	dir, other := t.TempDir(), t.TempDir()
	for at, text := range map[string]string{dir: "one", other: "two"} {
		regtest.Lay(t, at, map[string]string{
			"go.mod":  "module example.com/" + text + "\n\ngo 1.26\n\nrequire " + depModule + "\n",
			"go.sum":  depSums,
			"main.go": "package main\n\nimport \"github.com/agext/levenshtein\"\n\nfunc main() { println(\"" + text + "\", levenshtein.Distance(\"a\", \"b\", nil)) }\n",
		})
	}
	own, ownPublic := secret(t, "o")
	foreign, _ := secret(t, "f")
	n := 0
	publish := func(m machine, dir, arch string) *Result {
		n++
		return m.must(t, dir, arch, fmt.Sprintf("%s/app%d:v1", to.Host, n))
	}
	reader := func(name string) *records.Repository { return &records.Repository{Name: from.Host + "/" + name} }
	writer := func(name string) *records.Repository {
		return &records.Repository{Name: from.Host + "/" + name, Write: true}
	}
	// An honest machine makes what the hostile ones put elsewhere.
	honest := newMachine(t, writer("honest"))
	want := publish(honest, dir, "amd64")
	key := want.Images[0].Key
	if len(key) != 64 || want.Images[0].Recalled {
		t.Fatalf("the key is %q", key)
	}
	arm := publish(honest, dir, "arm64").Images[0]
	two := publish(honest, other, "amd64").Images[0]
	// changed returns the image of a program that differs from the honest one in some bytes.
	elsewhere := to.Host
	changed := func(from, to string) build.Image {
		t.Helper()
		program, err := os.ReadFile(want.Images[0].Binary.Path)
		check(t, err)
		if len(from) != len(to) || !bytes.Contains(program, []byte(from)) {
			t.Fatalf("the program has no %q, or it cannot be %q", from, to)
		}
		at := t.TempDir()
		check(t, os.WriteFile(filepath.Join(at, "one"), bytes.ReplaceAll(program, []byte(from), []byte(to)), 0o755))
		m := newMachine(t, writer("prebuilt"))
		spec, err := m.Builder.Resolve(t.Context(), build.Spec{Dir: at, Name: "one", Base: build.Scratch, Platforms: []ocispec.Platform{want.Images[0].Platform}, Program: build.Prebuilt{Path: "one"}})
		check(t, err)
		out, err := m.Publish(t.Context(), Plan{Spec: spec, Tags: []string{fmt.Sprintf("%s/prebuilt%d:v1", elsewhere, n)}})
		check(t, err)
		return out.Images[0]
	}
	release, _, _ := strings.Cut(runtime.Version(), " ")
	anotherGo := changed(release, release[:len(release)-1]+"x")
	sum := strings.Fields(depSums)[2]
	anotherSum := changed(sum, strings.ToUpper(sum[:len(sum)-2])+sum[len(sum)-2:])
	forge := func(r *records.Repository, img build.Image) {
		img.Key, img.Platform = key, want.Images[0].Platform
		r.Client, r.Log = &registry.Client{}, slog.New(slog.DiscardHandler)
		r.Store(t.Context(), img)
	}
	for _, c := range []struct {
		what    string
		do      func(repo string)
		read    func(r *records.Repository)
		hit     bool
		warning string // "": none
	}{
		{what: "nothing"},
		{what: "the honest record", hit: true, do: func(repo string) { forge(writer(repo), want.Images[0]) }},
		{what: "another platform's program", warning: "not an executable of the platform", do: func(repo string) { forge(writer(repo), arm) }},
		{what: "another program", warning: "has no file /mabuild/one", do: func(repo string) { forge(writer(repo), two) }},
		{what: "a program of another release of Go", warning: "and this is " + release, do: func(repo string) { forge(writer(repo), anotherGo) }},
		{what: "a program with another module", warning: "has another checksum than go.sum", do: func(repo string) { forge(writer(repo), anotherSum) }},
		{what: "a signed program with another module", warning: "has another checksum than go.sum", read: func(r *records.Repository) { r.Trust = []ed25519.PublicKey{ownPublic} }, do: func(repo string) {
			r := writer(repo)
			r.Key = own
			forge(r, anotherSum)
		}},
		{what: "the layer of no program", warning: "its layer has the type", do: func(repo string) {
			layers, err := regtest.Image(t, "amd64", 100, 1).Layers()
			check(t, err)
			forge(writer(repo), build.Image{Image: layered{want.Images[0].Image, layers}})
		}},
		{what: "an image", warning: "it is not a build record", do: func(repo string) {
			check(t, new(registry.Client).Put(t.Context(), from.Host+"/"+repo+":b1-"+key[:40], regtest.Image(t, "amd64", 100, 1)))
		}},
		{what: "an index", warning: "it is not a build record", do: func(repo string) {
			check(t, new(registry.Client).Put(t.Context(), from.Host+"/"+repo+":b1-"+key[:40], regtest.RandomIndex(t, 100, 1, "amd64")))
		}},
		{what: "the layer is gone", warning: "is spoilt", do: func(repo string) {
			forge(writer(repo), want.Images[0])
			from.Inject(regtest.Fault{Method: http.MethodGet, Path: "/v2/" + repo + "/blobs/", Status: http.StatusNotFound, Times: -1})
		}},
		{what: "the layer is another one", warning: "is spoilt", do: func(repo string) {
			forge(writer(repo), want.Images[0])
			from.Inject(regtest.Fault{Method: http.MethodGet, Path: "/v2/" + repo + "/blobs/", Phase: regtest.Down, Action: regtest.Flip, After: 1000, Times: -1})
		}},
		{what: "a manifest that is too large", warning: "records", do: func(repo string) {
			from.Inject(regtest.Fault{Method: http.MethodGet, Path: "/v2/" + repo + "/manifests/", Status: http.StatusOK, Body: strings.Repeat(" ", 4<<20+1), Times: -1})
		}},
		{what: "no permission to read", warning: "cannot be read, so programs are compiled", do: func(repo string) {
			from.Inject(regtest.Fault{Path: "/v2/" + repo + "/manifests/", Status: http.StatusForbidden, Times: -1})
		}},
		{what: "no credentials to read", warning: "cannot be read, so programs are compiled", do: func(repo string) {
			from.Inject(regtest.Fault{Path: "/v2/" + repo + "/manifests/", Status: http.StatusUnauthorized, Times: -1})
		}},
		{what: "a broken registry", warning: "cannot be read, so programs are compiled", do: func(repo string) {
			from.Inject(regtest.Fault{Path: "/v2/" + repo + "/", Status: http.StatusInternalServerError, Times: -1})
		}},
		{what: "no permission to write", warning: "cannot be written, so other machines compile, too", read: func(r *records.Repository) { r.Write = true }, do: func(repo string) {
			from.Inject(regtest.Fault{Method: http.MethodPost, Path: "/v2/" + repo + "/", Status: http.StatusForbidden, Times: -1})
		}},
		{what: "an unsigned record", warning: "no trusted key has signed", read: func(r *records.Repository) { r.Trust = []ed25519.PublicKey{ownPublic} }, do: func(repo string) {
			forge(writer(repo), want.Images[0])
		}},
		{what: "a record of a foreign key", warning: "no trusted key has signed", read: func(r *records.Repository) { r.Trust = []ed25519.PublicKey{ownPublic} }, do: func(repo string) {
			r := writer(repo)
			r.Key = foreign
			forge(r, want.Images[0])
		}},
		{what: "a trusted record", hit: true, read: func(r *records.Repository) { r.Trust = []ed25519.PublicKey{ownPublic} }, do: func(repo string) {
			r := writer(repo)
			r.Key = own
			forge(r, want.Images[0])
		}},
		{what: "a trusted record of another repository", warning: "no trusted key has signed", read: func(r *records.Repository) { r.Trust = []ed25519.PublicKey{ownPublic} }, do: func(repo string) {
			r := writer("elsewhere/" + repo)
			r.Key = own
			forge(r, want.Images[0])
			client := &registry.Client{}
			content, err := client.Get(t.Context(), r.Name+":b1-"+key[:40])
			check(t, err)
			check(t, client.Put(t.Context(), from.Host+"/"+repo+":b1-"+key[:40], content))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			from.Reset()
			repo := "r" + strings.ReplaceAll(c.what, " ", "-")
			repo = strings.ReplaceAll(strings.ToLower(repo), "'", "")
			if c.do != nil {
				c.do(repo)
			}
			r := reader(repo)
			if c.read != nil {
				c.read(r)
			}
			m := newMachine(t, r)
			got := publish(m, dir, "amd64")
			if got.Digest != want.Digest || got.Images[0].Recalled != c.hit {
				t.Errorf("the digest is %s, recalled %t; want %s, %t", got.Digest, got.Images[0].Recalled, want.Digest, c.hit)
			}
			lines := strings.Count(m.warnings.String(), "\n")
			if c.warning == "" && lines > 0 || c.warning != "" && (lines != 1 || !strings.Contains(m.warnings.String(), c.warning)) {
				t.Errorf("the warnings are %q, want one: %q", m.warnings, c.warning)
			}
			if found, err := to.Verify(fmt.Sprintf("app%d", n), "v1"); err != nil || found != want.Digest {
				t.Errorf("the tag names %s, %v", found, err)
			}
		})
	}
}

// A forged layer is published if the registry mounts it, which nobody reads: who can write to the
// repository can publish. With Check it is read, and compiled in its place.
func TestMountedLayerIsReadWithCheck(t *testing.T) {
	t.Parallel()
	r, dir, other := startRegistry(t), t.TempDir(), t.TempDir()
	for at, text := range map[string]string{dir: "one", other: "two"} {
		regtest.Lay(t, at, map[string]string{"go.mod": "module example.com/" + text + "\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"" + text + "\") }\n"})
	}
	writer := newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
	want := writer.must(t, dir, "amd64", r.Host+"/want:v1")
	forged := writer.must(t, other, "amd64", r.Host+"/forged:v1").Images[0]
	forged.Key = want.Images[0].Key
	newMachine(t, &records.Repository{Name: r.Host + "/forgery", Write: true}).Records.Store(t.Context(), forged)

	m := newMachine(t, &records.Repository{Name: r.Host + "/forgery"})
	if got := m.must(t, dir, "amd64", r.Host+"/mounted:v1"); got.Digest == want.Digest || m.warnings.Len() > 0 {
		t.Errorf("the digest is %s: the forged layer was not mounted; %s", got.Digest, m.warnings)
	}
	m = newMachine(t, &records.Repository{Name: r.Host + "/forgery", Check: true})
	if got := m.must(t, dir, "amd64", r.Host+"/checked:v1"); got.Digest != want.Digest || strings.Count(m.warnings.String(), "is spoilt, so the program is compiled") != 1 {
		t.Errorf("the digest is %s, want %s; %s", got.Digest, want.Digest, m.warnings)
	}
}

// With Require a program without a record is an error, and nothing is published.
func TestRequiredRecord(t *testing.T) {
	r, dir := startRegistry(t), t.TempDir()
	regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"})
	m := newMachine(t, &records.Repository{Name: r.Host + "/records", Require: true})
	_, err := m.publish(t, dir, "amd64", r.Host+"/app:v1")
	if want := "linux/amd64: compile: no build record in " + r.Host + "/records, but --require-cache is set"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := names(t, r.Host+"/app:v1"); err == nil {
		t.Error("the tag names something")
	}
}

// Machines that publish and record one program at once do not disturb each other: one digest,
// one record, which the next machine takes.
func TestEightWriters(t *testing.T) {
	t.Parallel()
	r, dir := startRegistry(t), t.TempDir()
	regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"})
	results := make([]*Result, 8)
	var wg sync.WaitGroup
	for i := range results {
		m := newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
		wg.Go(func() {
			if results[i] = m.must(t, dir, "amd64", fmt.Sprintf("%s/app:v%d", r.Host, i)); m.warnings.Len() > 0 {
				t.Errorf("machine %d: %s", i, m.warnings)
			}
		})
	}
	wg.Wait()
	for i, one := range results {
		if one == nil || one.Digest != results[0].Digest {
			t.Fatalf("machine %d has another digest", i)
		}
	}
	next := newMachine(t, &records.Repository{Name: r.Host + "/records", Require: true})
	if got := next.must(t, dir, "amd64", r.Host+"/app:next"); got.Digest != results[0].Digest || !got.Images[0].Recalled {
		t.Errorf("the next machine has %s, recalled %t", got.Digest, got.Images[0].Recalled)
	}
	tags, err := new(registry.Client).Tags(t.Context(), r.Host+"/records")
	if err != nil || len(tags) != 1 {
		t.Errorf("the records are %q, %v", tags, err)
	}
}

// A program that does not compile in the same way twice has the record of the machine that was
// first. The second one warns, or fails with Strict before a tag moves.
func TestSecondWriter(t *testing.T) {
	t.Parallel()
	r, dir, other := startRegistry(t), t.TempDir(), t.TempDir()
	for at, text := range map[string]string{dir: "one", other: "two"} {
		regtest.Lay(t, at, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"" + text + "\") }\n"})
	}
	m := newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
	first := m.must(t, dir, "amd64", r.Host+"/app:v1").Images[0]
	now := func() string {
		t.Helper()
		d, err := new(registry.Client).Resolve(t.Context(), r.Host+"/records:b1-"+first.Key[:40])
		check(t, err)
		return d.Digest.String()
	}
	was := now()
	second := newMachine(t, &records.Repository{Name: r.Host + "/elsewhere", Write: true}).must(t, other, "amd64", r.Host+"/app:v2").Images[0]
	second.Key = first.Key

	m = newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
	for _, img := range []build.Image{first, second} {
		check(t, m.storeRecord(t.Context(), img))
	}
	if said := m.warnings.String(); strings.Count(said, "compiled to another layer than its build record") != 1 || now() != was {
		t.Errorf("%s; the record is %s, was %s", said, now(), was)
	}
	m.Strict = true
	if err := m.storeRecord(t.Context(), second); hint.KindOf(err) != hint.Content || now() != was {
		t.Errorf("%v; the record is %s, was %s", err, now(), was)
	}
	check(t, m.storeRecord(t.Context(), first))

	// The layer is the same, but the machine signs it now.
	key, _ := secret(t, "k")
	m = newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true, Key: key})
	check(t, m.storeRecord(t.Context(), first))
	if now() == was || m.warnings.Len() > 0 {
		t.Errorf("the record was not signed: %s", m.warnings)
	}
}

// Provenance says which record a program came from, and who signed it, only if it need not be
// the same in the next run.
func TestProvenanceNamesTheRecord(t *testing.T) {
	t.Parallel()
	r, dir := startRegistry(t), t.TempDir()
	regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"})
	key, public := secret(t, "k")
	newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true, Key: key}).must(t, dir, "amd64", r.Host+"/app:v1")
	var texts []string
	for _, trust := range [][]ed25519.PublicKey{nil, {public}} {
		for _, values := range []map[string]string{nil, {"a": "b"}} {
			m := newMachine(t, &records.Repository{Name: r.Host + "/records", Trust: trust})
			built, err := m.Builder.Build(t.Context(), build.Spec{Dir: dir, Base: build.Scratch, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}, build.Hooks{Recall: m.Records.Recall})
			check(t, err)
			run := m.newRun(Plan{Origin: func(context.Context) (attest.Origin, error) { return attest.Origin{Values: values}, nil }})
			p, err := run.provenance(t.Context(), built.Images)
			check(t, err)
			raw, err := json.Marshal(p)
			check(t, err)
			texts = append(texts, string(raw))
		}
	}
	record := `"name":"build record linux/amd64","uri":"` + r.Host + "/records:b1-"
	if strings.Contains(texts[0], "build record") || texts[0] != texts[2] || !strings.Contains(texts[1], record) || strings.Contains(texts[1], "signer") || !strings.Contains(texts[3], `"signer":"`+records.PublicKey(key)+`"`) {
		t.Errorf("%s", strings.Join(texts, "\n"))
	}
}

// All shards of a run divide its work in the same way, whichever has ended already. The next
// run divides by the times of this one.
func TestShardsOfARunAgree(t *testing.T) {
	t.Parallel()
	r, dir := startRegistry(t), t.TempDir()
	lay := func(text string) {
		regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"" + text + "\") }\n"})
	}
	pairs := func() (machine, []Pair) {
		t.Helper()
		m := newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
		spec, err := m.Builder.Resolve(t.Context(), build.Spec{Dir: dir, Base: build.Scratch, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}})
		check(t, err)
		list, err := m.Pairs(t.Context(), []Plan{{Spec: spec}})
		check(t, err)
		return m, list
	}
	took := func(ms ...int) (list []Warmed) {
		_, all := pairs()
		for i, n := range ms {
			list = append(list, Warmed{Pair: all[i], Image: build.Image{Took: time.Duration(n) * time.Millisecond}})
		}
		return list
	}
	weights := func() ([]float64, Division) {
		m, list := pairs()
		d, weights := m.Divide(t.Context(), list)
		if m.warnings.Len() > 0 {
			t.Error(m.warnings)
		}
		return weights, d
	}
	want := func(what string, want ...float64) Division {
		t.Helper()
		got, d := weights()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		return d
	}
	lay("one")
	first := want("nothing is known", -1, -1)
	first.Store(t.Context(), took(100))
	second := want("one shard has ended", -1, -1)
	second.Store(t.Context(), took(100, 300)[1:])
	want("all have ended", -1, -1)
	lay("two")
	next := want("the next run", 100, 300)
	next.Store(t.Context(), took(50000000, 7))
	want("a shard of it has ended", 100, 300)
	lay("three")
	want("the run after that", 3600000, 7)
	check(t, new(registry.Client).Put(t.Context(), fmt.Sprintf("%s/records:times-%.40x", r.Host, sha256.Sum256([]byte("example.com/one"))), regtest.Image(t, "amd64", 100, 1)))
	want("something else is under the tag", -1, -1)
}

// The registry of mabuild, which has the referrers API, keeps records, too.
func TestRecordsInARegistryWithReferrers(t *testing.T) {
	t.Parallel()
	store, err := serve.Open(t.TempDir(), log.New(io.Discard, "", 0))
	check(t, err)
	server := httptest.NewServer(serve.NewRegistry(store, nil, log.New(io.Discard, "", 0)))
	defer server.Close()
	host, dir := strings.TrimPrefix(server.URL, "http://"), t.TempDir()
	regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"})
	key, public := secret(t, "k")
	want := newMachine(t, &records.Repository{Name: host + "/records", Write: true, Key: key}).must(t, dir, "amd64", host+"/app:v1")
	for _, tag := range []string{"/app:v2", "/another:v1"} {
		m := newMachine(t, &records.Repository{Name: host + "/records", Require: true, Trust: []ed25519.PublicKey{public}})
		if got := m.must(t, dir, "amd64", host+tag); got.Digest != want.Digest || !got.Images[0].Recalled || m.warnings.Len() > 0 {
			t.Errorf("%s: %s, want %s; %s", tag, got.Digest, want.Digest, m.warnings)
		}
	}
}
