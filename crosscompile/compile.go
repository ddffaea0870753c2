// Package crosscompile turns a Go package and a platform into a binary.
//
// It drives the go command with every setting explicit, so that neither the
// host's environment nor `go env -w` changes what comes out, and checks the
// result against the platform.
//
// [Go.Find] turns what a person writes (a directory, an import path,
// module/path@version) into a [Package]; [Go.Compile] makes a [Binary] of it;
// [Go.Check] says beforehand what this Go cannot build for. [Env] and [Verify]
// are the two halves of that for programs that run the go command themselves.
package crosscompile

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Request names one program for one platform.
type Request struct {
	Dir      string // where the go command runs
	Package  string // what it builds there: a path or an import path
	Out      string // the file to write; one that is up to date is left as it is
	Temp     string // an existing directory for the compiler's temporary files, "": the system's
	Platform ocispec.Platform
	Flags    []string // of go build, -trimpath and -buildvcs=false stand already
	Env      []string // K=V, on top of what Env(Platform) says
	Cgo      *Cgo     // nil: without cgo
}

// A Binary is a program for one platform.
type Binary struct {
	Path string
	Info *buildinfo.BuildInfo // nil where the format carries none (wasm)
}

// Compile builds r's program and checks that it is one for r's platform.
//
// The result does not depend on the host, the directory or the time. Programs
// that the go command finds up to date at Out are neither linked nor written
// again. What the compiler complained of is a [*CommandError] with its output as
// it was. When ctx ends, the go command and all that it started are killed.
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
	env := append(append([]string{}, tc.env...), target...)
	if r.Temp != "" {
		env = append(env, "GOTMPDIR="+r.Temp)
	}
	if r.Cgo != nil {
		env = append(env, g.cgoEnv(r.Platform, *r.Cgo)...)
	}
	env = append(env, r.Env...)
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", out}, r.Flags...)
	p := process{bin: tc.bin, dir: r.Dir, env: env, args: append(args, "--", r.Package)}
	var said strings.Builder
	if g.Log != nil {
		p.log = &said
	}
	if _, err := runGo(ctx, p); err != nil {
		var ce *CommandError
		switch {
		case !errors.As(err, &ce):
		case r.Cgo == nil && needsCgo(r.Dir, ce.Output):
			ce.Way, ce.Field = "", "Cgo"
		case flagX.MatchString(ce.Output):
			ce.Way, ce.Field = "", "Flags"
		}
		return Binary{}, err
	}
	if said.Len() > 0 { // a warning of the linker, or modules that it downloaded
		g.Log.DebugContext(ctx, "go build", "output", said.String())
	}
	if err := Verify(out, r.Platform); err != nil {
		return Binary{}, err
	}
	info, err := buildinfo.ReadFile(out)
	if err != nil && r.Platform.Architecture != "wasm" {
		return Binary{}, fmt.Errorf("%s: %w", filepath.Base(out), err)
	}
	return Binary{Path: out, Info: info}, nil
}

// forget drops what is known of dir's toolchain.
func (g *Go) forget(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		g.toolchains.Forget(abs)
	}
}
