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
	Name     string // of the program as in Package; only CompileAll needs it
	Out      string // the file to write; one that is up to date is not changed
	Temp     string // an existing directory for temporary files; "": that of the system
	Platform ocispec.Platform
	Flags    []string // for go build, after -trimpath and -buildvcs=false
	Env      []string // NAME=value, after those of Env(Platform)
	Cgo      *Cgo     // nil: without cgo
	Sources  bool     // list the source files, see Binary
	// Expected, if not nil, are the settings that Dir had earlier. The go command is not asked for
	// them then, and the caller compares them with [Go.Settings] before it uses the result.
	Expected Settings
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
	out, err := filepath.Abs(r.Out)
	if err != nil {
		return Binary{}, err
	}
	list, err := g.build(ctx, out, r)
	if err != nil {
		return Binary{}, err
	}
	// The program may be an older one that go build found up to date, so it is verified
	// in every case.
	list[0].Path = out
	list[0].Info, err = verifyGo(out, r.Platform)
	return list[0], err
}

// groupName is the directory beside the first program in which [Go.CompileAll] works.
const groupName = ".group"

// CompileAll is Compile for several programs by one go command, which reads the packages that
// they share once. The requests must be equal but for Package, Name, Out and Sources, use no
// cgo, and have different names; Sources of the first counts for all. After an error it is not
// known which program has failed; compile each of them alone.
func (g *Go) CompileAll(ctx context.Context, requests []Request) ([]Binary, error) {
	first, err := filepath.Abs(requests[0].Out)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(filepath.Dir(first), groupName)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the next call removes it
	// The go command names the programs itself, and looks there for those that are up to date.
	in := make([]string, len(requests))
	for i, r := range requests {
		in[i] = filepath.Join(dir, r.Name)
		if r.Platform.OS == "windows" {
			in[i] += ".exe"
		}
		_ = os.Rename(r.Out, in[i]) // without it the program is linked again
	}
	list, err := g.build(ctx, dir+string(filepath.Separator), requests...)
	for i, r := range requests {
		if moved := os.Rename(in[i], r.Out); moved != nil && err == nil {
			err = moved
		}
	}
	if err != nil {
		return nil, err
	}
	for i, r := range requests {
		if list[i].Path, err = filepath.Abs(r.Out); err != nil {
			return nil, err
		}
		if list[i].Info, err = verifyGo(r.Out, r.Platform); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Sources lists the files that Compile would read, as a Binary has them. It compiles nothing.
func (g *Go) Sources(ctx context.Context, r Request) ([]string, error) {
	tc, err := g.toolchainOf(ctx, r)
	if err != nil {
		return nil, err
	}
	files, err := tc.sources(ctx, []Request{r})
	return files[r.Package], err
}

// toolchainOf returns the toolchain with the environment of a request.
func (g *Go) toolchainOf(ctx context.Context, r Request) (*toolchain, error) {
	var tc *toolchain
	if r.Expected != nil {
		tc = g.expected(r.Dir, r.Expected)
	}
	var err error
	if tc == nil {
		if tc, err = g.toolchain(ctx, r.Dir); err != nil {
			return nil, err
		}
	}
	target, err := Env(r.Platform)
	if err != nil {
		return nil, err
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
	return tc.with(append(env, r.Env...)...), nil
}

// build runs go build -o out for requests that are equal but for the package, and lists their
// sources.
func (g *Go) build(ctx context.Context, out string, requests ...Request) ([]Binary, error) {
	r := requests[0]
	tc, err := g.toolchainOf(ctx, r)
	if err != nil {
		return nil, err
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", out}, r.Flags...)
	args = append(args, "--")
	for _, r := range requests {
		args = append(args, r.Package)
	}
	var said strings.Builder
	log := io.Discard
	if g.Log != nil {
		log = &said
	}
	// Without cgo, Go ignores files that import "C". The errors then name missing
	// functions, so the hint says what the cause is.
	if _, err := tc.runLogged(ctx, log, r.Dir, args...); err != nil {
		var ce *CommandError
		switch {
		case !errors.As(err, &ce):
		case r.Cgo == nil && needsCgo(r.Dir, ce.Output):
			ce.Way, ce.Field = "", "Cgo"
		case badFlags.MatchString(ce.Output):
			ce.Way, ce.Field = "", "Flags"
		}
		return nil, err
	}
	if said.Len() > 0 { // linker warnings, or modules that were downloaded
		g.Log.DebugContext(ctx, "go build", "output", said.String())
	}
	list := make([]Binary, len(requests))
	if !r.Sources {
		return list, nil
	}
	files, err := tc.sources(ctx, requests)
	for i, r := range requests {
		list[i].Sources = files[r.Package]
	}
	return list, err
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

// sources lists the files of the packages of programs, by what the requests name; see
// [Binary].
func (tc *toolchain) sources(ctx context.Context, requests []Request) (map[string][]string, error) {
	const line = `{{"\x00"}}{{.}}{{"\n"}}{{end}}`
	var format strings.Builder
	format.WriteString(`{{if not .Standard}}p{{"\x00"}}{{.ImportPath}}{{"\n"}}`)
	for _, kind := range []string{"GoFiles", "EmbedFiles", "SFiles", "HFiles", "SysoFiles"} {
		format.WriteString(`{{range .` + kind + `}}f{{"\x00"}}{{$.Dir}}` + line)
	}
	format.WriteString(`{{if not .DepOnly}}{{range .Deps}}d` + line + `{{range .Match}}m` + line + `{{end}}{{end}}`)
	args := []string{"list", "-deps", "-f", format.String()}
	for _, flag := range requests[0].Flags {
		// The other flags do not decide which files there are. -race does, but needs cgo.
		if strings.HasPrefix(flag, "-tags=") {
			args = append(args, flag)
		}
	}
	args = append(args, "--")
	for _, r := range requests {
		args = append(args, r.Package)
	}
	out, err := tc.run(ctx, requests[0].Dir, args...)
	if err != nil {
		return nil, err
	}
	files, deps, matched := map[string][]string{}, map[string][]string{}, map[string]string{}
	pkg := ""
	for line := range strings.Lines(string(out)) {
		field := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		switch {
		case field[0] == "p" && len(field) == 2:
			pkg = field[1]
		case field[0] == "d" && len(field) == 2:
			deps[pkg] = append(deps[pkg], field[1])
		case field[0] == "m" && len(field) == 2:
			matched[field[1]] = pkg
		case field[0] == "f" && len(field) == 3 && !tc.caches(field[1]):
			files[pkg] = append(files[pkg], filepath.Join(field[1], field[2]))
		}
	}
	list := map[string][]string{}
	for _, r := range requests {
		pkg, ok := matched[r.Package]
		if !ok {
			return nil, fmt.Errorf("go list does not list %s", r.Package)
		}
		list[r.Package] = slices.Clone(files[pkg])
		for _, dep := range deps[pkg] {
			list[r.Package] = append(list[r.Package], files[dep]...)
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
