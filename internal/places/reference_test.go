package places

import (
	"testing"

	"github.com/mabuild/mabuild/internal/imageref"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// References to other content of the same repository or place keep its name, whatever that
// is.
func TestRef(t *testing.T) {
	h, err := v1.NewHash(someDigest)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][4]string{ // by digest, by tag, cosign's tag, the tag of the reference
		"r/a:v1":               {"r/a@" + someDigest, "r/a:t", "r/a:s", "v1"},
		"[::1]:5000/a":         {"[::1]:5000/a@" + someDigest, "[::1]:5000/a:t", "[::1]:5000/a:s", ""},
		"r/a:v1@" + someDigest: {"r/a@" + someDigest, "r/a:t", "r/a:s", "v1"},
		"oci:d":                {"oci:d@" + someDigest, "oci:d:t", "oci:d:s", ""},
		"oci:d:v1":             {"oci:d@" + someDigest, "oci:d:t", "oci:d:s", "v1"},
		"oci:d:r:50/a:v1":      {"oci:d@" + someDigest, "oci:d:r:50/a:t", "oci:d:s", "v1"},
		`oci:"d:e":a:v1`:       {`oci:"d:e"@` + someDigest, `oci:"d:e":a:t`, `oci:"d:e":s`, "v1"},
	} {
		r, err := Parse(text)
		if err != nil || r.String() != text {
			t.Errorf("%s: %s, %v", text, r, err)
		}
		if got := [4]string{r.ByDigest(h).String(), r.ByTag("t").String(), r.Cosign("s").String(), r.Tag()}; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Two targets have the same key if one image would replace the other.
func TestKeys(t *testing.T) {
	for _, same := range [][]string{
		{"alpine:3", "library/alpine:3", "docker.io/alpine:3", "index.docker.io/library/alpine:3"},
		{"oci:d:alpine:3", "oci:./d:docker.io/library/alpine:3"},
		{"oci:d:v1", "oci:d/:v1"},
		{"oci:d:v2"},
		{"oci:e:v1"},
		{"oci-archive:d:v1"},
		{"oci:d"},
		{"docker-archive:d:a:v1", "docker-archive:./d:b:v2", "docker-archive:d,platform=linux/arm"},
	} {
		for _, text := range same {
			one, err := Parse(same[0])
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse(text)
			if err != nil || r.Key("x") != one.Key("x") {
				t.Errorf("%s and %s: %s, %s, %v", one, r, one.Key("x"), r.Key("x"), err)
			}
			if other, _ := Parse("oci:d:v3"); r.Key("x") == other.Key("x") {
				t.Errorf("%s and %s have the same key", r, other)
			}
			if r.Unnamed() && !r.Docker() && r.Key("x") == r.Key("y") {
				t.Errorf("%s: two images without a name have the same key", r)
			}
		}
	}
}

// A reference has the same meaning after it is printed and parsed again. If it is copied to
// a place without a name, the image there gets its name.
func FuzzRef(f *testing.F) {
	for _, host := range []string{"", "docker.io/", "index.docker.io/", "localhost:5000/", "[::1]:5000/", "ghcr.io/"} {
		for _, end := range []string{"", ":v1", "@" + someDigest, ":v1@" + someDigest} {
			for _, place := range []string{"oci:d", `oci:"a:b"`, "oci-archive:a,b=c", `docker-archive:"a,b=c"`, "docker-archive:a,platform=linux/arm"} {
				f.Add(host+"library/alpine"+end, place)
				f.Add(place+":"+host+"alpine"+end, place)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text, place string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if _, err := name.ParseReference(text); err != nil && !r.Local() {
			return
		}
		if again, err := Parse(r.String()); err != nil || again.String() != r.String() || again.Local() != r.Local() || again.Key("x") != r.Key("x") {
			t.Errorf("%q: %s, then %s, %v", text, r, again, err)
		}
		p, err := Parse(place)
		if err != nil || !p.Local() || p.Place.Name != "" || p.Place.Digest != (v1.Hash{}) || r.Local() {
			return
		}
		called := imageref.Parts{Repository: r.Remote.Repository, Tag: r.Remote.Tag}.String()
		if p = p.Named(called); !p.Docker() && p.Place.Name != called {
			t.Errorf("%s in %s is %q", called, place, p.Place.Name)
		}
		if again, err := Parse(p.String()); err != nil || again.Place.Name != p.Place.Name || again.Place.Path != p.Place.Path {
			t.Errorf("%s in %s: %s is %+v, %v", called, place, p, again.Place, err)
		}
	})
}
