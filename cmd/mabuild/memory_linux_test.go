//go:build !race

// The race detector uses up to ten times as much memory: `make race` runs these tests
// without it.

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// check reads 10 MB of manifests in 150 MB, although their trees need twenty times their bytes.
func TestBudgetOfCheck(t *testing.T) {
	var text strings.Builder
	for i := 0; text.Len() < 10_000_000; i++ {
		fmt.Fprintf(&text, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app-%d, labels: {app: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: app\n        image: \"127.0.0.1:1/acme/app:v1\"\n        env:\n        - {name: A, value: \"b\"}\n        resources: {requests: {cpu: 100m, memory: 64Mi}}\n", i)
	}
	cmd := exec.CommandContext(t.Context(), "mabuild", "check", "-", "--format", "json="+filepath.Join(t.TempDir(), "out.json"))
	cmd.Stdin = strings.NewReader(text.String())
	cmd.Env = append(os.Environ(), "MABUILD_CACHE="+filepath.Join(t.TempDir(), ".cache"), memoryLimit+"=", garbage+"=")
	must(t, cmd.Start())
	most, done := make(chan int), make(chan struct{})
	go func() { most <- peak(cmd.Process.Pid, done) }()
	err := cmd.Wait()
	close(done)
	if used := <-most; err != nil || used > 150 || used < 20 {
		t.Errorf("check needs %d MB, want 20 to 150: %v", used, err)
	}
}

// A push of large programs with a large base uses at most 64 MB, without the compilers.
func TestPushIsSmallerThanWhatItPushes(t *testing.T) {
	r := roomyRegistry(t)
	dir := t.TempDir()
	noise := make([]byte, 36<<20)
	_, _ = rand.New(rand.NewSource(1)).Read(noise) // never fails
	for name, content := range map[string][]byte{
		"go.mod":  []byte("module example.com/large\n\ngo 1.26\n"),
		"main.go": []byte("package main\n\nimport _ \"embed\"\n\n//go:embed noise\nvar noise []byte\n\nfunc main() { println(len(noise)) }\n"),
		"noise":   noise,
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	push := func(tag string, more ...string) int {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "mabuild", append([]string{"push", "--platforms", "linux/amd64,linux/arm64", "-t", r.Host + "/" + tag}, more...)...)
		var out bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		cmd.Env = append(os.Environ(), "MABUILD_CACHE="+filepath.Join(dir, ".cache"), "MABUILD_CACHE_KEY=of the test", memoryLimit+"=", garbage+"=")
		must(t, cmd.Start())
		most := make(chan int)
		done := make(chan struct{})
		go func() { most <- peak(cmd.Process.Pid, done) }()
		err := cmd.Wait()
		close(done)
		mb := <-most
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		return mb
	}
	const limit = 64
	for _, c := range []struct {
		what string
		mb   int
	}{
		{"programs of 36 MiB", push("large:v1")},
		{"again, onto a base of them", push("larger:v1", "--base", r.Host+"/large:v1")},
	} {
		t.Logf("%s: %d MB", c.what, c.mb)
		if c.mb == 0 || c.mb > limit {
			t.Errorf("%s: %d MB, at most %d are wanted", c.what, c.mb, limit)
		}
	}
}

// roomyRegistry starts a registry that stores in files: one that stores in the judge's
// memory copies a blob once more with each piece of it that arrives.
func roomyRegistry(t *testing.T) *regtest.Registry {
	t.Helper()
	return regtest.Start(t, regtest.Options{Dir: t.TempDir()})
}

// peak returns the most memory, in MB, that a process had until done. What wait4
// says of it includes its compilers.
func peak(pid int, done <-chan struct{}) (most int) {
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, text, ok := strings.Cut(string(raw), "VmHWM:"); ok && err == nil {
			if kib, err := strconv.Atoi(strings.Fields(text)[0]); err == nil {
				most = max(most, kib<<10/1_000_000)
			}
		}
		select {
		case <-done:
			return most
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Any base takes 128 MB at most, whether it is refused or is as large as may be.
func TestHostileBasesAreSmall(t *testing.T) {
	r := roomyRegistry(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module example.com/small\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() {}\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	const limit = 128
	for _, c := range hostileBases(t) {
		ref := r.Host + "/" + c.name
		img, err := mutate.AppendLayers(empty.Image, static.NewLayer(c.layer, c.kind))
		must(t, err)
		config, err := img.ConfigFile()
		must(t, err)
		config.OS, config.Architecture = "linux", "amd64"
		img, err = mutate.ConfigFile(img, config)
		must(t, err)
		tag, err := name.ParseReference(ref)
		must(t, err)
		must(t, remote.Write(tag, img))
		for _, run := range []string{"first", "again"} { // from the cache
			cmd := exec.CommandContext(t.Context(), "mabuild", append([]string{"push", "--platforms", "linux/amd64", "--base", ref, "-t", ref + "-app:" + run}, c.args...)...)
			var out bytes.Buffer
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
			cmd.Env = append(os.Environ(), "MABUILD_CACHE="+filepath.Join(dir, ".cache"), "MABUILD_CACHE_KEY=of the test", memoryLimit+"=", garbage+"=")
			must(t, cmd.Start())
			most, done := make(chan int), make(chan struct{})
			go func() { most <- peak(cmd.Process.Pid, done) }()
			err := cmd.Wait()
			close(done)
			mb := <-most
			t.Logf("%s, %s: %d KB compressed, %d MB, exit %d", c.name, run, len(c.layer)/1000, mb, cmd.ProcessState.ExitCode())
			if code := cmd.ProcessState.ExitCode(); code != c.exit {
				t.Errorf("%s: %v, want exit %d\n%.2000s", c.name, err, c.exit, &out)
			}
			if digest, err := static.NewLayer(c.layer, c.kind).Digest(); c.exit == exitContent && (err != nil || !strings.Contains(out.String(), digest.String())) {
				t.Errorf("%s: no digest of the layer in\n%.2000s", c.name, &out)
			}
			if mb == 0 || mb > limit {
				t.Errorf("%s: %d MB, at most %d are wanted", c.name, mb, limit)
			}
		}
	}
}

type hostileBase struct {
	name  string
	layer []byte
	kind  types.MediaType
	args  []string
	exit  int
}

// A filler writes an archive, as headers with contents or as raw blocks.
type filler func(add func(h tar.Header, content string), raw io.Writer)

// numbered writes n empty files. Each name is prefix and a number with that many digits. The
// tar writer would take most of the time of the test.
func numbered(t *testing.T, raw io.Writer, n int, prefix string, digits int) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	name := prefix + strings.Repeat("0", digits)
	must(t, errors.Join(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg}), w.Flush()))
	at := bytes.Index(b.Bytes(), []byte(name)) // in the extended header, which has no checksum
	if at < 0 {
		t.Fatalf("a name of %d bytes needs no extended header", len(name))
	}
	for i := range n {
		copy(b.Bytes()[at+len(prefix):], fmt.Sprintf("%08d", i))
		_, err := raw.Write(b.Bytes())
		must(t, err)
	}
}

// hostileBases returns bases that used a lot of memory, and those at the bounds.
func hostileBases(t *testing.T) []hostileBase {
	t.Helper()
	passwd := "root:x:0:0:root:/root:/bin/sh\nbob:x:1:1::/:/bin/sh\n"
	user, sbom := []string{"--user", "bob"}, []string{"--sbom", "spdx", "--sbom-base"}
	pack := func(kind types.MediaType, fill filler) []byte {
		var b bytes.Buffer
		var z io.WriteCloser
		var err error
		if kind == types.OCILayerZStd {
			z, err = zstd.NewWriter(&b, zstd.WithWindowSize(rootfs.MaxWindow), zstd.WithEncoderConcurrency(1))
		} else {
			z, err = gzip.NewWriterLevel(&b, gzip.BestSpeed)
		}
		must(t, err)
		w := tar.NewWriter(z)
		fill(func(h tar.Header, content string) {
			h.Typeflag, h.Size = cmp.Or(h.Typeflag, tar.TypeReg), int64(len(content))
			must(t, w.WriteHeader(&h))
			_, err := io.WriteString(w, content)
			must(t, errors.Join(err, w.Flush()))
		}, z)
		must(t, errors.Join(w.Close(), z.Close()))
		return b.Bytes()
	}
	// Names are longer than a header has room for: it takes few of them to fill the tree.
	files := func(n int) filler {
		return func(add func(tar.Header, string), raw io.Writer) {
			add(tar.Header{Name: "etc/passwd"}, passwd)
			numbered(t, raw, n, "usr/lib/", 1000)
		}
	}
	// The largest window and tree, and headers that the tar reader takes as they are.
	all := func(add func(tar.Header, string), raw io.Writer) {
		files(47_500)(add, raw)
		records := map[string]string{}
		for i := range 75_000 {
			records[fmt.Sprintf("A.%d", i)] = "x"
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		must(t, w.WriteHeader(&tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Size: int64(len(passwd)), PAXRecords: records}))
		_, err := io.WriteString(w, passwd)
		must(t, errors.Join(err, w.Flush()))
		for range 8 {
			_, err := raw.Write(b.Bytes())
			must(t, err)
		}
	}
	status := func(n int, of string) filler {
		return func(add func(tar.Header, string), _ io.Writer) {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, of, i)
			}
			add(tar.Header{Name: "var/lib/dpkg/status"}, b.String())
		}
	}
	return []hostileBase{
		{"names", pack(types.OCILayer, func(_ func(tar.Header, string), raw io.Writer) {
			numbered(t, raw, 300, "", 1_000_000)
		}), types.OCILayer, user, exitContent},
		{"link", pack(types.OCILayer, func(add func(tar.Header, string), _ io.Writer) {
			add(tar.Header{Name: "etc", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("a/", 500_000)}, "")
		}), types.OCILayer, user, exitContent},
		{"files", pack(types.OCILayer, files(47_500)), types.OCILayer, user, 0},
		{"more-files", pack(types.OCILayer, files(100_000)), types.OCILayer, user, exitContent},
		{"window", pack(types.OCILayerZStd, all), types.OCILayerZStd, user, 0},
		{"large-window", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 19 << 3, 1, 0, 0}, types.OCILayerZStd, user, exitContent},
		{"packages", pack(types.OCILayer, status(18_000, "Package: package-%06d\nVersion: 1.2.3-4\n\n")), types.OCILayer, sbom, 0},
		{"more-packages", pack(types.OCILayer, status(1_000_000, "Package: %d\nVersion: 1\n\n")), types.OCILayer, sbom, exitContent},
		{"large-packages", pack(types.OCILayer, status(60_000, "Package: %d\nVersion: 1\nSource: "+strings.Repeat("x", 2000)+"\n\n")), types.OCILayer, sbom, exitContent},
	}
}
