package smoke

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// layer returns a layer of entries, whose content is their Linkname if they are files.
func layer(t *testing.T, entries ...tar.Header) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
		}
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
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

// imageOf returns an image of layers.
func imageOf(t *testing.T, c v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.Config(img, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func file(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content}
}
func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}

// Layers apply as a runtime applies them: links of the base are followed within the image,
// whiteouts hide what lower layers have, and nothing leads out.
func TestUnpack(t *testing.T) {
	t.Parallel()
	at := t.TempDir()
	outside := at + "/outside"
	if err := os.WriteFile(outside, []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := at + "/root"
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := unpack(t.Context(), imageOf(
		t, v1.Config{},
		layer(t, dir("usr/lib"), link("lib", "/usr/lib"), file("usr/lib/old", "1"), file("gone", "1"), dir("opaque"), file("opaque/a", "1"), file("opaque/sub/a", "1"), file("anew/a", "1"),
			link("up", "../../../../"), link("host", outside), tar.Header{Name: "dev/mem", Typeflag: tar.TypeChar}, file("a/b/c", "no directories")),
		layer(t, file("lib/new", "2"), file(".wh.gone", ""), file("opaque/b", "2"), file("opaque/sub/b", "2"), file("opaque/.wh..wh..opq", ""), file("anew/sub/b", "2"), file(".wh.anew", ""), file("up/inside", "2"), dir("lib"),
			tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "usr/lib/old"}, file("host", "replaced"), file("../../escaped", "2")),
	), root, false)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for name, want := range map[string]string{
		"usr/lib/new": "2", "usr/lib/old": "1", "hard": "1", "opaque/b": "2", "opaque/sub/b": "2", "anew/sub/b": "2", "inside": "2", "host": "replaced", "escaped": "2", "a/b/c": "no directories",
		"etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
		"gone":      "", "opaque/a": "", "opaque/sub/a": "", "anew/a": "", "dev/mem": "",
	} {
		got, err := files.ReadFile(name)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if raw, err := os.ReadFile(outside); string(raw) != "host" {
		t.Errorf("outside: %q, %v", raw, err)
	}
	if entries, err := os.ReadDir(at); len(entries) != 2 {
		t.Errorf("beside the root: %v, %v", entries, err)
	}
}

// What a layer does wrong is an error, and a loop of links ends.
func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for what, l := range map[string]v1.Layer{
		"a loop of links":        layer(t, link("a", "b"), link("b", "a"), file("a/x", "")),
		"a link to nothing":      layer(t, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "none"}),
		"a link leading out":     layer(t, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/passwd"}),
		"a file as directory":    layer(t, file("a", ""), file("a/b", "")),
		"a whiteout of nothing":  layer(t, file("a/.wh.", "")),
		"a whiteout of the root": layer(t, file("a", ""), file(".wh..", "")),
	} {
		if root, err := unpack(t.Context(), imageOf(t, v1.Config{}, l), t.TempDir(), false); err == nil {
			t.Errorf("%s is accepted", what)
			_ = root.Close()
		}
	}
}

// The command is what a runtime starts: PATH, user, group and directory are those of the image.
func TestCommand(t *testing.T) {
	t.Parallel()
	base := layer(t, file("etc/passwd", "root:x:0:0::/:\nweb:x:33:34::/:\n"), file("etc/group", "root:x:0:\nstaff:x:50:\n"), file("usr/bin/app", "x"), link("bin", "usr/bin"))
	for what, c := range map[string]struct {
		config v1.Config
		want   command
		err    string
	}{
		"a path":               {v1.Config{Entrypoint: []string{"/usr/bin/app", "a"}, User: "65532"}, command{Argv: []string{"/usr/bin/app", "a"}, Dir: "/", UID: 65532}, ""},
		"a name in PATH":       {v1.Config{Entrypoint: []string{"app"}, Env: []string{"PATH=/nowhere:/bin"}, User: "web"}, command{Argv: []string{"/bin/app"}, Dir: "/", UID: 33, GID: 34}, ""},
		"relative":             {v1.Config{Entrypoint: []string{"./app"}, WorkingDir: "/bin", User: "33"}, command{Argv: []string{"/bin/app"}, Dir: "/bin", UID: 33, GID: 34}, ""},
		"a group":              {v1.Config{Entrypoint: []string{"/usr/bin/app"}, WorkingDir: "/srv/new", User: "web:staff"}, command{Argv: []string{"/usr/bin/app"}, Dir: "/srv/new", UID: 33, GID: 50}, ""},
		"an unknown user":      {v1.Config{Entrypoint: []string{"/usr/bin/app"}, User: "nobody"}, command{}, `the image has no user "nobody"`},
		"an unknown group":     {v1.Config{Entrypoint: []string{"/usr/bin/app"}, User: "0:nobody"}, command{}, `the image has no group "nobody"`},
		"a file as directory":  {v1.Config{Entrypoint: []string{"/usr/bin/app"}, WorkingDir: "/usr/bin/app/x"}, command{}, "the working directory cannot be made"},
		"a name of no program": {v1.Config{Entrypoint: []string{"none"}}, command{Argv: []string{"none"}, Dir: "/"}, ""},
	} {
		root, err := unpack(t.Context(), imageOf(t, c.config, base), t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := commandOf(root, c.config, c.config.Entrypoint)
		_ = root.Close()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil || strings.Join(got.Argv, " ") != strings.Join(c.want.Argv, " ") || got.Dir != c.want.Dir || got.UID != c.want.UID || got.GID != c.want.GID {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// An emulator counts if the kernel would use it: enabled, with the flag F, for this machine.
func TestEmulated(t *testing.T) {
	t.Parallel()
	const arm64 = "enabled\ninterpreter /usr/bin/qemu\nflags: PF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	for what, c := range map[string]struct {
		entry, arch string
		want        bool
	}{
		"its own":         {arm64, "arm64", true},
		"another machine": {arm64, "s390x", false},
		"disabled":        {strings.Replace(arm64, "enabled", "disabled", 1), "arm64", false},
		"without F":       {strings.Replace(arm64, "PF", "P", 1), "arm64", false},
		"by extension":    {"enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n", "arm64", false},
		"garbage":         {"enabled\nflags: F\noffset 9999\nmagic zz", "arm64", false},
		"unknown":         {arm64, "wasm", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/entry", []byte(c.entry), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := emulated(c.arch, dir); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
	if why := unable(ocispec.Platform{OS: "windows", Architecture: "amd64"}); why == "" {
		t.Error("containers of Windows are started")
	}
}

// A test that cannot be made is an error of usage.
func TestCheckTest(t *testing.T) {
	t.Parallel()
	for _, test := range []Test{{Expect: "("}, {Alive: time.Minute, Timeout: time.Second}} {
		if err := test.Check(); !errors.Is(err, hint.Usage) {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if err := (Test{Expect: "^v[0-9]", Alive: time.Second, Timeout: time.Minute}).Check(); err != nil {
		t.Error(err)
	}
}

// Of endless output the first and the last lines are shown, safe to print.
func TestOutput(t *testing.T) {
	t.Parallel()
	o := newOutput()
	for range 100_000 {
		_, _ = o.Write([]byte("line\x1b[31m\n"))
	}
	_, _ = o.Write([]byte("the last\n"))
	text := o.shown()
	if strings.Contains(text, "\x1b") || !strings.HasSuffix(text, "\n  the last") || strings.Count(text, "\n") != maxFirst+maxLast || len(o.first()) != maxOutput {
		t.Errorf("got %q", text)
	}
	if got := newOutput().shown(); got != "" {
		t.Errorf("got %q", got)
	}
}
