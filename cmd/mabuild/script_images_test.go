package main

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/platform"
)

type scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string)

// withImages adds the commands of scripts that make images of every kind.
func withImages(commands scriptCommands) scriptCommands {
	maps.Copy(commands, scriptCommands{
		"image": pushImage, "rootfs": pushRoot, "hostile": pushHostile, "sbom": readSBOM, "buildkit": pushBuildKit, "removechild": removeChild, "attested": pushAttested, "beside": pushBeside, "answer": answer,
		"refer": pushReferrer, "attach": attach, "uncosign": removeCosign, "cosign": pushCosign, "remove": removeRef, "children": children,
	})
	return commands
}

// pushImage: image REF PLATFORM [docker] publishes an image whose config has just
// what is written; PLATFORM may be none.
func pushImage(ts *testscript.TestScript, _ bool, args []string) {
	family := types.OCIManifestSchema1
	if len(args) > 2 {
		family = types.DockerManifestSchema2
	}
	ts.Check(remote.Write(reference(ts, args[0]), platformImage(ts, args[1], family)))
}

// platformImage makes the same image of two layers for the same text.
func platformImage(ts *testscript.TestScript, text string, family types.MediaType) v1.Image {
	layers := types.DockerLayer
	if family == types.OCIManifestSchema1 {
		layers = types.OCILayer
	}
	img := mutate.MediaType(empty.Image, family)
	config := types.DockerConfigJSON
	if family == types.OCIManifestSchema1 {
		config = types.OCIConfigJSON
	}
	img = mutate.ConfigMediaType(img, config)
	for _, n := range []string{"one", "two"} {
		l, err := random.Layer(512, layers, random.WithSource(source(text+n)))
		ts.Check(err)
		img, err = mutate.AppendLayers(img, l)
		ts.Check(err)
	}
	file, err := img.ConfigFile()
	ts.Check(err)
	file = file.DeepCopy()
	if text != "none" {
		p, err := platform.Declared(text)
		ts.Check(err)
		file.OS, file.Architecture, file.Variant, file.OSVersion, file.OSFeatures = p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures
	} else {
		file.OS, file.Architecture = "", ""
	}
	file.Config = v1.Config{Entrypoint: []string{"/app", "serve"}, User: "65532", Env: []string{"PATH=/bin", "NOTE=a\x1b[31mb"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}}
	img, err = mutate.ConfigFile(img, file)
	ts.Check(err)
	if family == types.OCIManifestSchema1 {
		img = mutate.Annotations(img, map[string]string{"org.opencontainers.image.base.name": "example.com/base:v1"}).(v1.Image)
	}
	return img
}

// pushRoot: rootfs REF DIR PLATFORM… publishes an index of an image for each
// platform whose only layer is what DIR holds.
func pushRoot(ts *testscript.TestScript, _ bool, args []string) {
	pushTar(ts, args, func(w *tar.Writer) { ts.Check(w.AddFS(os.DirFS(ts.MkAbs(args[1])))) })
}

// pushHostile: hostile REF WHAT PLATFORM… publishes an index of images whose layer has
// a name of 1 MB, or a million packages.
func pushHostile(ts *testscript.TestScript, _ bool, args []string) {
	pushTar(ts, args, func(w *tar.Writer) {
		if args[1] == "names" {
			ts.Check(w.WriteHeader(&tar.Header{Name: strings.Repeat("x", 1_000_000), Typeflag: tar.TypeReg}))
			return
		}
		text := strings.Repeat("Package: a\nVersion: 1\n\n", 1_000_000)
		ts.Check(w.WriteHeader(&tar.Header{Name: "var/lib/dpkg/status", Typeflag: tar.TypeReg, Size: int64(len(text))}))
		_, err := io.WriteString(w, text)
		ts.Check(err)
	})
}

// pushTar publishes an index of images for args[2:] with a layer that fill fills.
func pushTar(ts *testscript.TestScript, args []string, fill func(*tar.Writer)) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	fill(w)
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	var adds []mutate.IndexAddendum
	for _, text := range args[2:] {
		img, p := baseImage(ts, text)
		img, err := mutate.AppendLayers(img, layer)
		ts.Check(err)
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	ts.Check(remote.WriteIndex(reference(ts, args[0]), mutate.AppendManifests(empty.Index, adds...)))
}

// pushAttested: attested REF PLATFORM… publishes an index as BuildKit makes it:
// each image with an attestation of an SBOM and provenance.
func pushAttested(ts *testscript.TestScript, _ bool, args []string) {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, text := range args[1:] {
		img := platformImage(ts, text, types.OCIManifestSchema1)
		digest, err := img.Digest()
		ts.Check(err)
		file, err := img.ConfigFile()
		ts.Check(err)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: file.Platform()}})
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: attestation(ts, text), Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.String()},
		}})
	}
	ts.Check(remote.WriteIndex(reference(ts, args[0]), idx))
}

