package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/platform"
)

type fields = regtest.JSON

// An oddIndex is a fixture whose entries have letters, in the order of the index.
type oddIndex struct {
	regtest.Fixture
	letters map[string]string // by digest
	root    fields
}

// image adds an image for a platform as its config writes it: linux/amd64; "" has none.
func (x *oddIndex) image(letter, config string) fields {
	own := fields{}
	if os, arch, ok := strings.Cut(config, "/"); ok {
		own["os"], own["architecture"] = os, arch
	}
	return x.named(letter, x.Image(own, letter))
}

// artifact adds one that only its manifest tells from an image.
func (x *oddIndex) artifact(letter string) fields {
	return x.named(letter, x.Artifact("application/vnd.example.thing", true, letter))
}

// module adds a WebAssembly module in the CNCF's layout.
func (x *oddIndex) module(letter string) fields {
	layer := x.Blob("application/wasm", []byte(letter))
	config := x.Blob("application/vnd.wasm.config.v0+json", []byte(`{"os":"wasip1","architecture":"wasm"}`))
	return x.named(letter, x.Manifest(fields{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []fields{layer}}))
}

func (x *oddIndex) named(letter string, d fields) fields {
	if x.letters == nil {
		x.letters = map[string]string{}
	}
	x.letters[d.Digest()] = letter
	return d
}

// on sets the platform of an entry: os/architecture[/variant], or only one part.
func on(d fields, text string, more ...string) fields {
	p := fields{}
	for i, word := range strings.Split(text, "/") {
		if word != "" {
			p[[]string{"os", "architecture", "variant"}[i]] = word
		}
	}
	for _, kv := range more {
		key, value, _ := strings.Cut(kv, "=")
		if p[key] = value; key == "os.features" {
			p[key] = []string{value}
		}
	}
	return d.With("platform", p)
}

// attests makes an entry an attestation of another.
func attests(d fields, subject string) fields {
	return on(d, "unknown/unknown").With("annotations", fields{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject})
}

