package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
)

// odd starts a registry that has x under odd:v1, in a directory with a program.
func odd(t *testing.T, make func(x *oddIndex) fields) *bench {
	t.Helper()
	b := &bench{t: t, r: regtest.Start(t, regtest.Options{}), x: &oddIndex{}}
	astray(t)
	t.Chdir("ok")
	b.x.root = make(b.x)
	must(t, b.x.Put(b.r, "odd", "v1", b.x.root))
	b.ref, b.out = b.r.Host+"/odd:v1", b.r.Host+"/out:v1"
	return b
}

// want runs a command, checks its exit code, and returns its output.
func (b *bench) want(code int, args ...string) string {
	b.t.Helper()
	out, got := b.mabuild(args...)
	if got != code {
		b.t.Errorf("%v ends with %d, want %d", args, got, code)
	}
	return out
}

// An artifact that is not in an index is copied whatever platforms are selected, and does
// not affect other entries of the file.
func TestMirrorAnArtifactWithPlatforms(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields { return x.artifact("a") })
	b.want(0, "mirror", b.ref, b.out, "--platforms", "linux/amd64", "--dry-run")
	b.want(0, "mirror", b.ref, b.out, "--platforms", "linux/amd64")
	if digest := strings.TrimSpace(b.want(0, "inspect", "--digest", b.out)); digest != b.x.root.Digest() {
		t.Errorf("%s for %s", digest, b.x.root.Digest())
	}
	more := &oddIndex{}
	must(t, more.Put(b.r, "other", "v1", more.Index(on(more.image("b", "linux/amd64"), "linux/amd64"))))
	file := "platforms: [linux/amd64]\nentries:\n"
	for _, name := range []string{"odd", "other"} {
		file += fmt.Sprintf("- {name: %s, source: %s, target: %s}\n", name, b.r.Host+"/"+name+":v1", b.r.Host+"/file/"+name+":v1")
	}
	must(t, os.WriteFile("mirror.yaml", []byte(file), 0o600))
	b.want(0, "mirror", "-f", "mirror.yaml")
	for _, name := range []string{"odd", "other"} {
		b.want(0, "inspect", b.r.Host+"/file/"+name+":v1")
	}
}

// A config without a platform can be a base if an index has its platform. Without an index
// it is an error with a hint.
func TestBuildOnAConfigWithoutPlatform(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields { return x.image("a", "") })
	b.want(2, "build", ".", "--platforms", "linux/amd64", "--base", b.ref, "-o", "oci:alone")
	b.want(0, "manifest", "create", b.out, b.ref+"=linux/amd64")
	b.want(0, "mirror", b.out, "oci:base:v1")
	for _, base := range []string{b.out, "oci:base:v1"} {
		b.want(0, "build", ".", "--platforms", "linux/amd64", "--base", base, "-o", "oci:built:v1")
		if list := b.want(0, "inspect", "--require", "linux/amd64", "oci:built:v1"); !strings.Contains(list, "linux/amd64") {
			t.Errorf("%s: %s", base, list)
		}
	}
}

// An artifact with a platform, as SOCI's converters list it first, is not an image of that
// platform: it neither collides with the image nor stands in for it.
func TestArtifactWithAPlatform(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(on(x.artifact("a"), "linux/amd64").With("artifactType", "application/vnd.amazon.soci.index.v2+json"), on(x.image("b", "linux/amd64"), "linux/amd64"))
	})
	for _, c := range []struct{ want, args string }{
		{"same", "mirror REF OUT --platforms linux/amd64"},
		{"amd64:b", "manifest create OUT REF --select linux/amd64"},
		{"amd64:b* amd64:a", "manifest annotate REF --tag OUT --annotation linux/amd64:set=yes"},
		{"exit 2", "manifest remove REF --tag OUT linux/arm64"},
		{"amd64:a", "manifest remove REF --tag OUT linux/amd64"},
	} {
		args := strings.Fields(strings.NewReplacer("REF", b.ref, "OUT", b.out).Replace(c.args))
		if got := b.made(b.out, args...); got != c.want {
			t.Errorf("%s: %s, want %s", c.args, got, c.want)
		}
	}
	if got := b.based("linux/amd64"); got != "amd64:b" {
		t.Errorf("built on %s", got)
	}
}

