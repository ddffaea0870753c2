package attest_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// layer returns a layer with these paths and contents. A path that ends with a slash is a
// directory; a content with the prefix -> is a link.
func layer(t *testing.T, files ...string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(files[i+1]))}
		link, isLink := strings.CutPrefix(files[i+1], "->")
		switch {
		case strings.HasSuffix(files[i], "/"):
			h.Typeflag, h.Size = tar.TypeDir, 0
		case isLink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, files[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const (
	debian    = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"
	installed = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\nDescription: GNU C Library\n shared\n Package: not this\n\n" +
		"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: tzdata\nStatus: install ok installed\nArchitecture: all\nVersion: 2025b\n"
	alpine = "C:Q1abc=\nP:musl\nV:1.2.5-r9\nA:x86_64\no:musl\nF:lib\nR:libc.so\n\nP:busybox-binsh\nV:1.37-r12\nA:x86_64\no:busybox\n\n"
)

// The packages are those of the topmost layers: a file replaces the one below, and
// whiteouts remove it.
func TestReadPackages(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers []v1.Layer
		want   string
	}{
		{"nothing", nil, `{}`},
		{
			"dpkg",
			[]v1.Layer{layer(t, "./etc/os-release", "->../usr/lib/os-release", "usr/lib/os-release", debian, "var/lib/dpkg/status", installed)},
			`{"distro":"debian","release":"12","list":[{"kind":"deb","name":"libc6","version":"2.36-9+b1","arch":"amd64","source":"glibc 2.36-9"},{"kind":"deb","name":"tzdata","version":"2025b","arch":"all","source":"tzdata 2025b"}]}`,
		},
		{
			"the upper layer's status holds",
			[]v1.Layer{layer(t, "var/lib/dpkg/status", installed), layer(t, "var/lib/dpkg/status", "Package: a\nVersion: 1\n")},
			`{"list":[{"kind":"deb","name":"a","version":"1","source":"a 1"}]}`,
		},
		{
			"distroless",
			[]v1.Layer{layer(t, "var/lib/dpkg/status.d/", "", "var/lib/dpkg/status.d/base", "Package: base\nVersion: 1\n", "var/lib/dpkg/status.d/base.md5sums", "Package: no\nVersion: 1"), layer(t, "var/lib/dpkg/status.d/tz", "Package: tz\nVersion: 2\n")},
			`{"list":[{"kind":"deb","name":"base","version":"1","source":"base 1"},{"kind":"deb","name":"tz","version":"2","source":"tz 2"}]}`,
		},
		{
			"removed",
			[]v1.Layer{layer(t, "var/lib/dpkg/status.d/a", "Package: a\nVersion: 1\n", "var/lib/dpkg/status.d/b", "Package: b\nVersion: 1\n"), layer(t, "var/lib/dpkg/status.d/.wh.a", "")},
			`{"list":[{"kind":"deb","name":"b","version":"1","source":"b 1"}]}`,
		},
		{
			"hidden by an opaque directory of the same layer",
			[]v1.Layer{layer(t, "var/lib/dpkg/status.d/a", "Package: a\nVersion: 1\n"), layer(t, "var/lib/dpkg/status.d/b", "Package: b\nVersion: 1\n", "var/lib/dpkg/.wh..wh..opq", "")},
			`{"list":[{"kind":"deb","name":"b","version":"1","source":"b 1"}]}`,
		},
		{"a file replaces the directory", []v1.Layer{layer(t, "var/lib/dpkg/status", installed), layer(t, "var/lib/dpkg", "x")}, `{}`},
		{
			"apk",
			[]v1.Layer{layer(t, "lib/apk/db/installed", alpine, "etc/os-release", "ID=alpine\nVERSION_ID=3.23.0\n")},
			`{"distro":"alpine","release":"3.23.0","list":[{"kind":"apk","name":"busybox-binsh","version":"1.37-r12","arch":"x86_64","source":"busybox 1.37-r12"},{"kind":"apk","name":"musl","version":"1.2.5-r9","arch":"x86_64","source":"musl 1.2.5-r9"}]}`,
		},
		{"the database of rpm is only detected", []v1.Layer{layer(t, "var/lib/rpm/rpmdb.sqlite", "x")}, `{"unread":["rpm (/var/lib/rpm/rpmdb.sqlite)"]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := attest.ReadPackages(c.layers)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// The error for a broken layer has its digest.
func TestReadPackagesSaysWhichLayerIsBroken(t *testing.T) {
	good := layer(t, "var/lib/dpkg/status", installed)
	d, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.ReadPackages([]v1.Layer{cut{good}}); err == nil || !strings.Contains(err.Error(), d.String()) {
		t.Errorf("%v, want the layer's digest", err)
	}
}

// Reading package databases is bounded by size, over all layers, and keeps no raw text. The
// error has the digest of the layer that exceeds the bound.
func TestReadPackagesIsBounded(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Package: p%d\nVersion: 1\n\n", i)
		}
		return b.String()
	}
	var parts []string
	for i := range 3 {
		parts = append(parts, fmt.Sprintf("var/lib/dpkg/status.d/%d", i), many(12_000))
	}
	for _, c := range []struct {
		name   string
		layers []v1.Layer // the last layer is refused
		want   error      // nil means any error
	}{
		{"a million packages", []v1.Layer{layer(t, "var/lib/dpkg/status", many(1_000_000))}, rootfs.ErrBudget},
		{"in one layer", []v1.Layer{layer(t, parts...)}, rootfs.ErrBudget},
		{"over layers", []v1.Layer{layer(t, parts[:2]...), layer(t, parts[2:4]...), layer(t, parts[4:]...)}, rootfs.ErrBudget},
		{"large fields", []v1.Layer{layer(t, "lib/apk/db/installed", strings.Repeat("P:a\nV:"+strings.Repeat("1", 4000)+"\n\n", 2_000))}, rootfs.ErrBudget},
		{"a long line", []v1.Layer{layer(t, "var/lib/dpkg/status", "Package: a\nVersion: "+strings.Repeat("1", 1<<20))}, nil},
		{"a long release", []v1.Layer{layer(t, "etc/os-release", "ID="+strings.Repeat("x", 100))}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := c.layers[len(c.layers)-1].Digest()
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = attest.ReadPackages(c.layers)
			runtime.ReadMemStats(&after)
			var is *rootfs.LayerError
			if !errors.As(err, &is) || is.Layer != want || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v of layer %s", err, c.want, want)
			}
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 48 {
				t.Errorf("%d MiB were allocated", mib)
			}
		})
	}
	same := layer(t, "var/lib/dpkg/status", many(15_000)) // the memory of a replaced layer is released
	if p, err := attest.ReadPackages([]v1.Layer{same, same, same}); err != nil || len(p.List) != 15_000 {
		t.Errorf("%v", err)
	}
}

// cut is a layer whose content ends too early.
type cut struct{ v1.Layer }

func (c cut) Compressed() (io.ReadCloser, error) {
	r, err := c.Uncompressed()
	return io.NopCloser(io.LimitReader(r, 600)), err
}

// An SBOM becomes an artifact with the image as its subject.
func TestArtifact(t *testing.T) {
	a, err := attest.Artifact(attest.CycloneDX, []byte("{}\n"), "app-linux-arm64.cdx.json", empty.Image)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := partial.Descriptor(empty.Image)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := a.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(m.MediaType, m.ArtifactType, m.Config.MediaType, m.Config.Size, m.Subject.Digest, m.Subject.MediaType, m.Subject.Size, len(m.Layers), m.Layers[0].MediaType, m.Layers[0].Annotations)
	want := fmt.Sprintln("application/vnd.oci.image.manifest.v1+json", "application/vnd.cyclonedx+json", "application/vnd.oci.empty.v1+json", 2,
		subject.Digest, subject.MediaType, subject.Size, 1, "application/vnd.cyclonedx+json", "map[org.opencontainers.image.title:app-linux-arm64.cdx.json]")
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := validate.Image(a, validate.Fast); err != nil {
		t.Error(err)
	}
}
