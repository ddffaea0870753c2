package crosscompile_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// deadProxy returns the address of a module proxy that is not running.
func deadProxy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://ann:s3cret@" + l.Addr().String()
}

// An unreachable module proxy and a missing module are different errors, whatever other
// proxies GOPROXY lists before or after it.
func TestModuleProxyIsNotThere(t *testing.T) {
	dead, empty := deadProxy(t), "file://"+filepath.ToSlash(t.TempDir())
	for _, one := range []struct {
		proxies string
		known   bool // that the module does not exist
	}{
		{dead, false},
		{dead + ",direct", false},
		{dead + "," + empty, false},
		{empty + "," + dead, false},
		{empty + "|" + dead + "|direct", false},
		{empty, true},
		{empty + ",off", true},
		{dead + "|" + empty, true},
		{"off", true},
	} {
		for _, pattern := range []string{"example.com/a/B@v1.2.3", "example.com/a/v2@latest", "example.com/a@v1", "example.com/a@main"} {
			g := &crosscompile.Go{Environ: append(os.Environ(), "GOPROXY="+one.proxies, "GOSUMDB=off", "GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GONOPROXY=", "GOPRIVATE=")}
			scratch := t.TempDir()
			_, err := g.Find(t.Context(), crosscompile.Query{Pattern: pattern, Scratch: scratch})
			var pe *crosscompile.PackageError
			if !errors.As(err, &pe) || pe.Unreachable == one.known || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s from %s: %T %[3]v", pattern, one.proxies, err)
			}
			if pe != nil && pe.Unreachable && (!strings.Contains(pe.Hint(), "GOPROXY="+strings.ReplaceAll(one.proxies, "ann:s3cret@", "")) || !strings.Contains(pe.Error(), pattern)) {
				t.Errorf("%v, hint %q", pe, pe.Hint())
			}
			if left, err := filepath.Glob(filepath.Join(scratch, "*", "proxy-*")); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		}
	}
}

// A PackageError tells a go.mod that cannot be read from required modules that cannot be
// fetched.
func TestErrorsOfTheMainModule(t *testing.T) {
	for name, one := range map[string]struct {
		mod     string
		mistake bool
	}{
		"needs what cannot be fetched": {"module example.com/app\n\ngo 1.16\n\nrequire example.com/dep v1.0.0\n", false},
		"broken":                       {"module example.com/app\n\nrequires\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"go.mod": one.mod, "main.go": mainGo})
			g := &crosscompile.Go{Environ: append(os.Environ(), "GOPROXY="+deadProxy(t), "GOSUMDB=off", "GOMODCACHE="+t.TempDir(), "GOFLAGS=-mod=mod")}
			_, err := g.Find(t.Context(), crosscompile.Query{Pattern: ".", Dir: dir, Scratch: t.TempDir()})
			if pe := (*crosscompile.PackageError)(nil); !errors.As(err, &pe) || pe.Unreachable == one.mistake {
				t.Errorf("got %T %[1]v", err)
			}
		})
	}
}