// Every platform that `platforms IMAGE` lists can be built on that base, alone and with all
// others.
func TestPlatformsPromisesWhatBuildKeeps(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(x.image("a", "linux/amd64"), x.named("i", x.Index(on(x.image("b", "linux/arm64"), "linux/arm64"))), on(x.image("c", "linux/s390x"), "linux/"), x.image("d", ""))
	})
	var promised []string
	for line := range strings.Lines(b.want(0, "platforms", b.ref)) {
		promised = append(promised, strings.Fields(line)[0])
	}
	if want := []string{"linux/amd64", "linux/arm64", "linux/s390x"}; !slices.Equal(promised, want) {
		t.Errorf("%v, want %v", promised, want)
	}
	for _, p := range append(promised, "all") {
		b.want(0, "build", ".", "--platforms", p, "--base", b.ref, "-o", "oci:"+t.TempDir())
	}
	for _, nothing := range []func(x *oddIndex) fields{
		func(x *oddIndex) fields { return x.Index(x.image("d", "")) },
		func(x *oddIndex) fields { return x.Index(x.artifact("a")) },
		func(x *oddIndex) fields { return x.Index() },
	} {
		x := &oddIndex{}
		must(t, x.Put(b.r, "nothing", "v1", nothing(x)))
		b.want(2, "platforms", b.r.Host+"/nothing:v1")
		b.want(2, "build", ".", "--platforms", "all", "--base", b.r.Host+"/nothing:v1", "-o", "oci:"+t.TempDir())
	}
}

// A missing image of a base does not prevent builds for other platforms, as long as its
// platform is unknown.
func TestBaseBesideWhatIsGone(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(x.image("a", "linux/s390x"), on(x.image("b", "linux/amd64"), "linux/amd64"))
	})
	for digest, letter := range b.x.letters {
		if letter == "a" {
			must(t, b.r.Delete("odd/manifests/"+digest))
		}
	}
	if list := b.want(0, "platforms", b.ref); !strings.HasPrefix(list, "linux/amd64 ") {
		t.Error(list)
	}
	if list := b.want(0, "inspect", b.ref); !strings.Contains(list, "(unknown)") {
		t.Error(list)
	}
	b.want(0, "build", ".", "--platforms", "linux/amd64", "--base", b.ref, "-o", "oci:built")
}

// A Docker manifest list to which an OCI image is added becomes an OCI index, with a
// warning. Otherwise it stays a Docker manifest list.
func TestDockerListThatIsEdited(t *testing.T) {
	image := func(x *oddIndex, arch string) fields {
		config := x.Blob("application/vnd.docker.container.image.v1+json", []byte(`{"os":"linux","architecture":"`+arch+`"}`))
		return on(x.named(arch, x.Manifest(fields{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config, "layers": []fields{}})), "linux/"+arch)
	}
	b := odd(t, func(x *oddIndex) fields {
		return x.Manifest(fields{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "manifests": []fields{image(x, "amd64"), image(x, "arm64")}})
	})
	more := &oddIndex{}
	must(t, more.Put(b.r, "extra", "v1", more.image("e", "linux/s390x")))
	for args, want := range map[string]string{"remove " + b.ref + " linux/arm64": "docker.distribution.manifest.list.v2", "add " + b.ref + " " + b.r.Host + "/extra:v1": "oci.image.index.v1"} {
		b.want(0, append(append([]string{"manifest"}, strings.Fields(args)...), "--tag", b.out)...)
		if raw := b.want(0, "inspect", "--raw", b.out); !strings.Contains(raw, `"mediaType":"application/vnd.`+want+`+json","manifests"`) {
			t.Errorf("%s: %s", args, raw)
		}
	}
}

