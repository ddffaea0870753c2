package local

import (
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// makeImage returns an OCI image for a platform with two layers of size bytes.
func makeImage(t testing.TB, platformText string, size int64) v1.Image {
	t.Helper()
	return makeImageOf(t, regtest.Source(t), platformText, size)
}

// makeImageOf is makeImage with a source of random content.
func makeImageOf(t testing.TB, source rand.Source, platformText string, size int64) v1.Image {
	t.Helper()
	p, err := platform.Parse(platformText)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(size, 2, random.WithSource(source))
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

// makeIndex returns an index of images for the platforms.
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

// put stores c, or ends the test with the error.
func put(t testing.TB, s manifest.Sink, ref string, c manifest.Content) {
	t.Helper()
	if err := s.Put(t.Context(), ref, c); err != nil {
		t.Fatal(err)
	}
}

// hintOf returns the hint of err, or "".
func hintOf(err error) string { return hint.Of(err) }

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Parse accepts the documented syntax and nothing else, and an error has a hint.
func TestParse(t *testing.T) {
	arm, err := platform.Parse("linux/arm/v7")
	if err != nil {
		t.Fatal(err)
	}
	some := v1.Hash{Algorithm: "sha256", Hex: strings.TrimPrefix(someDigest, "sha256:")}
	for text, want := range map[string]Place{
		"oci:dir":                                        {Form: FormLayout, Path: "dir"},
		"oci:./a/b:v1":                                   {Form: FormLayout, Path: "./a/b", Name: "v1"},
		"oci:dir:app:v1":                                 {Form: FormLayout, Path: "dir", Name: "app:v1"},
		"oci:dir@" + someDigest:                          {Form: FormLayout, Path: "dir", Digest: some},
		"oci:dir:app:v1@" + someDigest:                   {Form: FormLayout, Path: "dir", Name: "app:v1", Digest: some},
		`oci:"/a:b/c":app:v1`:                            {Form: FormLayout, Path: "/a:b/c", Name: "app:v1"},
		`oci:"a""b"`:                                     {Form: FormLayout, Path: `a"b`},
		`oci:d:"a@` + someDigest + `"`:                   {Form: FormLayout, Path: "d", Name: "a@" + someDigest},
		"oci:a,b=c/d":                                    {Form: FormLayout, Path: "a,b=c/d"},
		"oci:d@r/x":                                      {Form: FormLayout, Path: "d@r/x"},
		"oci-archive:/tmp/a.tar:latest":                  {Form: FormArchive, Path: "/tmp/a.tar", Name: "latest"},
		"docker-archive:a.tar":                           {Form: FormDockerArchive, Path: "a.tar"},
		"docker-archive:a,b.tar":                         {Form: FormDockerArchive, Path: "a,b.tar"},
		"docker-archive:a=b.tar":                         {Form: FormDockerArchive, Path: "a=b.tar"},
		`docker-archive:"a,b=c.tar":x`:                   {Form: FormDockerArchive, Path: "a,b=c.tar", Name: "x"},
		"docker-archive:f@" + someDigest:                 {Form: FormDockerArchive, Path: "f", Digest: some},
		"docker-archive:a.tar,platform=linux/arm":        {Form: FormDockerArchive, Path: "a.tar", Platform: arm},
		"docker-archive:a.tar:b:c,platform=linux/arm/v7": {Form: FormDockerArchive, Path: "a.tar", Name: "b:c", Platform: arm},
		"docker-daemon:":                                 {Form: FormDockerDaemon},
		"docker-daemon:platform=linux/arm":               {Form: FormDockerDaemon, Platform: arm},
		"containerd:":                                    {Form: FormContainerd},
		"containerd:k8s.io":                              {Form: FormContainerd, Path: "k8s.io"},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if _, err := got.Sink(); (err != nil) != (want.Digest != v1.Hash{}) {
			t.Errorf("%s: as a sink: %v", text, err)
		}
		if _, err := got.Source(); (err == nil) != slices.Contains([]string{FormLayout, FormArchive, FormDockerArchive}, got.Form) {
			t.Errorf("%s: as a source: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "oci", "oci:", "oci::v1", "dir", "docker://alpine", "oci:dir@sha256:short", "oci:dir@sha256:../../x", "oci-archive:",
		"docker-archive:", "docker-archive:f,plattform=linux/arm", "docker-archive:f,platform=arm", `oci:"a`, `oci:"a"b`, `oci:a:"b":c`, `oci:"a",platform=linux/arm`, "oci:a:b@sha256:short",
		"docker-daemon:app", "docker-daemon:platform=", "containerd:a/b", "containerd:--all", "ghcr.io/acme/app:v1",
	} {
		if p, err := Parse(text); err == nil || hintOf(err) == "" {
			t.Errorf("%q: %+v, %v, hint %q", text, p, err, hintOf(err))
		}
	}
}

// A parsed place, and a place with any parts, is printed in a form that parses to the same
// place.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"d", "/a/b", "a:b", "a,b", "a=b", "a,b=c", "platform=linux/arm", `"`, `a"b`, `"a":b`, "C:\\a", "d@sha256:x", "d@" + someDigest, "-", " ", "[::1]:5000"} {
		for _, name := range []string{"", "v1", "app:v1", "localhost:5000/a/b:v1", "[::1]:5000/app:v1", "a@" + someDigest, "@" + someDigest, "a,platform=linux/arm", "a,b=c", `"x"`, "a b", ":", "@"} {
			for _, form := range []string{"oci", "oci-archive", "docker-archive"} {
				f.Add(form, path, name, false, "")
				f.Add(form, path, name, true, "windows(10.0.17763)/amd64")
			}
		}
	}
	for _, s := range []string{"oci:d:n", "oci:d@" + someDigest, "docker-archive:f,platform=linux/arm", "containerd:x", "docker-daemon:platform=windows/amd64:10.0.17763"} {
		f.Add(s, "", "", false, "")
	}
	law := func(t *testing.T, p Place) {
		again, err := Parse(p.String())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v prints %s, which parses to %+v, %v", p, p, again, err)
		}
		name, digest, err := parseRef(p.Ref())
		if err != nil || name != p.Name || digest != p.Digest {
			t.Errorf("%+v: its reference %s is %q, %s, %v", p, p.Ref(), name, digest, err)
		}
	}
	f.Fuzz(func(t *testing.T, form, path, name string, digest bool, wanted string) {
		if p, err := Parse(form); err == nil {
			law(t, p)
		}
		p := Place{Form: form, Path: path, Name: name}
		if path == "" || !slices.Contains([]string{FormLayout, FormArchive, FormDockerArchive}, form) {
			return
		}
		if digest {
			p.Digest = v1.Hash{Algorithm: "sha256", Hex: strings.TrimPrefix(someDigest, "sha256:")}
		}
		if parsed, err := platform.Parse(wanted); err == nil && form == FormDockerArchive {
			p.Platform = parsed
		}
		law(t, p)
	})
}
