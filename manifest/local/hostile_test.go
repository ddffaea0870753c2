//go:build !windows

package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// mount is a layout on disk that a test damages.
type mount struct {
	t     *testing.T
	dir   string
	image *v1.Manifest // the manifest of the only image
	own   v1.Hash      // the digest of that image
}

func (m *mount) path(h v1.Hash) string { return filepath.Join(m.dir, filepath.FromSlash(blobPath(h))) }

func (m *mount) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// entry changes the only entry of index.json.
func (m *mount) entry(change func(map[string]any)) {
	edit(m.t, filepath.Join(m.dir, ocispec.ImageIndexFile), func(im map[string]any) { change(im["manifests"].([]any)[0].(map[string]any)) })
}

// replace writes raw as the manifest, and changes the entry of index.json to name it.
func (m *mount) replace(raw, mediaType string) {
	h, size, err := v1.SHA256(strings.NewReader(raw))
	m.must(err)
	m.must(os.WriteFile(m.path(h), []byte(raw), 0o644))
	m.entry(func(e map[string]any) {
		e["digest"], e["size"] = h.String(), size
		delete(e, "mediaType")
		if mediaType != "" {
			e["mediaType"] = mediaType
		}
	})
}

func (m *mount) write(name, content string) {
	path := filepath.Join(m.dir, name)
	m.must(errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(content), 0o644)))
}

const (
	indexType = ocispec.MediaTypeImageIndex
	imageType = ocispec.MediaTypeImageManifest
	oneChild  = `{"mediaType":"` + imageType + `","digest":"` + someDigest + `","size":2}`
)