// A WebAssembly module runs on wasip1/wasm, alone as in an index.
func TestWasmModule(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields { return x.module("a") })
	must(t, b.x.Put(b.r, "index", "v1", b.x.Index(on(b.x.root, "wasip1/wasm"))))
	for _, ref := range []string{b.ref, b.r.Host + "/index:v1"} {
		b.want(0, "inspect", "--require", "wasip1/wasm", ref)
		b.want(1, "inspect", "--require", "linux/amd64", ref)
		b.want(0, "mirror", ref, b.out, "--platforms", "wasip1/wasm")
		b.want(2, "platforms", ref) // no file system to build on
	}
}

// An index that is edited stays what it is: an OCI index of Docker images stays OCI, with
// its artifactType, subject and annotations.
func TestEditsKeepWhatTheIndexIs(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		subject := x.image("s", "linux/amd64")
		var entries []fields
		for _, arch := range []string{"amd64", "arm64"} {
			config := x.Blob("application/vnd.docker.container.image.v1+json", []byte(`{"os":"linux","architecture":"`+arch+`"}`))
			entries = append(entries, on(x.named(arch, x.Manifest(fields{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config, "layers": []fields{}})), "linux/"+arch))
		}
		return x.Manifest(fields{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
			"artifactType": "application/vnd.example.bundle", "subject": subject, "annotations": fields{"k": "v"},
		})
	})
	more := &oddIndex{}
	config := more.Blob("application/vnd.docker.container.image.v1+json", []byte(`{"os":"linux","architecture":"s390x"}`))
	must(t, more.Put(b.r, "extra", "v1", more.Manifest(fields{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config, "layers": []fields{}})))
	for _, edit := range [][]string{
		{"remove", b.ref, "linux/arm64"},
		{"add", b.ref, b.r.Host + "/extra:v1"},
		{"annotate", b.ref, "--annotation", "linux/amd64:set=yes"},
	} {
		b.want(0, append(append([]string{"manifest"}, edit...), "--tag", b.out)...)
		var im v1.IndexManifest
		must(t, json.Unmarshal([]byte(b.want(0, "inspect", "--raw", b.out)), &im))
		if im.MediaType != "application/vnd.oci.image.index.v1+json" || im.ArtifactType != "application/vnd.example.bundle" || im.Subject == nil || im.Annotations["k"] != "v" {
			t.Errorf("%s: %+v", edit[0], im)
		}
	}
}

// An unusual spelling of a platform is noted. Runtimes such as podman compare the spelling,
// so such an image does not meet a requirement.
func TestPlatformsWrittenOtherwise(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/x86_64"), on(x.image("b", "linux/arm64"), "linux/aarch64/8"), on(x.image("c", "linux/arm"), "linux/arm/v7"))
	})
	list := b.want(0, "inspect", "--require", "linux/arm/v7", b.ref)
	b.want(1, "inspect", "--require", "linux/amd64", b.ref)
	b.want(1, "inspect", "--require", "linux/arm64", b.ref)
	for _, want := range []string{"written linux/x86_64", "written linux/aarch64/8"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in %s", want, list)
		}
	}
	if strings.Count(list, "written") != 2 {
		t.Errorf("a canonical platform is noted: %s", list)
	}
	report := b.want(0, "inspect", "--json", b.ref)
	if !strings.Contains(report, `"platform": "linux/amd64"`) || !strings.Contains(report, `"written": "linux/x86_64"`) {
		t.Error(report)
	}
}

// inspect prints the differences between images of one platform, and the fields of the
// index.
func TestInspectTellsDoublesApart(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		z := on(x.image("c", "linux/amd64"), "linux/amd64").With("annotations", fields{"compression": "zstd"})
		return x.Manifest(fields{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "artifactType": "application/vnd.example.bundle", "subject": x.image("s", "linux/amd64"),
			"manifests": []fields{on(x.image("a", "linux/amd64"), "linux/amd64"), z, on(x.image("b", "linux/arm64"), "linux/arm64")},
		})
	})
	list := b.want(0, "inspect", b.ref)
	for _, want := range []string{"1 of 2 for its platform", "2 of 2 for its platform: compression=zstd"} {
		if strings.Count(list, want) != 1 {
			t.Errorf("no %q in %s", want, list)
		}
	}
	if strings.Count(list, "for its platform") != 2 || strings.Contains(list, "An artifact, not") {
		t.Error(list)
	}
	report := b.want(0, "inspect", "--json", b.ref)
	for _, want := range []string{`"artifactType": "application/vnd.example.bundle"`, `"subject": "sha256:`, `"double": "2 of 2 for its platform: compression=zstd"`} {
		if !strings.Contains(report, want) {
			t.Errorf("no %s in %s", want, report)
		}
	}
}