// oddIndexes are unusual indexes that registries have. All but the last ones have an image
// for linux/arm64, z, and an unusual entry.
var oddIndexes = []struct {
	name string
	make func(x *oddIndex) fields
}{
	{"no platform", func(x *oddIndex) fields {
		return x.Index(x.image("a", "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"half empty", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"not canonical", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/x86_64"), on(x.image("z", "linux/arm64"), "Linux/ARM64"))
	}},
	{"feature", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/amd64", "os.features=x"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"feature alone", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/amd64", "os.features=x"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"version", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/amd64", "os.version=6.1"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"artifact with type", func(x *oddIndex) fields {
		return x.Index(on(x.artifact("a"), "linux/amd64").With("artifactType", "application/vnd.example.thing"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"artifact without type", func(x *oddIndex) fields {
		return x.Index(x.artifact("a"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"artifact with platform", func(x *oddIndex) fields {
		return x.Index(on(x.artifact("a"), "linux/amd64"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"doubles", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", "linux/amd64"), "linux/amd64"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"nested", func(x *oddIndex) fields {
		return x.Index(x.named("i", x.Index(on(x.image("a", "linux/amd64"), "linux/amd64"))), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"unknown type", func(x *oddIndex) fields {
		return x.Index(on(x.artifact("a"), "linux/amd64").With("mediaType", "application/vnd.example.unknown.v1+json"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"config without platform", func(x *oddIndex) fields {
		return x.Index(on(x.image("a", ""), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"no platform anywhere", func(x *oddIndex) fields {
		return x.Index(x.image("a", ""), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"attestation", func(x *oddIndex) fields {
		b := on(x.image("b", "linux/amd64"), "linux/amd64")
		return x.Index(attests(x.artifact("a"), b.Digest()), b, attests(x.artifact("c"), "sha256:"+strings.Repeat("0", 64)), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"module", func(x *oddIndex) fields {
		return x.Index(on(x.module("a"), "wasip1/wasm"), on(x.image("b", "linux/amd64"), "linux/amd64"), on(x.image("z", "linux/arm64"), "linux/arm64"))
	}},
	{"artifact alone", func(x *oddIndex) fields { return x.artifact("a") }},
	{"config without platform alone", func(x *oddIndex) fields { return x.image("a", "") }},
	{"half a config alone", func(x *oddIndex) fields { return x.named("a", x.Image(fields{"architecture": "amd64"}, "a")) }},
	{"module alone", func(x *oddIndex) fields { return x.module("a") }},
}

// A bench runs mabuild and translates digests in its output to the letters of an index.
type bench struct {
	t    *testing.T
	r    *regtest.Registry
	x    *oddIndex
	fits map[string]string // letters of further digests
	ref  string            // of the index
	out  string            // the reference of what commands write, in a registry
	same string            // the target of a mirror, a place of the same form

	builds bool // also run the build, not only --dry-run
}

// mabuild runs a command and returns what it printed, "" where it failed, and the exit
// code.
func (b *bench) mabuild(args ...string) (string, int) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, strings.NewReader(""), &stdout, &stderr)
	if strings.Contains(stderr.String(), "internal error") {
		b.t.Errorf("%v: %s", args, &stderr)
	}
	b.t.Logf("%v: %d\n%s%s", args, code, &stdout, &stderr)
	return stdout.String(), code
}

// letter names a digest.
func (b *bench) letter(digest string) string {
	if l, ok := b.x.letters[digest]; ok {
		return l
	}
	if l, ok := b.fits[digest]; ok {
		return l
	}
	return "?" + digest
}

// made lists the entries of the index that a command wrote to ref as platform:letter. An
// asterisk marks the annotation that was set. An image without an index is its letter.
func (b *bench) made(ref string, args ...string) string {
	b.t.Helper()
	if _, code := b.mabuild(args...); code != 0 {
		return fmt.Sprint("exit ", code)
	}
	raw, code := b.mabuild("inspect", "--raw", ref)
	if code != 0 {
		return fmt.Sprint("unread ", code)
	}
	if digest.FromString(raw).String() == b.x.root.Digest() {
		return "same"
	}
	var im struct {
		Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal([]byte(raw), &im); err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, d := range im.Manifests {
		text := b.letter(d.Digest.String())
		if d.Platform != nil {
			text = strings.TrimPrefix(platform.Key(*d.Platform), "linux/") + ":" + text
		}
		if d.Annotations["set"] != "" {
			text += "*"
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

var (
	planned   = regexp.MustCompile(`(?m)^  (\S+) +on .*@(sha256:[0-9a-f]{64})$`)
	listed    = regexp.MustCompile(`(?m)^   (\S.*?) +(sha256:[0-9a-f]{64})`)
	otherwise = regexp.MustCompile(`(?m)^ \* Not an image: (sha256:[0-9a-f]{64})`)
	nowhere   = regexp.MustCompile(`(?m)^ \* An artifact, not an image`)
)

// pairs lists the matches of a pattern as platform:letter.
func (b *bench) pairs(pattern *regexp.Regexp, text string) (list []string) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		list = append(list, strings.TrimPrefix(m[1], "linux/")+":"+b.letter(m[2]))
	}
	return list
}

// based returns the base image of each platform in a build. In a registry it also runs the
// build; elsewhere the same content is read.
func (b *bench) based(platforms string) string {
	b.t.Helper()
	text, code := b.mabuild("build", ".", "--platforms", platforms, "--base", b.ref, "-o", "oci:"+b.t.TempDir(), "--dry-run")
	if b.builds {
		if _, built := b.mabuild("build", ".", "--platforms", platforms, "--base", b.ref, "-o", "oci:"+b.t.TempDir()); built != code {
			b.t.Errorf("--dry-run ends with %d, the build with %d", code, built)
		}
	}
	if code != 0 {
		return fmt.Sprint("exit ", code)
	}
	return strings.Join(b.pairs(planned, text), " ")
}

// verbs are the columns.
var verbs = []struct {
	name string
	run  func(b *bench) string
}{
	{"platforms", func(b *bench) string {
		text, code := b.mabuild("platforms", b.ref)
		if code != 0 {
			return fmt.Sprint("exit ", code)
		}
		var list []string
		for line := range strings.Lines(text) {
			list = append(list, strings.TrimPrefix(strings.Fields(line)[0], "linux/"))
		}
		return strings.Join(list, " ")
	}},
	{"build --base", func(b *bench) string { return b.based("linux/amd64") }},
	{"--platforms all", func(b *bench) string { return b.based("all") }},
	{"inspect", func(b *bench) string {
		text, code := b.mabuild("inspect", b.ref)
		if code != 0 {
			return fmt.Sprint("exit ", code)
		}
		list := b.pairs(listed, text)
		for _, m := range otherwise.FindAllStringSubmatch(text, -1) {
			list = append(list, "~"+b.letter(m[1]))
		}
		if nowhere.MatchString(text) {
			list = append(list, "artifact")
		}
		return strings.Join(list, " ")
	}},
	{"--require", func(b *bench) string {
		_, code := b.mabuild("inspect", "--require", "linux/amd64", b.ref)
		return fmt.Sprint("exit ", code)
	}},
	{"create", func(b *bench) string {
		return b.made(b.out, "manifest", "create", b.out, b.ref, "--annotation", "set=yes")
	}},
	{"--select", func(b *bench) string {
		return b.made(b.out, "manifest", "create", b.out, b.ref, "--select", "linux/amd64")
	}},
	{"add", func(b *bench) string {
		return b.made(b.out, "manifest", "add", b.ref, b.r.Host+"/extra:v1", "--tag", b.out)
	}},
	{"remove", func(b *bench) string {
		return b.made(b.out, "manifest", "remove", b.ref, "linux/amd64", "--tag", b.out)
	}},
	{"annotate", func(b *bench) string {
		return b.made(b.out, "manifest", "annotate", b.ref, "--annotation", "linux/amd64:set=yes", "--tag", b.out)
	}},
	{"mirror", func(b *bench) string { return b.made(b.same, "mirror", b.ref, b.same) }},
	{"mirror --platforms", func(b *bench) string { return b.made(b.same, "mirror", b.ref, b.same, "--platforms", "linux/amd64") }},
}

// All commands agree which entries of an index are images and of which platform, in a
// registry and in every place.
func TestOneAnswerForAllVerbs(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	astray(t)
	t.Chdir("ok")
	more := &oddIndex{}
	extra := more.image("e", "linux/s390x")
	must(t, more.Put(r, "extra", "v1", extra))
	for row, odd := range oddIndexes {
		x := &oddIndex{}
		x.root = odd.make(x)
		dir, repo := t.TempDir(), fmt.Sprintf("odd%d", row)
		layout, archive := filepath.Join(dir, "layout"), filepath.Join(dir, "archive.tar")
		must(t, x.Put(r, repo, "v1", x.root))
		must(t, x.Layout(layout, "v1", x.root))
		must(t, x.Archive(archive, "v1", x.root))
		for place, ref := range map[string]string{"registry": r.Host + "/" + repo + ":v1", "layout": "oci:" + layout + ":v1", "archive": "oci-archive:" + archive + ":v1"} {
			for col, verb := range verbs {
				t.Run(odd.name+"/"+verb.name+"/"+place, func(t *testing.T) {
					t.Parallel()
					b := &bench{t: t, r: r, x: x, ref: ref, fits: more.letters, out: fmt.Sprintf("%s/out%d:%d-%s", r.Host, row, col, place)}
					switch place {
					case "registry":
						b.same, b.builds = b.out, true
					case "layout":
						b.same = "oci:" + filepath.Join(t.TempDir(), "out") + ":v1"
					default:
						b.same = "oci-archive:" + filepath.Join(t.TempDir(), "out.tar") + ":v1"
					}
					got := verb.run(b)
					if want := outcomes[odd.name][verb.name]; want == "" || got != want {
						t.Errorf("%q, want %q", got, want)
					}
				})
			}
		}
	}
	if len(outcomes) != len(oddIndexes) {
		t.Errorf("%d rows of outcomes for %d indexes", len(outcomes), len(oddIndexes))
	}
}

// outcomes has the result of each command. Entries are letters in the order of the index: a
// is the unusual entry, or the first of several, b the image for linux/amd64, c a further
// one, z the image for linux/arm64 and e an added one. platform:letter is an image that is
// listed, chosen or written, without linux/; * means that it has the annotation that was
// set; ~letter is listed but not as an image; "same" is the source, byte for byte.
//
// Every cell applies to a registry, a layout and an archive.
var outcomes = map[string]map[string]string{
	"no platform": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:a arm64:z",
		"--select":           "amd64:a",
		"add":                "amd64:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a",
	},
	"half empty": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:a arm64:z",
		"--select":           "amd64:a",
		"add":                "amd64:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a",
	},
	"not canonical": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a arm64:z",
		"--require":          "exit 1",
		"create":             "amd64:a arm64:z",
		"--select":           "amd64:a",
		"add":                "amd64:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a",
	},
	"feature": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:+x:a amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:b amd64:+x:a arm64:z",
		"--select":           "amd64:b",
		"add":                "amd64:b amd64:+x:a arm64:z s390x:e",
		"remove":             "amd64:+x:a arm64:z",
		"annotate":           "amd64:b* amd64:+x:a arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:b",
	},
	"feature alone": {
		"platforms":          "amd64:+x arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:+x:a arm64:z",
		"inspect":            "amd64:+x:a arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:+x:a arm64:z",
		"--select":           "amd64:+x:a",
		"add":                "amd64:+x:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:+x:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:+x:a",
	},
	"version": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:6.1:a amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:b amd64:6.1:a arm64:z",
		"--select":           "amd64:b amd64:6.1:a",
		"add":                "amd64:b amd64:6.1:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:b* amd64:6.1:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:b amd64:6.1:a",
	},
	"artifact with type": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:b arm64:z ~a",
		"--require":          "exit 0",
		"create":             "amd64:b arm64:z",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e amd64:a",
		"remove":             "arm64:z amd64:a",
		"annotate":           "amd64:b* arm64:z amd64:a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b amd64:a",
	},
	"artifact without type": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:b arm64:z ~a",
		"--require":          "exit 0",
		"create":             "amd64:b arm64:z",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e a",
		"remove":             "arm64:z a",
		"annotate":           "amd64:b* arm64:z a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b",
	},
	"artifact with platform": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:b arm64:z ~a",
		"--require":          "exit 0",
		"create":             "amd64:b arm64:z",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e amd64:a",
		"remove":             "arm64:z amd64:a",
		"annotate":           "amd64:b* arm64:z amd64:a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b amd64:a",
	},
	"doubles": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:a amd64:b arm64:z",
		"--select":           "amd64:a amd64:b",
		"add":                "amd64:a amd64:b arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* amd64:b* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a amd64:b",
	},
	"nested": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:a arm64:z",
		"--select":           "amd64:a",
		"add":                "amd64:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a",
	},
	"unknown type": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:b arm64:z ~a",
		"--require":          "exit 0",
		"create":             "amd64:b arm64:z",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e amd64:a",
		"remove":             "arm64:z amd64:a",
		"annotate":           "amd64:b* arm64:z amd64:a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b amd64:a",
	},
	"config without platform": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:a",
		"--platforms all":    "amd64:a arm64:z",
		"inspect":            "amd64:a arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:a arm64:z",
		"--select":           "amd64:a",
		"add":                "amd64:a arm64:z s390x:e",
		"remove":             "arm64:z",
		"annotate":           "amd64:a* arm64:z",
		"mirror":             "same",
		"mirror --platforms": "amd64:a",
	},
	"no platform anywhere": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "(unknown):a amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "exit 2",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e a",
		"remove":             "arm64:z a",
		"annotate":           "amd64:b* arm64:z a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b",
	},
	"attestation": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:b unknown/unknown:a arm64:z",
		"--select":           "amd64:b unknown/unknown:a",
		"add":                "amd64:b unknown/unknown:a arm64:z s390x:e unknown/unknown:c",
		"remove":             "arm64:z unknown/unknown:c",
		"annotate":           "amd64:b* unknown/unknown:a arm64:z unknown/unknown:c",
		"mirror":             "same",
		"mirror --platforms": "amd64:b unknown/unknown:a unknown/unknown:c",
	},
	"module": {
		"platforms":          "amd64 arm64",
		"build --base":       "amd64:b",
		"--platforms all":    "amd64:b arm64:z",
		"inspect":            "wasip1/wasm:a amd64:b arm64:z",
		"--require":          "exit 0",
		"create":             "amd64:b arm64:z wasip1/wasm:a",
		"--select":           "amd64:b",
		"add":                "amd64:b arm64:z s390x:e wasip1/wasm:a",
		"remove":             "arm64:z wasip1/wasm:a",
		"annotate":           "amd64:b* arm64:z wasip1/wasm:a",
		"mirror":             "same",
		"mirror --platforms": "amd64:b",
	},
	"artifact alone": {
		"platforms":          "exit 2",
		"build --base":       "exit 2",
		"--platforms all":    "exit 2",
		"inspect":            "artifact",
		"--require":          "exit 1",
		"create":             "exit 2",
		"--select":           "exit 2",
		"add":                "exit 2",
		"remove":             "exit 2",
		"annotate":           "exit 2",
		"mirror":             "same",
		"mirror --platforms": "same",
	},
	"config without platform alone": {
		"platforms":          "exit 2",
		"build --base":       "exit 2",
		"--platforms all":    "exit 2",
		"inspect":            "(unknown):a",
		"--require":          "exit 1",
		"create":             "exit 2",
		"--select":           "exit 2",
		"add":                "exit 2",
		"remove":             "exit 2",
		"annotate":           "exit 2",
		"mirror":             "same",
		"mirror --platforms": "exit 2",
	},
	"half a config alone": {
		"platforms":          "exit 2",
		"build --base":       "exit 2",
		"--platforms all":    "exit 2",
		"inspect":            "/amd64:a",
		"--require":          "exit 1",
		"create":             "exit 2",
		"--select":           "exit 2",
		"add":                "exit 2",
		"remove":             "exit 2",
		"annotate":           "exit 2",
		"mirror":             "same",
		"mirror --platforms": "exit 2",
	},
	"module alone": {
		"platforms":          "exit 2",
		"build --base":       "exit 2",
		"--platforms all":    "exit 2",
		"inspect":            "wasip1/wasm:a",
		"--require":          "exit 1",
		"create":             "wasip1/wasm:a",
		"--select":           "exit 2",
		"add":                "exit 2",
		"remove":             "exit 2",
		"annotate":           "exit 2",
		"mirror":             "same",
		"mirror --platforms": "exit 2",
	},
}