// spoilers are layouts that are refused, with a part of the error. All but those marked are
// invalid content: exit code 5.
var spoilers = []struct {
	name  string
	spoil func(*mount)
	want  string
	other bool // another kind of error
}{
	{"digest with ..", func(m *mount) { m.entry(func(e map[string]any) { e["digest"] = "sha256:../../../etc/passwd" }) }, "digest", false},
	{"algorithm with ..", func(m *mount) { m.entry(func(e map[string]any) { e["digest"] = "../../x:abc" }) }, "digest", false},
	{"digest too short", func(m *mount) { m.entry(func(e map[string]any) { e["digest"] = "sha256:abcd" }) }, "digest", false},
	{"digest in capitals", func(m *mount) { m.entry(func(e map[string]any) { e["digest"] = strings.ToUpper(m.own.String()) }) }, "digest", false},
	{"digest of another algorithm", func(m *mount) {
		m.entry(func(e map[string]any) { e["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e" })
	}, "digest", false},
	{"no digest", func(m *mount) { m.entry(func(e map[string]any) { delete(e, "digest") }) }, "digest", false},
	{"size -1", func(m *mount) { m.entry(func(e map[string]any) { e["size"] = -1 }) }, "-1 bytes", false},
	{"size 2⁶³-1", func(m *mount) { m.entry(func(e map[string]any) { e["size"] = int64(1<<63 - 1) }) }, "9223372036854775807 bytes", false},
	{"size too large for a number", func(m *mount) { m.entry(func(e map[string]any) { e["size"] = 1e30 }) }, "index.json", false},
	{"size off by one", func(m *mount) { m.entry(func(e map[string]any) { e["size"] = e["size"].(float64) + 1 }) }, "are claimed", false},
	{"wrong media type", func(m *mount) { m.entry(func(e map[string]any) { e["mediaType"] = indexType }) }, "media type", false},
	{"foreign media type", func(m *mount) { m.entry(func(e map[string]any) { e["mediaType"] = "text/html" }) }, "media type", false},
	{"index.json is a string", func(m *mount) { m.write("index.json", "hello") }, "index.json", false},
	{"index.json is empty", func(m *mount) { m.write("index.json", "") }, "index.json", false},
	{"index.json is a list", func(m *mount) { m.write("index.json", "[]") }, "index.json", false},
	{"index.json without entries", func(m *mount) { m.write("index.json", "{}") }, "contains no image", true},
	{"index.json of 4 MiB and one", func(m *mount) { m.write("index.json", strings.Repeat(" ", 4<<20+1)) }, "4194305 bytes", false},
	{"index.json nested 20 000 deep", func(m *mount) { m.write("index.json", `{"manifests":`+strings.Repeat("[", 20_000)) }, "index.json", false},
	{"index.json with 10⁴ images", func(m *mount) {
		children := make([]string, 10_000)
		for i := range children {
			children[i] = strings.Replace(oneChild, "sha256:e3b0c", fmt.Sprintf("sha256:%05x", i), 1)
		}
		m.write("index.json", `{"manifests":[`+strings.Join(children, ",")+`]}`)
	}, "contains 10000 images", true},
	{"index.json is a link", func(m *mount) {
		path := filepath.Join(m.dir, "index.json")
		m.must(os.Rename(path, path+".real"))
		m.must(os.Symlink("index.json.real", path))
	}, "not a regular file", false},
	{"index.json is a pipe", func(m *mount) {
		path := filepath.Join(m.dir, "index.json")
		m.must(errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)))
	}, "not a regular file", false},
	{"index.json is a directory", func(m *mount) {
		path := filepath.Join(m.dir, "index.json")
		m.must(errors.Join(os.Remove(path), os.Mkdir(path, 0o700)))
	}, "not a regular file", false},
	{"no manifest", func(m *mount) { m.must(os.Remove(m.path(m.own))) }, "is missing", false},
	{"manifest is a pipe", func(m *mount) { m.must(errors.Join(os.Remove(m.path(m.own)), syscall.Mkfifo(m.path(m.own), 0o600))) }, "not a regular file", false},
	{"manifest is a link", func(m *mount) {
		m.must(errors.Join(os.Rename(m.path(m.own), m.path(m.own)+"x"), os.Symlink(m.own.Hex+"x", m.path(m.own))))
	}, "not a regular file", false},
	{"manifest with a flipped bit", func(m *mount) { flip(m, m.own) }, "has digest", false},
	{"manifest cut", func(m *mount) { m.must(os.Truncate(m.path(m.own), 100)) }, "has 100 bytes", false},
	{"manifest of an image and index", func(m *mount) {
		m.replace(`{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`, imageType)
	}, "both an image and an index", false},
	{"manifest of schema 1", func(m *mount) { m.replace(`{"schemaVersion":1,"fsLayers":[],"layers":[]}`, "") }, manifest.ErrObsolete.Error(), true},
	{"manifest without config and entries", func(m *mount) { m.replace(`{"schemaVersion":2}`, imageType) }, "neither", false},
	{"manifest is HTML", func(m *mount) { m.replace(`<html>`, imageType) }, "not a manifest", false},
	{"manifest with another type", func(m *mount) { m.replace(`{"mediaType":"`+indexType+`","manifests":[]}`, imageType) }, "against", false},
	{"manifest with a digest with ..", func(m *mount) {
		m.replace(`{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1},"layers":[]}`, imageType)
	}, "hash", false},
	{"manifest of 5 MiB", func(m *mount) { m.replace(`{"layers":[]`+strings.Repeat(" ", 5<<20)+`}`, imageType) }, "5242893 bytes", false},
	{"config of 600 MiB", func(m *mount) {
		m.replace(`{"schemaVersion":2,"config":{"digest":"`+someDigest+`","size":629145600},"layers":[]}`, imageType)
	}, "629145600 bytes", false},
	{"config is missing", func(m *mount) { m.must(os.Remove(m.path(m.image.Config.Digest))) }, "is missing", false},
	{"config with a flipped bit", func(m *mount) { flip(m, m.image.Config.Digest) }, "has digest", false},
	{"layer is missing", func(m *mount) { m.must(os.Remove(m.path(m.image.Layers[1].Digest))) }, "is missing", false},
	{"layer with a flipped bit", func(m *mount) { flip(m, m.image.Layers[0].Digest) }, "has digest", false},
	{"layer is longer", func(m *mount) {
		path := m.path(m.image.Layers[0].Digest)
		m.must(os.Truncate(path, 10<<30)) // sparse
	}, "10737418240 bytes", false},
	{"layer is a pipe", func(m *mount) {
		path := m.path(m.image.Layers[0].Digest)
		m.must(errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)))
	}, "not a regular file", false},
	{"layer is a link to a secret", func(m *mount) {
		path := m.path(m.image.Layers[0].Digest)
		m.must(errors.Join(os.Remove(path), os.Symlink("/etc/hostname", path)))
	}, "not a regular file", false},
	{"blobs is a link", func(m *mount) {
		elsewhere := m.t.TempDir()
		m.must(errors.Join(os.Rename(filepath.Join(m.dir, "blobs"), filepath.Join(elsewhere, "blobs")),
			os.Symlink(filepath.Join(elsewhere, "blobs"), filepath.Join(m.dir, "blobs"))))
	}, "escapes", true},
	{"index with a missing image", func(m *mount) { m.replace(`{"manifests":[`+oneChild+`]}`, indexType) }, "is missing", false},
	{"index that lists itself as an image", func(m *mount) {
		m.replace(`{"manifests":[{"mediaType":"`+indexType+`","digest":"`+m.own.String()+`","size":1}]}`, indexType)
	}, "are claimed", false},
}

