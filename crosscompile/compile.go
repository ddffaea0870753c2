// Package crosscompile compiles a Go package for a platform.
//
// It runs the go command with every setting explicit. So neither the environment of the
// host nor `go env -w` changes the result, and the same sources give the same bytes on
// any host. The result is compared with the platform afterwards.
//
// [Go.Find] turns what the user writes (a directory, an import path, module/path@version)
// into a [Package]. [Go.Compile] makes a [Binary] of it. [Go.Check] reports platforms
// that this Go does not support before anything is compiled. Programs that run the go
// command themselves can use [Env] to set the platform.
//
// The package does not install Go, and it does not limit how many compilers run: the
// caller does. A go line of a module may make the go command fetch a newer Go, as the
// user's GOTOOLCHAIN allows. The error of a go command is a [*CommandError].
package crosscompile

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Request says which program to compile for which platform.
type Request struct {
	Dir      string // the directory in which the go command runs
	Package  string // a path relative to Dir, or an import path
	Out      string // the file to write; one that is up to date is not changed
	Temp     string // an existing directory for temporary files; "": that of the system
	Platform ocispec.Platform
	Flags    []string // for go build, after -trimpath and -buildvcs=false
	Env      []string // NAME=value, after those of Env(Platform)
	Cgo      *Cgo     // nil: without cgo
	Sources  bool     // list the source files, see Binary
}

// A Binary is a program for one platform, in a file that the caller owns.
type Binary struct {
	Path string
	Info *buildinfo.BuildInfo // nil for wasm, whose format has none
	// Sources has the files of its packages, if the Request asks for them. It leaves out
	// the standard library and the module cache, whose files never change.
	Sources []string
}

// Compile compiles r's program and checks that it is one for r's platform.
//
// The result does not depend on the host, the directory or the time. If the go command
// finds the file at Out up to date, it neither links nor writes it. Concurrent calls must
// have different Outs.
//
// A compiler error is a [*CommandError] with the complete output. When ctx ends, the go
// command and all processes that it has started are killed, and the error is the cause of
// ctx.
func (g *Go) Compile(ctx context.Context, r Request) (Binary, error) {
	tc, err := g.toolchain(ctx, r.Dir)
	if err != nil {
		return Binary{}, err
	}
	target, err := Env(r.Platform)
	if err != nil {
		return Binary{}, err
	}
	out, err := filepath.Abs(r.Out)
	if err != nil {
		return Binary{}, err
	}
	// Later values of a variable override earlier ones: the settings of the user, the
	// platform, cgo, and last the variables of the request. Callers reject variables that
	// [Owned] has.
	env := slices.Clone(target)
	if r.Temp != "" {
		env = append(env, "GOTMPDIR="+r.Temp)
	}
	if r.Cgo != nil {
		env = append(env, g.cgoEnv(r.Platform, *r.Cgo)...)
	}
	env = append(env, r.Env...)
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", out}, r.Flags...)
	var said strings.Builder
	log := io.Discard
	if g.Log != nil {
		log = &said
	}
	// Without cgo, Go ignores files that import "C". The errors then name missing
	// functions, so the hint says what the cause is.
	if _, err := tc.with(env...).runLogged(ctx, log, r.Dir, append(args, "--", r.Package)...); err != nil {
		var ce *CommandError
		switch {
		case !errors.As(err, &ce):
		case r.Cgo == nil && needsCgo(r.Dir, ce.Output):
			ce.Way, ce.Field = "", "Cgo"
		case badFlags.MatchString(ce.Output):
			ce.Way, ce.Field = "", "Flags"
		}
		return Binary{}, err
	}
	if said.Len() > 0 { // linker warnings, or modules that were downloaded
		g.Log.DebugContext(ctx, "go build", "output", said.String())
	}
	// The program may be an older one that go build found up to date, so it is verified
	// in every case.
	info, err := verifyGo(out, r.Platform)
	if err != nil {
		return Binary{}, err
	}
	b := Binary{Path: out, Info: info}
	if r.Sources {
		b.Sources, err = tc.with(env...).sources(ctx, r)
	}
	return b, err
}

// verifyGo checks that a file is a Go program for p.
func verifyGo(file string, p ocispec.Platform) (*buildinfo.BuildInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := Verify(f, p)
	if err == nil && info == nil && p.Architecture != "wasm" {
		err = fmt.Errorf("%s has no build information of Go", filepath.Base(file))
	}
	return info, err
}

// sources lists the files of the packages of r's program; see [Binary].
func (tc *toolchain) sources(ctx context.Context, r Request) ([]string, error) {
	const files = `{{range .}}{{$.Dir}}{{"\x00"}}{{.}}{{"\n"}}{{end}}`
	var format strings.Builder
	format.WriteString(`{{if not .Standard}}`)
	for _, kind := range []string{"GoFiles", "EmbedFiles", "SFiles", "HFiles", "SysoFiles"} {
		format.WriteString(`{{with .` + kind + `}}` + files + `{{end}}`)
	}
	format.WriteString(`{{end}}`)
	args := []string{"list", "-deps", "-f", format.String()}
	for _, flag := range r.Flags {
		// The other flags do not decide which files there are. -race does, but needs cgo.
		if strings.HasPrefix(flag, "-tags=") {
			args = append(args, flag)
		}
	}
	out, err := tc.run(ctx, r.Dir, append(args, "--", r.Package)...)
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if dir, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\x00"); ok && !tc.caches(dir) {
			list = append(list, filepath.Join(dir, name))
		}
	}
	return list, nil
}

// caches reports whether a directory is in the module cache.
func (tc *toolchain) caches(dir string) bool {
	for _, kv := range tc.env {
		if cache, ok := strings.CutPrefix(kv, "GOMODCACHE="); ok {
			rel, err := filepath.Rel(cache, dir)
			return err == nil && filepath.IsLocal(rel)
		}
	}
	return false
}

// forget drops the remembered toolchain of dir, after its go.mod was changed.
func (g *Go) forget(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		g.toolchains.Forget(abs)
	}
}
