package intree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/regtest"
)

// Resolve accepts a path whose target, after all links, is inside the tree.
func TestResolve(t *testing.T) {
	outside := t.TempDir()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	regtest.Lay(t, dir, map[string]string{
		"a/file": "in", "a/up": "-> ../b", "b/file": "in", "out": "-> " + outside, "far": "-> ../../../../../../../../etc",
		"proc": "-> /proc/self", "abs": "-> " + dir + "/b", "loop": "-> loop", "hidden": "-> .git", ".git/config": "token", "sub/.git": "gitdir: x",
		"chain": "-> a/up", "dangling": "-> missing/x", "away": "-> missing/../../x", "deep/er": "-> ../../..",
	})
	tree, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for path, want := range map[string]any{
		"": ".", "a/file": "a/file", "a/up/file": "b/file", "a/../b": "b", "abs/file": "b/file", "chain/file": "b/file", "new/deep": "new/deep",
		"dangling": "missing/x", "a/up/../file": "a/file", "a/file/below": syscall.ENOTDIR, "..x": "..x",
		"out": ErrOutside, "out/x": ErrOutside, "far/passwd": ErrOutside, "proc/environ": ErrOutside, "..": ErrOutside, "../x": ErrOutside,
		"away": ErrOutside, "deep/er/x": ErrOutside, "loop": syscall.ELOOP,
		".git/config": ErrGit, "hidden/config": ErrGit, "sub/.git": ErrGit, "a/.Git/x": ErrGit, "a/../.git": ErrGit,
	} {
		got, err := tree.Resolve(filepath.Join(dir) + "/" + path)
		if is, bad := want.(error); bad && !errors.Is(err, is) || !bad && (err != nil || got != want) {
			t.Errorf("%q: %q, %v, want %v", path, got, err, want)
		}
	}
	// The same by a path relative to the working directory, and by a link to the tree.
	t.Chdir(filepath.Join(dir, "a"))
	if got, err := tree.Resolve("../b/file"); err != nil || got != "b/file" {
		t.Errorf("%q, %v", got, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.Resolve(filepath.Join(link, "a/up/file")); err != nil || got != "b/file" {
		t.Errorf("%q, %v", got, err)
	}
	var pe *fs.PathError
	if _, err := tree.Resolve("/etc/passwd"); !errors.Is(err, ErrOutside) || !errors.As(err, &pe) || pe.Path != "/etc/passwd" {
		t.Error(err)
	}
}

// Open opens only files inside the tree.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	regtest.Lay(t, dir, map[string]string{"file": "in", "out": "-> /etc/passwd", "dir/x": ""})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]error{"file": nil, "dir": nil, "out": ErrOutside, "pipe": ErrIrregular, "none": fs.ErrNotExist} {
		f, err := tree.Open(filepath.Join(dir, name))
		if !errors.Is(err, want) || err == nil && f == nil {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if f != nil {
			f.Close()
		}
	}
}

// A tree never includes /proc, /sys or /dev, even if it is their parent directory.
func TestKernels(t *testing.T) {
	for _, dir := range []string{"/proc/self", "/dev", "/sys"} {
		if tree, err := New(dir); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %v, %v", dir, tree, err)
		}
	}
	tree, err := New("/")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, path := range []string{"/proc/self/environ", "/proc", "/dev/stdin", "/sys/x", "/etc/../proc/1/cwd"} {
		if got, err := tree.Resolve(path); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
}

// A tree in /dev/shm is a tree as any other, and a link from it to a device is refused.
func TestSharedMemory(t *testing.T) {
	t.Setenv("TMPDIR", shm)
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600), os.Symlink("/dev/null", filepath.Join(dir, "null")), os.Symlink("../null", filepath.Join(dir, "up"))); err != nil {
		t.Fatal(err)
	}
	tree, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	f, err := tree.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"null", "up", "../null", "/dev/null", shm + "/../null"} {
		if got, err := tree.Resolve(name); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// fake is the information of a file with another owner.
type fake struct {
	fs.FileInfo
	mode fs.FileMode
	uid  uint32
}

func (f fake) Mode() fs.FileMode { return f.mode }
func (f fake) Sys() any          { return &syscall.Stat_t{Uid: f.uid} }

// A file is foreign if another user could have put it into a directory that others can
// write to.
func TestForeign(t *testing.T) {
	me, root, other, third := uint32(os.Geteuid()), uint32(0), uint32(4242), uint32(4243)
	for _, test := range []struct {
		dir   fs.FileMode
		above uint32
		file  uint32
		want  bool
	}{
		{0o755, me, me, false},
		{0o755, other, other, false}, // like a checkout in a container
		{0o777, me, me, false},
		{0o777, root, root, false},
		{0o777, root, other, true},
		{0o777 | fs.ModeSticky, root, other, true},
		{0o777, other, other, true},
		{0o775, other, other, false},
		{0o775, me, other, true},
		{0o775, other, third, true},
		{0o775, other, me, false},
	} {
		if got := foreign(fake{mode: 0o644, uid: test.file}, fake{mode: fs.ModeDir | test.dir, uid: test.above}); got != test.want {
			t.Errorf("%v of %d, file of %d: %v", test.dir, test.above, test.file, got)
		}
	}
}

// Root returns the directory of the repository or module that contains a path.
func TestRoot(t *testing.T) {
	dir := t.TempDir()
	regtest.Lay(t, dir, map[string]string{"r/.git/HEAD": "", "r/m/go.mod": "", "r/m/cmd/x": "", "m/go.mod": "", "m/cmd/x": "", "free/x/y": ""})
	for at, want := range map[string][2]string{
		"r": {"r", "r"}, "r/m/cmd": {"r", "r/m"}, "m/cmd": {"m", "m"}, "free/x": {"free/x", "free/x"}, "m/none": {"m", "m"},
	} {
		root, err := Root(filepath.Join(dir, at))
		near, nerr := Nearest(filepath.Join(dir, at))
		if err != nil || nerr != nil || root != filepath.Join(dir, want[0]) || near != filepath.Join(dir, want[1]) {
			t.Errorf("%s: %s, %s, %v, %v", at, root, near, err, nerr)
		}
	}
}

// disown gives the files to another user. Only root can do that; otherwise the test changes
// the user that the package compares with.
func disown(t *testing.T, paths ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		self = func() int { return os.Geteuid() + 1 }
		t.Cleanup(func() { self = os.Geteuid })
		return
	}
	for _, path := range paths {
		if err := os.Lchown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
}

// Files of another user, in a directory that all users can write to, do not make it the
// root of a project below it, and are not accepted as the user's own.
func TestFilesOfAnotherUser(t *testing.T) {
	shared := t.TempDir()
	regtest.Lay(t, shared, map[string]string{".git/HEAD": "", "go.mod": "", "file": "", "link": "-> file", "mine/sub/x": ""})
	if err := os.Chmod(shared, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(shared, "mine", "sub")
	if root, err := Root(mine); err != nil || root != shared {
		t.Fatalf("%s, %v: the root was not found before the change of owner", root, err)
	}
	disown(t, filepath.Join(shared, ".git"), filepath.Join(shared, "go.mod"), filepath.Join(shared, "file"), filepath.Join(shared, "link"))
	root, err := Root(mine)
	near, nerr := Nearest(mine)
	if err != nil || nerr != nil || root != mine || near != mine {
		t.Errorf("%s, %s, %v, %v", root, near, err, nerr)
	}
	for _, name := range []string{"file", "link"} {
		if err := Owned(filepath.Join(shared, name)); hint.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Owned(filepath.Join(shared, "none")); err != nil {
		t.Error(err)
	}
}

// Open never reads a file outside the tree, whatever the path and its links are, and even
// if the links change during the call.
func FuzzInTree(f *testing.F) {
	f.Add("a/b/file", "../../../outside", "/proc/self")
	f.Add("x/secret", "../outside", "..")
	f.Add("x/x/secret", "inside", "../outside/.")
	f.Add("x/../../outside/secret", "a", "b")
	f.Add(".git/config", ".git", "x")
	f.Fuzz(func(t *testing.T, path, one, two string) {
		if strings.Contains(path+one+two, "\x00") || one == "" || two == "" || len(path+one+two) > 300 {
			return
		}
		top := t.TempDir()
		regtest.Lay(t, top, map[string]string{
			"outside/secret": "secret", "outside/file": "secret", "tree/inside/secret": "in", "tree/file": "in", "tree/secret": "in", "tree/.git/config": "secret",
		})
		dir := filepath.Join(top, "tree")
		tree, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		links := []string{"x", "a", "inside/x"}
		relink := func(to string) {
			for _, link := range links {
				at := filepath.Join(dir, link)
				_ = os.Symlink(to, at+".new")
				_ = os.Rename(at+".new", at)
			}
		}
		relink(one)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 20 {
				relink([]string{two, one, filepath.Join(top, "outside"), "inside"}[i%4])
			}
		}()
		for range 20 {
			file, err := tree.Open(filepath.Join(dir, path))
			if err != nil {
				continue
			}
			content, _ := io.ReadAll(io.LimitReader(file, 100)) // a directory cannot be read
			file.Close()
			if string(content) == "secret" {
				t.Errorf("%q was read through %q and %q", path, one, two)
			}
		}
		<-done
		if got, err := tree.Resolve(filepath.Join(dir, path)); err == nil && !filepath.IsLocal(got) {
			t.Errorf("%q is %q", path, got)
		}
	})
}

// The same for the most important links, for long enough that they change between the check
// and the open.
func TestLinksThatChange(t *testing.T) {
	top := t.TempDir()
	regtest.Lay(t, top, map[string]string{"outside/f": "secret", "tree/in/f": "in", "tree/.git/f": "secret"})
	dir := filepath.Join(top, "tree")
	tree, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < 3000; i++ {
			to := []string{"in", "../outside", filepath.Join(top, "outside")}[i%3]
			_ = os.Symlink(to, filepath.Join(dir, "new"))
			_ = os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "x"))
		}
	}()
	var read, refused int
	for deadline := time.Now().Add(time.Minute); ; {
		file, err := tree.Open(filepath.Join(dir, "x/f"))
		if err == nil {
			content, rerr := io.ReadAll(file)
			file.Close()
			if rerr != nil || string(content) != "in" {
				t.Fatalf("%s, %v", content, rerr)
			}
			read++
		} else {
			refused++
		}
		select {
		case <-done:
			if read == 0 || refused == 0 {
				t.Errorf("%d read, %d refused: the links did not change in time", read, refused)
			}
			return
		default:
			if time.Now().After(deadline) {
				t.Fatal("the test does not end")
			}
		}
	}
}
