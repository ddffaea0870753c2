package manifest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

func platforms(t *testing.T, list ...string) []ocispec.Platform {
	t.Helper()
	ps, err := platform.ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func indexOf(t *testing.T, keys ...string) v1.ImageIndex {
	t.Helper()
	var children []manifest.Child
	for _, key := range keys {
		children = append(children, child(t, key, types.OCIManifestSchema1))
	}
	idx, err := manifest.Index(children, nil)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

// A selection has exactly the requested platforms. If these are all, the index keeps its
// digest.
func TestSelect(t *testing.T) {
	two := indexOf(t, "linux/amd64", "linux/arm64")
	windows := indexOf(t, "linux/amd64", "windows/amd64:10.0.17763.1", "windows/amd64:10.0.20348.1")
	for name, c := range map[string]struct {
		of       manifest.Content
		keep     []string
		optional bool
		want     []string // nil: an error
		same     bool
		absent   int
	}{
		"all":                   {of: two, keep: []string{"linux/arm64", "linux/amd64"}, want: []string{"linux/amd64", "linux/arm64"}, same: true},
		"one":                   {of: two, keep: []string{"linux/arm64"}, want: []string{"linux/arm64"}},
		"one of a nested index": {of: within(two, 2), keep: []string{"linux/arm64"}, want: []string{"linux/arm64"}},
		"all of a nested index": {of: within(two, 2), keep: []string{"linux/arm64", "linux/amd64"}, want: []string{"linux/amd64", "linux/arm64"}},
		"missing":               {of: two, keep: []string{"linux/arm64", "linux/s390x"}},
		"missing, optional":     {of: two, keep: []string{"linux/arm64", "linux/s390x"}, optional: true, want: []string{"linux/arm64"}, absent: 1},
		"none, optional":        {of: two, keep: []string{"linux/s390x"}, optional: true},
		"every version":         {of: windows, keep: []string{"windows/amd64"}, want: []string{"windows/amd64:10.0.17763.1", "windows/amd64:10.0.20348.1"}},
		"one version":           {of: windows, keep: []string{"windows/amd64:10.0.20348.1"}, want: []string{"windows/amd64:10.0.20348.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := manifest.Select(t.Context(), one(c.of), "it", manifest.Keep{Platforms: platforms(t, c.keep...), Optional: c.optional})
			if c.want == nil {
				if as := (*manifest.AssemblyError)(nil); !errors.As(err, &as) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got := entries(t, content.(v1.ImageIndex)); !slices.Equal(got, c.want) {
				t.Errorf("has %v, want %v", got, c.want)
			}
			if same := s.Descriptor.Digest == s.Found.Digest; same != c.same {
				t.Errorf("same digest: %t", same)
			}
			if len(s.Absent) != c.absent {
				t.Errorf("absent: %v", s.Absent)
			}
		})
	}
}

// An image is selected only if its platform is the only one requested.
func TestSelectImage(t *testing.T) {
	img := child(t, "linux/arm64", types.OCIManifestSchema1).Content
	for keep, ok := range map[string]bool{"linux/arm64": true, "linux/amd64": false} {
		if _, err := manifest.Select(t.Context(), one(img), "it", manifest.Keep{Platforms: platforms(t, keep)}); (err == nil) != ok {
			t.Errorf("%s: %v", keep, err)
		}
	}
	if _, err := manifest.Select(t.Context(), one(img), "it", manifest.Keep{Platforms: platforms(t, "linux/arm64", "linux/amd64")}); err == nil {
		t.Error("a missing platform is not reported")
	}
}

// sinking is a sink that counts calls of Put.
type sinking struct {
	*shelf
	puts int
}

func (s *sinking) Put(_ context.Context, ref string, c manifest.Content) error {
	s.puts++
	s.contents[ref] = c
	return nil
}

// Copy stores content only if the target does not have it.
func TestCopy(t *testing.T) {
	idx := indexOf(t, "linux/amd64", "linux/arm64")
	want, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	to := &sinking{shelf: &shelf{contents: map[string]manifest.Content{}}}
	for range 2 {
		d, err := manifest.Copy(t.Context(), to, "there", one(idx), "it")
		if err != nil || d.Digest != want {
			t.Errorf("%v, %v", d, err)
		}
	}
	d, err := manifest.Copy(t.Context(), to, "there", one(idx), "it", platforms(t, "linux/arm64")...)
	if err != nil || d.Digest == want || to.puts != 2 {
		t.Errorf("%v, %v; %d puts", d, err, to.puts)
	}
	if _, err := manifest.Copy(t.Context(), to, "there", one(idx), "other"); !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
