package build

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

func newLayers(t *testing.T, c *cache.Cache) *layers {
	return &layers{work: t.TempDir(), cache: c, time: time.Unix(0, 0).UTC(), compression: Compression{}.full(), alive: func() error { return nil }}
}

// fixture makes the image of testdata/program.
func fixture(t *testing.T, w *layers, f baseImage, s Spec, text string) v1.Image {
	t.Helper()
	p, err := platform.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s.Platforms, s.Name = []ocispec.Platform{p}, "program"
	if s, err = s.Validate(); err != nil {
		t.Fatal(err)
	}
	files, err := fileEntries(s, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	program, err := programEntry(s, p, "testdata/program")
	if err != nil {
		t.Fatal(err)
	}
	added, err := addedLayers(w, p, f, []part{{comment: "files", entries: files}, {comment: "program", entries: []entry{program}}})
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

// These digests are what the same input has given everywhere since the first
// release. One that changes is news for everybody who compares digests: it
// belongs into CHANGELOG.md.
func TestDigestsStayWhatTheyAre(t *testing.T) {
	w := newLayers(t, nil)
	onStatic, err := static(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, platform, digest string
		on                     baseImage
		spec                   Spec
	}{
		{"scratch", "linux/amd64", "sha256:35f2a75fe490702b8e52b783e69d73aa5abf92e4521acfde719728ca5c4d8e0a", baseImage{}, Spec{Base: Scratch}},
		{"static", "linux/arm/v7", "sha256:6b0ed8eddd861f3c1c264799b32c88ec29dd2557394dcb959184df2db335b753", onStatic, Spec{}},
		{"windows", "windows/amd64:10.0.17763.1", "sha256:4904dc9a2ce3827912110f0ff8de76cd9a7ee48faa24ea7cc13181f0f4b061c6", baseImage{}, Spec{Base: Scratch}},
		{"docker", "linux/s390x", "sha256:ec3251926805319472a96c4091caafc5620b490259e46009f768e5252a6c802c", onStatic, Spec{Docker: true}},
	} {
		img := fixture(t, w, c.on, c.spec, c.platform)
		if d, err := img.Digest(); err != nil || d.String() != c.digest {
			t.Errorf("%s: %s, %v; it was %s", c.name, d, err, c.digest)
		}
	}
}

// contents lists a layer's headers by name.
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

func TestStaticHasWhatProgramsLookFor(t *testing.T) {
	f, err := static(newLayers(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	have := contents(t, f.layers[0])
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

// onTop makes a base image of one layer with the given entries.
func onTop(t *testing.T, w *layers, entries ...entry) baseImage {
	t.Helper()
	l, err := w.layer(entries)
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
	return baseImage{layers: []v1.Layer{l}, descriptors: []v1.Descriptor{d}, config: v1.ConfigFile{RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}}}}
}

// A layer's entry over a link of the base would take the link's place, and with
// merged /usr all that lies behind it.
func TestPathsLeadThroughTheBasesLinks(t *testing.T) {
	w := newLayers(t, nil)
	local := directory("usr/local", 0o2775)
	local.gid = 50
	base := onTop(
		t, w, directory("usr", 0o755), directory("usr/bin", 0o755), local,
		entry{name: "bin", kind: tar.TypeSymlink, link: "usr/bin", mode: 0o777},
		entry{name: "opt", kind: tar.TypeSymlink, link: "/usr/local/opt", mode: 0o777},
	)
	have := contents(t, lastLayer(t, fixture(t, w, base, Spec{Path: "/bin/app"}, "linux/amd64")))
	if have["usr/bin/app"] == nil || have["bin/app"] != nil || have["bin/"] != nil {
		t.Errorf("/bin/app became %v", have)
	}
	have = contents(t, lastLayer(t, fixture(t, w, base, Spec{Path: "/opt/app"}, "linux/amd64")))
	if h := have["usr/local/"]; have["usr/local/opt/app"] == nil || h == nil || h.Mode != 0o2775 || h.Gid != 50 {
		t.Errorf("/opt/app became %v, usr/local %+v", have, h)
	}
	if h := have["usr/local/opt/"]; h == nil || h.Mode != 0o755 {
		t.Errorf("the directory that is new: %+v", h)
	}
}

func TestTreeHeedsWhiteoutsAndLoops(t *testing.T) {
	w := newLayers(t, nil)
	l1, err := w.layer([]entry{
		{name: "bin", kind: tar.TypeSymlink, link: "usr/bin"},
		{name: "a", kind: tar.TypeSymlink, link: "b"},
		{name: "b", kind: tar.TypeSymlink, link: "a"},
		directory("data", 0o700), inline("data/old", 0o644, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	l2, err := w.layer([]entry{inline(".wh.bin", 0o644, nil), inline("data/.wh..wh..opq", 0o644, nil), inline("data/new", 0o644, nil)})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := readTree([]v1.Layer{l1, l2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := tr.Resolve("/bin/app"); err != nil || at != "bin/app" {
		t.Errorf("a link that was removed is followed: %s, %v", at, err)
	}
	if _, ok := tr.Lookup("data/old"); ok {
		t.Error("an opaque directory shows what was below")
	}
	if n, ok := tr.Lookup("data"); !ok || n.Mode != 0o700 {
		t.Errorf("data is %+v", n)
	}
	if _, ok := tr.Lookup("data/new"); !ok {
		t.Error("data/new is lost")
	}
	if _, err := tr.Resolve("/a/app"); err == nil {
		t.Error("a loop of links was followed to its end")
	}
}

func TestWindowsLayersHaveWindowsShape(t *testing.T) {
	img := fixture(t, newLayers(t, nil), baseImage{}, Spec{Base: Scratch}, "windows/amd64:10.0.17763.1")
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

func TestConfigKeepsWhatIsTheBasesAndDropsWhatDescribesIt(t *testing.T) {
	w := newLayers(t, nil)
	base := onTop(t, w, directory("etc", 0o755))
	base.name, base.digest = "debian:12", v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("1", 64)}
	base.descriptors[0].MediaType = types.DockerLayer
	base.config.Config = v1.Config{
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
	if m.Annotations["org.opencontainers.image.base.name"] != "index.docker.io/library/debian:12" || m.Annotations["org.opencontainers.image.base.digest"] != base.digest.String() || m.Annotations["k"] != "v" {
		t.Errorf("annotations %v", m.Annotations)
	}
	if m.MediaType != types.OCIManifestSchema1 || m.Layers[0].MediaType != types.OCILayer || m.Layers[0].Digest != base.descriptors[0].Digest {
		t.Errorf("manifest %+v", m)
	}
	if len(m.Layers) != 2 || len(c.History) != 2 || c.History[1].Comment != "program" {
		t.Errorf("%d layers, history %v", len(m.Layers), c.History)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"web/index.html": 0o600, "web/css/a.css": 0o664, "web/run": 0o700, "one": 0o644, "../secret": 0o600} {
		path := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	tree := filepath.Join(dir, "tree")
	for link, to := range map[string]string{"web/link": "css/a.css", "escape": "../secret", "up/link": "../../secret", "in": "one"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := fileEntries(Spec{Dir: tree, Files: []File{{From: "./web", To: "/srv/web"}, {From: "in", To: "/etc/"}, {From: "one", To: "/etc/two", Mode: 0o640}}}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, e := range entries {
		got[e.name+e.link] = e.mode
	}
	want := map[string]int64{
		"srv/web": 0o755, "srv/web/index.html": 0o644, "srv/web/css": 0o755, "srv/web/css/a.css": 0o644, "srv/web/run": 0o755,
		"srv/web/linkcss/a.css": 0o777, "etc/in": 0o644, "etc/two": 0o640,
	}
	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("%s: mode %o, want %o", name, got[name], mode)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for _, from := range []string{"../secret", "escape", "up", "missing", "/etc/passwd"} {
		_, err := fileEntries(Spec{Dir: tree, Files: []File{{From: from, To: "/x"}}}, func(string) {})
		var se *SpecError
		if !errors.As(err, &se) {
			t.Errorf("%s: %v; want a SpecError", from, err)
		}
	}
}

func TestLayersComeOutOfTheCacheUntilItBreaks(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries := []entry{inline("mabuild/x", 0o755, []byte(strings.Repeat("program ", 1000)))}
	first, err := newLayers(t, c).layer(entries)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	entries[0].open = func(open func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { opened++; return open() }
	}(entries[0].open)
	again, err := newLayers(t, c).layer(entries)
	if err != nil || opened != 0 {
		t.Fatalf("%v; read %d files to find what the cache has", err, opened)
	}
	// One that has the right size and the wrong bytes is made again.
	file := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := validate.Layer(again); err != nil || opened == 0 {
		t.Errorf("%v; read %d files to mend the layer", err, opened)
	}
}

// A layer that this run wrote is read once when it is sent, and held against its digest
// as it is read; one that it found is read before that, too. Both are mended.
func TestALayerOfThisRunIsReadOnce(t *testing.T) {
	for _, own := range []bool{true, false} {
		dir := t.TempDir()
		c, err := cache.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		entries := []entry{inline("mabuild/x", 0o755, []byte(strings.Repeat("program ", 1000)))}
		w := newLayers(t, c)
		w.written = &sync.Map{}
		l, err := w.layer(entries)
		if err != nil {
			t.Fatal(err)
		}
		if !own {
			if l, err = newLayers(t, c).layer(entries); err != nil {
				t.Fatal(err)
			}
		}
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "blobs", "sha256", digest.Hex)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r)
		if corrupt := errors.Is(err, cache.ErrCorrupt); corrupt != own || !own && err != nil {
			t.Errorf("of this run %t: the first reader gets %v", own, err)
		}
		if err := errors.Join(r.Close(), validate.Layer(l)); err != nil {
			t.Errorf("of this run %t: the next reader gets %v", own, err)
		}
	}
}

// A file that changes between being hashed and being packed must not lie in the
// cache under what it was.
func TestAFileThatChangesMeanwhilePoisonsNothing(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := inline("srv/x", 0o644, []byte("AAAA"))
	changed := e
	changed.open = inline("srv/x", 0o644, []byte("BBBB")).open
	if _, err := newLayers(t, c).layer([]entry{changed}); !errors.Is(err, errChanged) {
		t.Fatalf("got %v", err)
	}
	l, err := newLayers(t, c).layer([]entry{e})
	if err != nil {
		t.Fatal(err)
	}
	want, err := newLayers(t, nil).layer([]entry{e})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := l.Digest()
	if d, _ := want.Digest(); got != d {
		t.Errorf("%s, want %s", got, d)
	}
}

// What the person puts into an image must not fight over a path.
func TestFilesThatCollideAreRefused(t *testing.T) {
	x, y := inline("srv/x", 0o644, nil), inline("srv/x/y", 0o644, nil)
	link := entry{name: "opt/link", kind: tar.TypeSymlink, link: "real", mode: 0o777}
	for name, group := range map[string][]entry{
		"below a file":     {x, y},
		"the same path":    {x, x},
		"below a new link": {link, inline("opt/link/b", 0o644, nil)},
	} {
		if list, err := resolvePaths(&rootfs.Tree{}, group); err == nil {
			t.Errorf("%s: placed as %v", name, list)
		}
	}
	w := newLayers(t, nil)
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for name, files := range map[string][]entry{
		"on the program": {inline("mabuild/program", 0o644, nil)},
		"above it":       {inline("mabuild", 0o644, nil)},
		"a link above":   {{name: "mabuild", kind: tar.TypeSymlink, link: "srv", mode: 0o777}},
		"below it":       {inline("mabuild/program/x", 0o644, nil)},
	} {
		program, err := programEntry(Spec{Name: "program"}, p, "testdata/program")
		if err != nil {
			t.Fatal(err)
		}
		if added, err := addedLayers(w, p, baseImage{}, []part{{comment: "files", entries: files}, {comment: "program", entries: []entry{program}}}); err == nil {
			t.Errorf("%s: %d layers", name, len(added))
		}
	}
}
