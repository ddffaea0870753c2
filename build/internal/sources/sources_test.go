package sources

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/regtest"
)

// No source file may be a link out of the tree or include a file outside it.
func TestSourcesStayInTheTree(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files map[string]string // the prefix "-> " makes a link
		bad   string
	}{
		"plain":                  {map[string]string{"a.s": "#include \"textflag.h\"\n#include \"local.h\"\n", "local.h": "#define X 1\n"}, ""},
		"link":                   {map[string]string{"b.go": "-> " + secret}, "b.go"},
		"link of the system":     {map[string]string{"b.go": "-> /proc/self/environ"}, "b.go"},
		"go.sum":                 {map[string]string{"go.sum": "-> " + secret}, "go.sum"},
		"go.work":                {map[string]string{"go.work": "-> " + secret}, "go.work"},
		"link within":            {map[string]string{"b.go": "-> lib/c.go", "lib/c.go": "package c\n"}, ""},
		"other link":             {map[string]string{"node_modules": "-> " + filepath.Dir(secret)}, ""},
		"absolute":               {map[string]string{"a.s": "#include \"" + secret + "\"\n"}, "a.s includes"},
		"dots":                   {map[string]string{"a.s": "#include \"../../../../etc/passwd\"\n"}, "a.s includes"},
		"dots to nowhere":        {map[string]string{"sub/a.s": "#include \"../none.h\"\n"}, "a.s includes"},
		"escaped":                {map[string]string{"a.s": "#include \"\\x2fetc\\x2fpasswd\"\n"}, "a.s includes"},
		"blanks":                 {map[string]string{"a.s": "# /* x\n */ include \t\"/etc/passwd\"\n"}, "a.s includes"},
		"continued":              {map[string]string{"a.s": "#\\\ninclude \"/etc/passwd\"\n"}, "a.s includes"},
		"through a file":         {map[string]string{"a.s": "#include \"b.inc\"\n", "b.inc": "#include \"c.inc\"\n", "c.inc": "#include \"/etc/passwd\"\n"}, "c.inc includes"},
		"through a link":         {map[string]string{"a.s": "#include \"b.inc\"\n", "b.inc": "-> " + secret}, "a.s includes"},
		"in a loop":              {map[string]string{"a.s": "#include \"a.s\"\n"}, ""},
		"another module":         {map[string]string{"other/go.mod": "module other\n", "other/a.s": "#include \"/etc/passwd\"\n"}, ""},
		"a directory as go.mod":  {map[string]string{"other/go.mod/x": "", "other/a.s": "#include \"/etc/passwd\"\n"}, "a.s includes"},
		"a used module":          {map[string]string{"other/go.mod": "module other\n", "other/a.s": "#include \"/etc/passwd\"\n", "go.work": "go 1.26\n\nuse (\n\t.\n\t./other\n)\n"}, "a.s includes"},
		"a vendored module":      {map[string]string{"vendor/x/go.mod": "module x\n", "vendor/x/a.s": "#include \"/etc/passwd\"\n"}, "a.s includes"},
		"vendored":               {map[string]string{"vendor/x/a.s": "#include \"/etc/passwd\"\n"}, "a.s includes"},
		"a linked package":       {map[string]string{"priv": "-> " + filepath.Dir(secret), "main.go": "package main\n\nimport _ \"example.com/app/pr\\x69v\"\n\nfunc main() {}\n"}, "priv is outside"},
		"below a linked package": {map[string]string{"priv": "-> " + filepath.Dir(secret), "main.go": "package main\n\nimport _ `example.com/app/priv/x`\n\nfunc main() {}\n"}, "priv is outside"},
		"a link beside packages": {map[string]string{"bazel-out": "-> " + filepath.Dir(secret), "sub/bazel-bin": "-> /usr"}, ""},
		"a linked vendor":        {map[string]string{"vendor": "-> " + filepath.Dir(secret)}, "vendor is outside"},
		"a package within":       {map[string]string{"pkg": "-> hidden/pkg", "hidden/pkg/a.s": "#include \"/etc/passwd\"\n"}, "a.s includes"},
		"a loop of directories":  {map[string]string{"sub/up": "-> ..", "sub/x.go": "package sub\n"}, ""},
		"git's":                  {map[string]string{"a.s": "#include \".git/config\"\n", ".git/config": "token"}, "a.s includes"},
	} {
		dir := t.TempDir()
		test.files["go.mod"] = "module example.com/app\n\ngo 1.26\n"
		if test.files["main.go"] == "" {
			test.files["main.go"] = "package main\n\nfunc main() {}\n"
		}
		regtest.Lay(t, dir, test.files)
		err := Check(&crosscompile.Go{}, []string{dir}, dir, ".")
		var se *specerr.Error
		if test.bad == "" && err != nil || test.bad != "" && (!errors.As(err, &se) || !strings.Contains(se.Reason, test.bad)) {
			t.Errorf("%s: %v", name, err)
		}
		// Nothing is refused in a library that trusts its sources, or if the user allows
		// the directory.
		for _, within := range [][]string{nil, {dir, "/"}} {
			err := Check(&crosscompile.Go{}, within, dir, ".")
			if within == nil && err != nil || name == "link" && err != nil {
				t.Errorf("%s within %v: %v", name, within, err)
			}
		}
	}
}

// A package path that is written as inside the tree must be inside it. A path that is
// written as outside is accepted, since the user chose it.
func TestNamedPackagesStayInTheTree(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "tree"), filepath.Join(top, "outside")
	for name, content := range map[string]string{"tree/go.mod": "module example.com/app\n", "tree/sub/x.go": "package x\n", "outside/cmd/main.go": "package main\n", "outside/go.mod": "module example.com/o\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755), os.WriteFile(filepath.Join(top, name), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "lout")); err != nil {
		t.Fatal(err)
	}
	for pkg, fine := range map[string]bool{
		".": true, "./sub": true, "./...": true, "example.com/app/sub": true, "../outside/cmd": true, outside + "/cmd": true, "example.com/x@v1.0.0": true,
		"./lout/cmd": false, "./lout/...": false, "example.com/app/lout/cmd": false, "example.com/app/lout/...": false, dir + "/lout/cmd": false, "./lout": false,
	} {
		var se *specerr.Error
		if err := Check(&crosscompile.Go{}, []string{dir}, dir, pkg); fine && err != nil || !fine && !errors.As(err, &se) {
			t.Errorf("%s: %v", pkg, err)
		}
	}
}
