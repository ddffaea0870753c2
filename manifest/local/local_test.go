package local

import (
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// makeImage makes an OCI image for a platform with two layers of size bytes.
func makeImage(t testing.TB, platformText string, size int64) v1.Image {
	t.Helper()
	p, err := platform.Parse(platformText)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(size, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// makeIndex makes an index of images for platforms.
func makeIndex(t testing.TB, platforms ...string) v1.ImageIndex {
	t.Helper()
	var children []manifest.Child
	for _, text := range platforms {
		img := makeImage(t, text, 1<<10)
		d, err := manifest.Describe(img)
		if err != nil {
			t.Fatal(err)
		}
		p, err := platform.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		d.Platform = platform.ToV1(p)
		children = append(children, manifest.Child{Descriptor: d, Content: img})
	}
	idx, err := manifest.Index(children, nil)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

func digestOf(t testing.TB, c manifest.Content) v1.Hash {
	t.Helper()
	h, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// put stores c or ends the test.
func put(t testing.TB, s manifest.Sink, ref string, c manifest.Content) {
	t.Helper()
	if err := s.Put(t.Context(), ref, c); err != nil {
		t.Fatal(err)
	}
}

// hintOf returns the way out of err, empty for none.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	arm, err := platform.Parse("linux/arm/v7")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Place{
		"oci:dir":                       {Form: FormLayout, Path: "dir"},
		"oci:./a/b:v1":                  {Form: FormLayout, Path: "./a/b", Ref: "v1"},
		"oci:dir:app:v1":                {Form: FormLayout, Path: "dir", Ref: "app:v1"},
		"oci:dir@" + someDigest:         {Form: FormLayout, Path: "dir", Ref: "@" + someDigest},
		"oci:d@r/x":                     {Form: FormLayout, Path: "d@r/x"},
		"oci-archive:/tmp/a.tar:latest": {Form: FormArchive, Path: "/tmp/a.tar", Ref: "latest"},
		"docker-archive:a.tar":          {Form: FormDockerArchive, Path: "a.tar"},
		"docker-archive:a.tar,platform=linux/arm":        {Form: FormDockerArchive, Path: "a.tar", Platform: arm},
		"docker-archive:a.tar:b:c,platform=linux/arm/v7": {Form: FormDockerArchive, Path: "a.tar", Ref: "b:c", Platform: arm},
		"docker-daemon:":                   {Form: FormDockerDaemon},
		"docker-daemon:platform=linux/arm": {Form: FormDockerDaemon, Platform: arm},
		"containerd:":                      {Form: FormContainerd},
		"containerd:k8s.io":                {Form: FormContainerd, Path: "k8s.io"},
	} {
		got, err := Parse(text)
		if err != nil || got.String() != want.String() || got.Path != want.Path || got.Ref != want.Ref || got.Form != want.Form {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if _, err := got.Sink(); (err != nil) != strings.HasPrefix(want.Ref, "@") {
			t.Errorf("%s: as a sink: %v", text, err)
		}
		if _, err := got.Source(); (err == nil) != slices.Contains([]string{FormLayout, FormArchive, FormDockerArchive}, got.Form) {
			t.Errorf("%s: as a source: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "oci", "oci:", "oci::v1", "dir", "docker://alpine", "oci:dir@sha256:short", "oci:dir@sha256:../../x", "oci-archive:",
		"docker-archive:", "docker-archive:f,plattform=linux/arm", "docker-archive:f,platform=arm", "docker-archive:f@" + someDigest,
		"docker-daemon:app", "docker-daemon:platform=", "containerd:a/b", "containerd:--all", "ghcr.io/acme/app:v1",
	} {
		if p, err := Parse(text); err == nil || hintOf(err) == "" {
			t.Errorf("%q: %+v, %v, hint %q", text, p, err, hintOf(err))
		}
	}
}

// FuzzParse: what is parsed prints as something that means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"oci:d:n", "oci:d@" + someDigest, "docker-archive:f,platform=linux/arm", "containerd:x", "docker-daemon:platform=windows/amd64:10.0.17763"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again.String() != p.String() || again.Path != p.Path || again.Ref != p.Ref {
			t.Errorf("%q: %+v, then %+v, %v", s, p, again, err)
		}
	})
}