func flip(m *mount, h v1.Hash) {
	raw, err := os.ReadFile(m.path(h))
	m.must(err)
	raw[len(raw)/2] ^= 1
	m.must(os.WriteFile(m.path(h), raw, 0o644))
}

// spoilt makes a layout with one image and damages it.
func spoilt(t *testing.T, spoil func(*mount)) *mount {
	t.Helper()
	img := makeImage(t, "linux/amd64", 4000)
	m := &mount{t: t, dir: t.TempDir(), own: digestOf(t, img)}
	put(t, &ociLayout{Dir: m.dir}, "v1", img)
	var err error
	m.image, err = img.Manifest()
	m.must(err)
	spoil(m)
	return m
}

// A damaged layout is an error that names the problem, and the reading takes little time
// and memory.
func TestSpoiltLayouts(t *testing.T) {
	if len(spoilers) < 40 {
		t.Errorf("only %d damaged layouts", len(spoilers))
	}
	for _, test := range spoilers {
		t.Run(test.name, func(t *testing.T) {
			m := spoilt(t, test.spoil)
			err := use(t, &ociLayout{Dir: m.dir})
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, manifest.ErrMismatch) == test.other {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// A damaged layout in an archive gives the same error.
func TestSpoiltArchives(t *testing.T) {
	for _, test := range spoilers {
		if test.name == "layer is longer" { // a sparse file of 10 GiB would be written in full
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			m := spoilt(t, test.spoil)
			file := filepath.Join(t.TempDir(), "a.tar")
			m.must(os.WriteFile(file, pack(t, m.dir), 0o600))
			if err := use(t, &ociArchive{File: file}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// pack makes a tar file of a directory with its links and pipes.
func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name, _ = filepath.Rel(dir, path)
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(raw)
		}
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// use reads everything of the only image of s, and checks that this takes little time and
// memory.
func use(t *testing.T, s manifest.Source) error {
	t.Helper()
	start := time.Now()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	defer func() {
		runtime.ReadMemStats(&after)
		if took, bytes := time.Since(start), after.TotalAlloc-before.TotalAlloc; took > 30*time.Second || bytes > 256<<20 {
			t.Errorf("took %s and %d bytes", took, bytes)
		}
	}()
	c, err := s.Get(t.Context(), "")
	if err != nil {
		return err
	}
	sink := &ociLayout{Dir: t.TempDir()}
	if err := sink.Put(t.Context(), "copy", c); err != nil {
		if _, there := sink.Resolve(t.Context(), "copy"); there == nil {
			t.Error("the damaged image was copied")
		}
		return err
	}
	return nil
}

// An invalid archive is an error that names the problem, and Put does not overwrite it.
func TestSpoiltTars(t *testing.T) {
	m := spoilt(t, func(*mount) {})
	good := pack(t, m.dir)
	zipped := func(b []byte) []byte {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		return z.Bytes()
	}
	entry := func(h *tar.Header, body string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(h)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
		return b.Bytes()
	}
	unfinished := good[:len(good)-1024] // without the two blocks at the end
	for name, test := range map[string]struct{ in, want string }{
		"empty":                    {"", "the file is empty"},
		"text":                     {"hello", "not a tar file"},
		"zeros":                    {string(make([]byte, 10240)), "not a tar file"},
		"gzip cut short":           {string(zipped(good)[:len(good)/2]), "cannot decompress"},
		"gzip bomb":                {string(zipped(make([]byte, 64<<20))), "not a tar file"},
		"zstd":                     {"\x28\xb5\x2f\xfd" + strings.Repeat("\x00", 600), "cannot decompress"},
		"xz":                       {"\xfd7zXZ\x00" + strings.Repeat("\x00", 600), "compressed with xz"},
		"bzip2":                    {"BZh61AY&SY" + strings.Repeat("\x00", 600), "compressed with bzip2"},
		"cut in a header":          {string(good[:700]), "not a tar file"},
		"cut in a blob":            {string(good[:len(good)/2]), "cut short"},
		"no index.json":            {string(entry(&tar.Header{Name: "x", Mode: 0o644, Size: 1}, "x")), "not an OCI archive"},
		"index.json in the parent": {string(entry(&tar.Header{Name: "../index.json", Mode: 0o644, Size: 2}, "{}")), "not an OCI archive"},
		"index.json at the root":   {string(entry(&tar.Header{Name: "/index.json", Mode: 0o644, Size: 2}, "{}")), "not an OCI archive"},
		"index.json is a link":     {string(entry(&tar.Header{Name: "index.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, "")), "not an OCI archive"},
		"a header with 10 GiB":     {string(entry(&tar.Header{Name: "index.json", Mode: 0o644, Size: 10 << 30}, "{}")), "cut short"},
		"twice":                    {string(unfinished) + string(entry(&tar.Header{Name: "./index.json", Mode: 0o644, Size: 2}, "{}")), "twice"},
		"docker archive":           {string(entry(&tar.Header{Name: "manifest.json", Mode: 0o644, Size: 2}, "[]")), "not an OCI archive"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.tar")
			m.must(os.WriteFile(file, []byte(test.in), 0o600))
			if err := use(t, &ociArchive{File: file}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if name == "empty" { // an empty file may be written
				return
			}
			if err := (&ociArchive{File: file}).Put(t.Context(), "v2", makeImage(t, "linux/amd64", 10)); err == nil || hintOf(err) == "" {
				t.Errorf("the file was overwritten: %v, hint %q", err, hintOf(err))
			}
		})
	}
	for _, path := range []string{m.dir, "/dev/null"} {
		if err := use(t, &ociArchive{File: path}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	m.must(syscall.Mkfifo(pipe, 0o600))
	if err := use(t, &ociArchive{File: pipe}); err == nil {
		t.Error("a pipe was read")
	}
}

// A graph of indexes with 10²¹ paths is read once for each digest. A graph that is too deep
// is an error.
func TestDAG(t *testing.T) {
	for _, test := range []struct {
		levels, wide int
		want         string
	}{{7, 1000, ""}, {1000, 2, "nested more than 8 deep"}} {
		m := spoilt(t, func(*mount) {})
		child := m.own.String()
		size, kind := int64(0), imageType
		info, err := os.Stat(m.path(m.own))
		m.must(err)
		size = info.Size()
		for range test.levels {
			one := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, kind, child, size)
			raw := `{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(one+",", test.wide), ",") + `]}`
			h, n, err := v1.SHA256(strings.NewReader(raw))
			m.must(err)
			m.must(os.WriteFile(m.path(h), []byte(raw), 0o600))
			child, size, kind = h.String(), n, indexType
		}
		m.entry(func(e map[string]any) { e["digest"], e["size"], e["mediaType"] = child, size, indexType })
		err = use(t, &ociLayout{Dir: m.dir})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%d levels: %v", test.levels, err)
		}
	}
}

// Whatever index.json contains, nothing outside the layout is read, and all content that is
// read has its digest.
func FuzzIndex(f *testing.F) {
	f.Add(`{"manifests":[` + oneChild + `]}`)
	f.Add(`{"manifests":[{"digest":"sha256:../../../etc/passwd","size":10}]}`)
	f.Add(`{"schemaVersion":2,"manifests":[]}`)
	f.Add(`{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[],"manifests":[]}`)
	dir := f.TempDir()
	l := &ociLayout{Dir: dir}
	img := makeImage(f, "linux/amd64", 100)
	put(f, l, "v1", img)
	raw, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := l.Get(t.Context(), "")
		if err != nil {
			return
		}
		if own, ok := c.(v1.Image); !ok || digestOf(t, own) != digestOf(t, img) || validate.Image(own) != nil {
			t.Errorf("%q gave %v", text, c)
		}
	})
}
