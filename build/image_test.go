package build

import (
	"archive/tar"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/filelist"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

func newLayers(t *testing.T, c *cache.Cache) *layerfile.Writer {
	return &layerfile.Writer{Work: t.TempDir(), Cache: c, Time: time.Unix(0, 0).UTC(), Format: Gzip, Level: 1, Alive: func() error { return nil }}
}

// staticBase returns the static base.
func staticBase(t *testing.T, w *layerfile.Writer) baseimage.Image {
	t.Helper()
	images, err := (&baseimage.Reader{Layers: w}).Images(t.Context(), []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}, func(ocispec.Platform) string { return Static })
	if err != nil {
		t.Fatal(err)
	}
	return images[0]
}

// fixture returns the image of testdata/program.
func fixture(t *testing.T, w *layerfile.Writer, f baseimage.Image, s Spec, text string) v1.Image {
	t.Helper()
	p, err := platform.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s.Platforms, s.Name = []ocispec.Platform{p}, "program"
	if s, err = s.Validate(); err != nil {
		t.Fatal(err)
	}
	files, err := filelist.Entries(s.Dir, s.Files, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	program, err := programEntry(s, p, "testdata/program")
	if err != nil {
		t.Fatal(err)
	}
	added, err := placement.Layers(&basefs.Reader{Cache: w.Cache}, w, p, f.Layers, []placement.Part{{Comment: "files", Entries: files}, {Comment: "program", Entries: []layerfile.Entry{program}}})
	if err != nil {
		t.Fatal(err)
	}
	img, err := assemble(s, p, f, added)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Fatal(err)
	}
	return img
}

// The same input has these digests on all machines. A change affects everybody who compares
// digests, so it belongs in CHANGELOG.md.
func TestDigestsStayWhatTheyAre(t *testing.T) {
	w := newLayers(t, nil)
	onStatic := staticBase(t, w)
	for _, c := range []struct {
		name, platform, digest string
		on                     baseimage.Image
		spec                   Spec
	}{
		{"scratch", "linux/amd64", "sha256:35f2a75fe490702b8e52b783e69d73aa5abf92e4521acfde719728ca5c4d8e0a", baseimage.Image{}, Spec{Base: Scratch}},
		{"static", "linux/arm/v7", "sha256:6b0ed8eddd861f3c1c264799b32c88ec29dd2557394dcb959184df2db335b753", onStatic, Spec{}},
		{"windows", "windows/amd64:10.0.17763.1", "sha256:4904dc9a2ce3827912110f0ff8de76cd9a7ee48faa24ea7cc13181f0f4b061c6", baseimage.Image{}, Spec{Base: Scratch}},
		{"docker", "linux/s390x", "sha256:ec3251926805319472a96c4091caafc5620b490259e46009f768e5252a6c802c", onStatic, Spec{Docker: true}},
	} {
		img := fixture(t, w, c.on, c.spec, c.platform)
		if d, err := img.Digest(); err != nil || d.String() != c.digest {
			t.Errorf("%s: %s, %v; want %s", c.name, d, err, c.digest)
		}
	}
}

// contents returns a layer's headers by name.
func contents(t *testing.T, l v1.Layer) map[string]*tar.Header {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list := map[string]*tar.Header{}
	var names []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		list[h.Name] = h
	}
	if !slices.IsSorted(names) {
		t.Errorf("not sorted: %v", names)
	}
	return list
}

func lastLayer(t *testing.T, img v1.Image) v1.Layer {
	t.Helper()
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return all[len(all)-1]
}

// The static base has the files that programs expect: certificates, time zones, /tmp and a
// home directory.
func TestStaticHasWhatProgramsLookFor(t *testing.T) {
	f := staticBase(t, newLayers(t, nil))
	have := contents(t, f.Layers[0])
	for name, mode := range map[string]int64{
		"tmp/": 0o1777, "etc/passwd": 0o644, "etc/group": 0o644, "etc/os-release": 0o644, "home/nonroot/": 0o700,
		"etc/ssl/certs/ca-certificates.crt": 0o644, "usr/share/zoneinfo/Europe/Berlin": 0o644,
	} {
		if h := have[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: %+v, want mode %o", name, h, mode)
		}
	}
	if h := have["home/nonroot/"]; h.Uid != 65532 || h.Gid != 65532 {
		t.Errorf("home/nonroot belongs to %d:%d", h.Uid, h.Gid)
	}
	if have["etc/ssl/certs/ca-certificates.crt"].Size < 100_000 {
		t.Error("hardly any certificates")
	}
}

// onTop returns a base image with one layer that has the given entries.
func onTop(t *testing.T, w *layerfile.Writer, entries ...layerfile.Entry) baseimage.Image {
	t.Helper()
	l, err := w.Layer(entries)
	if err != nil {
		t.Fatal(err)
	}
	d, err := manifest.Describe(l)
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := l.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	return baseimage.Image{Layers: []v1.Layer{l}, Descriptors: []v1.Descriptor{d}, Config: v1.ConfigFile{RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}}}}
}

