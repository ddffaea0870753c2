package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mabuild/mabuild/manifest/platform"
)

// readSBOM: sbom REF PLATFORM TYPE FILE has go-containerregistry find what of this
// type refers to the platform's image, exactly one, check it and write the document
// to a file.
func readSBOM(ts *testscript.TestScript, _ bool, args []string) {
	artifact := artifactOf(ts, args[0], args[1], args[2])
	ts.Check(validate.Image(artifact, validate.Fast))
	layers, err := artifact.Layers()
	ts.Check(err)
	r, err := layers[0].Compressed()
	ts.Check(err)
	b, err := io.ReadAll(r)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), b, 0o644))
}

func artifactOf(ts *testscript.TestScript, ref, of, kind string) v1.Image {
	image := childOf(ts, ref, of)
	list, err := remote.Referrers(image, remote.WithFilter("artifactType", kind))
	ts.Check(err)
	lm, err := list.IndexManifest()
	ts.Check(err)
	if len(lm.Manifests) != 1 {
		ts.Fatalf("%d of type %s refer to %s of %s", len(lm.Manifests), kind, of, ref)
	}
	artifact, err := remote.Image(image.Context().Digest(lm.Manifests[0].Digest.String()))
	ts.Check(err)
	return artifact
}

// childOf returns a reference to the image for a platform of an index in a registry.
func childOf(ts *testscript.TestScript, ref, of string) name.Digest {
	from := reference(ts, ref)
	index, err := remote.Index(from)
	ts.Check(err)
	im, err := index.IndexManifest()
	ts.Check(err)
	for _, d := range im.Manifests {
		if platform.Key(platform.FromV1(d.Platform)) == of {
			return from.Context().Digest(d.Digest.String())
		}
	}
	ts.Fatalf("no %s in %s", of, ref)
	return name.Digest{}
}

// removeChild: removechild REF PLATFORM deletes the platform's image behind an index.
func removeChild(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(remote.Delete(childOf(ts, args[0], args[1])))
}

// pushBuildKit: buildkit REF PLATFORM PREDICATE FILE publishes an index of an image and of an
// attestation with one statement, whose predicate is the file, as BuildKit does.
func pushBuildKit(ts *testscript.TestScript, _ bool, args []string) {
	img := platformImage(ts, args[1], types.OCIManifestSchema1)
	d, err := partial.Descriptor(img)
	ts.Check(err)
	statement, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": args[2], "predicate": json.RawMessage(ts.ReadFile(args[3])),
		"subject": []any{map[string]any{"name": "_", "digest": map[string]string{d.Digest.Algorithm: d.Digest.Hex}}},
	})
	ts.Check(err)
	layer := static.NewLayer(statement, "application/vnd.in-toto+json")
	attestation, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: layer, MediaType: "application/vnd.in-toto+json", Annotations: map[string]string{"in-toto.io/predicate-type": args[2]},
	})
	ts.Check(err)
	of, err := platform.Parse(args[1])
	ts.Check(err)
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform.ToV1(of)}},
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{
				"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": d.Digest.String(),
			},
		}})
	ts.Check(remote.WriteIndex(reference(ts, args[0]), index))
}
