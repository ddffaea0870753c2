package main

import (
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
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