// pushBeside: beside REF PLATFORM… publishes an index of an artifact and of an image for
// each platform.
func pushBeside(ts *testscript.TestScript, _ bool, args []string) {
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.example.chart.v1+json")
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: artifact})
	for _, text := range args[1:] {
		img := platformImage(ts, text, types.OCIManifestSchema1)
		file, err := img.ConfigFile()
		ts.Check(err)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: file.Platform()}})
	}
	ts.Check(remote.WriteIndex(reference(ts, args[0]), idx))
}

func attestation(ts *testscript.TestScript, text string) v1.Image {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, predicate := range []string{"https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"} {
		l, err := random.Layer(64, "application/vnd.in-toto+json", random.WithSource(source(text+predicate)))
		ts.Check(err)
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: "application/vnd.in-toto+json", Annotations: map[string]string{"in-toto.io/predicate-type": predicate}})
		ts.Check(err)
	}
	file, err := img.ConfigFile()
	ts.Check(err)
	file = file.DeepCopy()
	file.OS, file.Architecture = "unknown", "unknown"
	img, err = mutate.ConfigFile(img, file)
	ts.Check(err)
	return img
}

// answer: answer NAME METHOD PATH STATUS TYPE FILE makes the registry answer such requests
// with a file.
func answer(ts *testscript.TestScript, _ bool, args []string) {
	status := map[string]int{"200": 200, "404": 404}[args[3]]
	registries(ts)[args[0]].Inject(regtest.Fault{
		Method: args[1], Path: args[2], Status: status, Times: -1,
		Header: http.Header{"Content-Type": {args[4]}}, Body: ts.ReadFile(args[5]),
	})
}

// pushReferrer: refer REF TYPE… lists artifacts of these types as referrers of REF, under
// the fallback tag.
func pushReferrer(ts *testscript.TestScript, _ bool, args []string) {
	ref := reference(ts, args[0])
	d, err := remote.Head(ref)
	ts.Check(err)
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, kind := range args[1:] {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(kind)),
			Descriptor: v1.Descriptor{ArtifactType: kind},
		})
	}
	ts.Check(remote.WriteIndex(ref.Context().Tag(strings.Replace(d.Digest.String(), ":", "-", 1)), idx))
}

// pushCosign: cosign REF… signs with a tag, as cosign 2 does.
func pushCosign(ts *testscript.TestScript, _ bool, args []string) {
	for _, text := range args {
		ref := reference(ts, text)
		d, err := remote.Head(ref)
		ts.Check(err)
		ts.Check(remote.Write(ref.Context().Tag(strings.Replace(d.Digest.String(), ":", "-", 1)+".sig"), platformImage(ts, "none", types.OCIManifestSchema1)))
	}
}

// attach: attach REF TYPE… publishes artifacts of these types with the subject REF, and
// lists them if the registry does not.
func attach(ts *testscript.TestScript, _ bool, args []string) {
	ref := reference(ts, args[0])
	d, err := remote.Head(ref)
	ts.Check(err)
	for _, kind := range args[1:] {
		img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(kind))
		l, err := random.Layer(64, types.MediaType(kind), random.WithSource(source(d.Digest.String()+kind)))
		ts.Check(err)
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.MediaType(kind)})
		ts.Check(err)
		img = mutate.Subject(img, *d).(v1.Image)
		digest, err := img.Digest()
		ts.Check(err)
		ts.Check(remote.Write(ref.Context().Digest(digest.String()), img))
	}
}

// removeCosign: uncosign REF… deletes what cosign did.
func removeCosign(ts *testscript.TestScript, _ bool, args []string) {
	for _, text := range args {
		ref := reference(ts, text)
		d, err := remote.Head(ref)
		ts.Check(err)
		removeRef(ts, false, []string{ref.Context().Tag(strings.Replace(d.Digest.String(), ":", "-", 1) + ".sig").Name()})
	}
}

// removeRef: remove REF… deletes what REF names from the registry.
func removeRef(ts *testscript.TestScript, _ bool, args []string) {
	for _, text := range args {
		ref := reference(ts, text)
		d, err := remote.Head(ref)
		ts.Check(err)
		digest, err := name.NewDigest(ref.Context().Name()+"@"+d.Digest.String(), name.Insecure)
		ts.Check(err)
		ts.Check(remote.Delete(digest))
	}
}

// children: children REF PLATFORM… checks an index with attestations, whose layers
// go-containerregistry cannot read: each entry exists with all its blobs.
func children(ts *testscript.TestScript, _ bool, args []string) {
	index, err := remote.Index(reference(ts, args[0]))
	ts.Check(err)
	im, err := index.IndexManifest()
	ts.Check(err)
	var got []string
	for _, d := range im.Manifests {
		got = append(got, platform.Key(platform.FromV1(d.Platform)))
		img, err := index.Image(d.Digest)
		ts.Check(err)
		layers, err := img.Layers()
		ts.Check(err)
		for _, l := range layers {
			r, err := l.Compressed()
			ts.Check(err)
			_, err = io.Copy(io.Discard, r)
			ts.Check(err)
			ts.Check(r.Close())
		}
		_, err = img.RawConfigFile()
		ts.Check(err)
	}
	if !slices.Equal(got, args[1:]) {
		ts.Fatalf("%s has %v, want %v", args[0], got, args[1:])
	}
}
