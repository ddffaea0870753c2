package build_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// After a change of a file, the compiler starts before the go command has said what the package
// is, and what its settings are. What it says counts: an error of it, another package, and other
// settings.
func TestPackageIsAskedForWhileTheCompilerRuns(t *testing.T) {
	w := newWorld(t, 1)
	real, err := exec.LookPath("go")
	w.must(err)
	real, err = filepath.EvalSymlinks(real)
	w.must(err)
	// All go commands are this one. Finding the package and the settings takes long. It says what
	// the file answer says, if there is one, and -tags of the file tags. The log has when that ends,
	// and when the others begin.
	w.write("go/bin/go", `#!/bin/sh
case "$*" in
"env "*) sleep 0.5; `+real+` "$@" | sed 's|"GOROOT": "[^"]*"|"GOROOT": "`+w.at("go")+`"|; s|"GOFLAGS": "[^"]*"|"GOFLAGS": "'"$(cat `+w.at("tags")+` 2>/dev/null)"'"|'; echo env >>`+w.at("log")+`; exit 0;;
"list -e -find "*) sleep 0.5; ! cat `+w.at("answer")+` 2>/dev/null || exit 0;;
esac
[ "$1" = list ] || echo "$1" >>`+w.at("log")+`
`+real+` "$@"
code=$?
[ "$1" != list ] || echo "$1" >>`+w.at("log")+`
exit $code
`)
	w.must(os.Chmod(w.at("go/bin/go"), 0o755), os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(real)), "pkg"), w.at("go/pkg")))
	cache := t.TempDir()
	run := func(cache string) (digest string, logged string, err error) {
		t.Helper()
		time.Sleep(60 * time.Millisecond) // past the clock's granularity
		w.must(os.RemoveAll(w.at("log")))
		s := w.spec
		s.Dir, s.Program = w.dir, build.GoPackage{}
		s.Platforms = parse(t, "linux/amd64", "linux/arm64")
		b := build.Builder{Work: t.TempDir(), Cache: cache, Go: &crosscompile.Go{Command: w.at("go/bin/go"), Environ: w.environ}}
		r, err := b.Build(t.Context(), s, build.Hooks{})
		log, lerr := os.ReadFile(w.at("log"))
		if lerr != nil && !errors.Is(lerr, fs.ErrNotExist) {
			t.Fatal(lerr)
		}
		said := strings.ReplaceAll(string(log), "\n", " ")
		if err != nil {
			return "", said, err
		}
		is, err := r.Index.Digest()
		return is.String(), said, err
	}
	if _, logged, err := run(cache); err != nil || !strings.HasPrefix(logged, "env list ") {
		t.Fatalf("the first run logged %q, %v", logged, err)
	}
	if _, logged, err := run(cache); err != nil || logged != "" {
		t.Fatalf("without a change go commands ran: %q, %v", logged, err)
	}
	w.value("app/a.go", "main", "a")
	digest, logged, err := run(cache)
	w.must(err)
	if !strings.HasPrefix(logged, "build build env ") {
		t.Errorf("after a change the go commands ran as %q, want the builds before the end of the others", logged)
	}
	if want, _, err := run(""); err != nil || digest != want {
		t.Errorf("it gives %s, and a build without a cache %s, %v", digest, want, err)
	}
	if again, logged, err := run(cache); err != nil || logged != "" || again != digest {
		t.Errorf("the build record was not stored: %q, %s, %v", logged, again, err)
	}

	// The package is not a program any more.
	w.value("app/a.go", "main", "a")
	w.write("answer", `{"ImportPath": "example.com/app", "Name": "app", "Module": {"Path": "example.com/app"}}`)
	var wrong *crosscompile.PackageError
	if _, _, err := run(cache); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "is package app, not main") {
		t.Errorf("%v, want that of the go command", err)
	}
	// It is another one: what was compiled is dropped, and nothing is recorded of it.
	w.write("answer", `{"ImportPath": "example.com/app/beside", "Name": "main", "Module": {"Path": "example.com/app"}}`)
	if _, logged, err := run(cache); err != nil || strings.Count(logged, "build") < 3 {
		t.Errorf("the go commands %q ran, %v: want the program compiled again", logged, err)
	}
	w.must(os.Remove(w.at("answer")))
	w.value("app/a.go", "main", "a")
	digest, _, err = run(cache)
	w.must(err)
	if want, _, err := run(""); err != nil || digest != want {
		t.Errorf("after another answer it gives %s, and a build without a cache %s, %v", digest, want, err)
	}

	// The settings are others, as after a change of a toolchain line: what was compiled is dropped,
	// and compiled with these.
	w.write("app/tagged.go", "//go:build tagged\n\npackage main\n\nfunc init() { println(\"tagged\") }\n")
	w.write("tags", "-tags=tagged")
	digest, logged, err = run(cache)
	w.must(err)
	if strings.Count(logged, "build") != 4 {
		t.Errorf("after other settings the go commands %q ran, want both programs compiled twice", logged)
	}
	if want, _, err := run(""); err != nil || digest != want {
		t.Errorf("after other settings it gives %s, and a build without a cache %s, %v", digest, want, err)
	}
	if again, logged, err := run(cache); err != nil || logged != "" || again != digest {
		t.Errorf("with these settings the build record was not stored: %q, %s, %v", logged, again, err)
	}
	w.value("app/a.go", "main", "a")
	if _, logged, err := run(cache); err != nil || strings.Count(logged, "build") != 2 {
		t.Errorf("the new settings are not expected: %q, %v", logged, err)
	}
}