// A path that leads through a link of the base image is resolved first. An entry at the
// link itself would replace it and, with merged /usr, hide everything behind it.
func TestPathsLeadThroughTheBasesLinks(t *testing.T) {
	w := newLayers(t, nil)
	local := layerfile.Directory("usr/local", 0o2775)
	local.GID = 50
	base := onTop(
		t, w, layerfile.Directory("usr", 0o755), layerfile.Directory("usr/bin", 0o755), local,
		layerfile.Entry{Name: "bin", Kind: tar.TypeSymlink, Link: "usr/bin", Mode: 0o777},
		layerfile.Entry{Name: "opt", Kind: tar.TypeSymlink, Link: "/usr/local/opt", Mode: 0o777},
	)
	have := contents(t, lastLayer(t, fixture(t, w, base, Spec{Path: "/bin/app"}, "linux/amd64")))
	if have["usr/bin/app"] == nil || have["bin/app"] != nil || have["bin/"] != nil {
		t.Errorf("the layer with /bin/app has %v", have)
	}
	have = contents(t, lastLayer(t, fixture(t, w, base, Spec{Path: "/opt/app"}, "linux/amd64")))
	if h := have["usr/local/"]; have["usr/local/opt/app"] == nil || h == nil || h.Mode != 0o2775 || h.Gid != 50 {
		t.Errorf("the layer with /opt/app has %v; usr/local is %+v", have, h)
	}
	if h := have["usr/local/opt/"]; h == nil || h.Mode != 0o755 {
		t.Errorf("the new directory is %+v", h)
	}
}

// A layer for Windows has the directories Files and Hives and the PAX records of Windows.
func TestWindowsLayersHaveWindowsShape(t *testing.T) {
	img := fixture(t, newLayers(t, nil), baseimage.Image{}, Spec{Base: Scratch}, "windows/amd64:10.0.17763.1")
	have := contents(t, lastLayer(t, img))
	for name, attributes := range map[string]string{"Files/": "16", "Hives/": "16", "Files/mabuild/": "16", "Files/mabuild/program.exe": "32"} {
		h := have[name]
		if h == nil || h.PAXRecords["MSWINDOWS.fileattr"] != attributes || h.PAXRecords["MSWINDOWS.rawsd"] == "" {
			t.Errorf("%s: %+v", name, h)
		}
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.OSVersion != "10.0.17763.1" || c.Config.Entrypoint[0] != `C:\mabuild\program.exe` || !slices.Contains(c.Config.Env, `PATH=C:\Windows\system32;C:\Windows;C:\mabuild`) {
		t.Errorf("config %+v", c)
	}
}

// An image keeps the settings of its base image (user, working directory, environment,
// ports, volumes, labels) and replaces the entrypoint and the command. Its annotations name
// the base image.
func TestConfigKeepsWhatIsTheBasesAndDropsWhatDescribesIt(t *testing.T) {
	w := newLayers(t, nil)
	base := onTop(t, w, layerfile.Directory("etc", 0o755))
	base.Name, base.Digest = "debian:12", v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("1", 64)}
	base.Descriptors[0].MediaType = types.DockerLayer
	base.Config.Config = v1.Config{
		User: "daemon", WorkingDir: "/work", Env: []string{"PATH=/opt/bin", "LANG=C"}, Cmd: []string{"bash"}, Entrypoint: []string{"/init"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
		Labels: map[string]string{"org.opencontainers.image.title": "Debian", "maintainer": "them"},
	}
	img := fixture(t, w, base, Spec{Config: Config{
		Env: []string{"LANG=de", "X=1"}, Ports: []string{"8080", "53/udp"}, Labels: map[string]string{"org.opencontainers.image.title": "ours"}, Cmd: []string{"serve"},
		Annotations: map[string]string{"k": "v"},
	}}, "linux/amd64")
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got := c.Config
	if got.User != "daemon" || got.WorkingDir != "/work" || !slices.Equal(got.Env, []string{"PATH=/opt/bin:/mabuild", "LANG=de", "X=1"}) {
		t.Errorf("user, directory, environment: %+v", got)
	}
	if !slices.Equal(got.Entrypoint, []string{"/mabuild/program"}) || !slices.Equal(got.Cmd, []string{"serve"}) {
		t.Errorf("entrypoint %v, cmd %v", got.Entrypoint, got.Cmd)
	}
	if len(got.ExposedPorts) != 3 || len(got.Volumes) != 1 {
		t.Errorf("ports %v, volumes %v", got.ExposedPorts, got.Volumes)
	}
	if len(got.Labels) != 2 || got.Labels["org.opencontainers.image.title"] != "ours" || got.Labels["maintainer"] != "them" {
		t.Errorf("labels %v", got.Labels)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Annotations["org.opencontainers.image.base.name"] != "index.docker.io/library/debian:12" || m.Annotations["org.opencontainers.image.base.digest"] != base.Digest.String() || m.Annotations["k"] != "v" {
		t.Errorf("annotations %v", m.Annotations)
	}
	if m.MediaType != types.OCIManifestSchema1 || m.Layers[0].MediaType != types.OCILayer || m.Layers[0].Digest != base.Descriptors[0].Digest {
		t.Errorf("manifest %+v", m)
	}
	if len(m.Layers) != 2 || len(c.History) != 2 || c.History[1].Comment != "program" {
		t.Errorf("%d layers, history %v", len(m.Layers), c.History)
	}
}