// Only entries that their descriptor does not classify are read: a usual index needs one
// request, and images of the same platform need their manifests.
func TestWhatIsReadOfAnIndex(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	})
	tally := func(want map[string]int, args ...string) {
		t.Helper()
		b.r.Reset()
		b.want(0, append(args, "--cache", t.TempDir())...)
		if got := b.r.Tally(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: %v, want %v", args, got, want)
		}
	}
	tally(map[string]int{"GET manifest": 1}, "inspect", b.ref)
	tally(map[string]int{"GET manifest": 1}, "platforms", b.ref)
	x := &oddIndex{}
	must(t, x.Put(b.r, "doubles", "v1", x.Index(on(x.image("a", "linux/amd64"), "linux/amd64"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))))
	tally(map[string]int{"GET manifest": 3}, "inspect", b.r.Host+"/doubles:v1")
	must(t, x.Put(b.r, "silent", "v1", x.Index(x.image("a", "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))))
	tally(map[string]int{"GET manifest": 2, "GET blob": 1}, "inspect", b.r.Host+"/silent:v1")
}

// Entries that are neither images nor indexes are copied unchanged.
func TestChildrenThatAreBytes(t *testing.T) {
	x := &oddIndex{}
	thing := x.Blob("application/vnd.example.thing", []byte("not even JSON"))
	x.root = x.Index(thing, on(x.image("a", "linux/amd64"), "linux/amd64"))
	astray(t)
	b := &bench{t: t, x: x, ref: "oci:layout:v1", out: "oci:out:v1"}
	x.named("t", thing)
	must(t, x.Layout("layout", "v1", x.root))
	b.want(0, "mirror", "oci:layout:v1", "oci-archive:there.tar:v1")
	b.want(0, "mirror", "oci-archive:there.tar:v1", "oci:back:v1")
	raw, err := os.ReadFile(filepath.Join("back", "blobs", "sha256", strings.TrimPrefix(thing.Digest(), "sha256:")))
	if err != nil || string(raw) != "not even JSON" {
		t.Errorf("%q, %v", raw, err)
	}
	if got := b.made(b.out, "mirror", "oci:layout:v1", b.out, "--platforms", "linux/amd64"); got != "same" {
		t.Errorf("cut down: %s", got)
	}
	if got := b.made("oci:annotated:v1", "manifest", "annotate", "oci:back:v1", "--annotation", "linux/amd64:set=yes", "--tag", "oci:annotated:v1"); got != "amd64:a* t" {
		t.Errorf("annotated: %s", got)
	}
}

// A Docker archive gets the image that inspect shows, also from a nested index.
func TestDockerArchiveOfAnOddIndex(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields {
		return x.Index(on(x.artifact("a"), "linux/amd64").With("artifactType", "application/vnd.example.thing"), x.named("i", x.Index(x.image("b", "linux/amd64"))))
	})
	b.want(0, "inspect", "--platform", "linux/amd64", b.ref)
	b.want(0, "manifest", "create", "docker-archive:out.tar:app:v1,platform=linux/amd64", b.ref, "--also-tag", b.out)
	b.want(0, "inspect", "--require", "linux/amd64", "docker-archive:out.tar")
}

// The tags command prints only valid tags.
func TestTagsPrintsOnlyTags(t *testing.T) {
	b := odd(t, func(x *oddIndex) fields { return x.artifact("a") })
	b.r.Inject(regtest.Fault{Method: "GET", Path: "/tags/list", Status: 200, Times: -1, Body: `{"name":"odd","tags":["v2","sha256:4f53","","v1"]}`})
	if got := b.want(0, "tags", b.r.Host+"/odd"); got != "v1\nv2\n" {
		t.Errorf("got %q", got)
	}
}
