package build

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/templates"
	"github.com/mabuild/mabuild/crosscompile"
)

// A GoPackage is a program that is compiled from a Go package for each platform.
type GoPackage struct {
	Package string // as [crosscompile.Query.Pattern], "": the package in Spec.Dir
	AsMain  bool   // as [crosscompile.Query.AsMain]

	Compile Compile
	// Overrides changes Compile for single platforms, by [platform.Key]. Env is appended;
	// Ldflags, Gcflags and Tags replace those of Compile if they are set; Cgo and Symbols
	// can be switched on. The other fields are ignored.
	Overrides map[string]Compile

	// Debug adds the debugger Delve, which starts the program and listens on port 40000.
	// The program is compiled without optimisations.
	Debug bool

	// Main is the package that Package names. [Builder.Resolve] sets it, and does not
	// search again if its ImportPath is set.
	Main crosscompile.Package
}

// Compile says how to compile a program. The zero value compiles without cgo, without
// local paths (-trimpath) and without symbols.
type Compile struct {
	Ldflags []string // each may hold several flags, and templates
	Gcflags []string
	Tags    []string
	Env     []string // NAME=value, may hold templates
	Cgo     bool
	C       crosscompile.Cgo // C compilers for cgo
	Symbols bool             // keep the symbol table and the DWARF data
	Race    bool             // use the race detector, which requires Cgo
	// Unoptimized compiles for a debugger: without optimisations and inlining, with
	// symbols.
	Unoptimized bool
	Cover       bool // count what runs; the counters are written to GOCOVERDIR
	// Pgo is the file of a profile for optimisation, or off. With "" or auto it is
	// default.pgo in the directory of the main package, if that exists.
	Pgo string
}

// goPackage returns the program of s, which is a GoPackage.
func (s Spec) goPackage() GoPackage {
	g, _ := plainProgram(s.Program).(GoPackage)
	return g
}

// withMain returns s with a package that was looked up.
func (s Spec) withMain(main crosscompile.Package) Spec {
	g := s.goPackage()
	g.Main = main
	s.Program = g
	return s
}

// validate checks the compile settings of all platforms.
func (g GoPackage) validate() error {
	errs := []error{g.Compile.validate("")}
	for _, key := range slices.Sorted(maps.Keys(g.Overrides)) {
		errs = append(errs, g.Overrides[key].validate("overrides: "+key+": "))
	}
	return errors.Join(errs...)
}

// overridden returns the keys of Overrides.
func (g GoPackage) overridden() []string { return slices.Collect(maps.Keys(g.Overrides)) }

// templates tests the templates of all platforms. They are expanded for each platform
// when it is built, and build records compare the expanded ones.
func (g GoPackage) templates(v Vars) error {
	_, err := g.Compile.expand(v)
	errs := []error{err}
	for _, key := range slices.Sorted(maps.Keys(g.Overrides)) {
		_, err := g.Overrides[key].expand(v)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// expand fills in the templates of the linker flags and the environment.
func (c Compile) expand(v Vars) (Compile, error) {
	var err error
	if c.Ldflags, err = templates.Words(v, c.Ldflags); err != nil {
		return c, fmt.Errorf("ldflags: %w", err)
	}
	c.Env, err = templates.Words(v, c.Env)
	if err != nil {
		return c, fmt.Errorf("env: %w", err)
	}
	return c, nil
}

// validate checks c and joins all errors. where is the prefix of the fields in errors.
func (c Compile) validate(where string) error {
	var errs []error
	if t := c.C.Toolchain; t != "" && !slices.Contains([]string{crosscompile.GNU, crosscompile.Zig, crosscompile.Custom}, t) {
		errs = append(errs, &SpecError{Field: where + "cgo: toolchain", Reason: fmt.Sprintf("unknown toolchain %q", t), Way: "use gnu, zig or custom"})
	}
	for _, key := range slices.Sorted(maps.Keys(c.C.Env)) {
		errs = append(errs, Compile{Env: c.C.Env[key]}.validate(where+"cgo: "+key+": "))
	}
	for _, kv := range c.Env {
		name, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok || name == "":
			errs = append(errs, &SpecError{Field: where + "env", Reason: fmt.Sprintf("%q is not NAME=value", kv)})
		case crosscompile.Owned(name):
			errs = append(errs, &SpecError{Field: where + "env", Reason: name + " is set by mabuild", Way: "use platforms, cgo, ldflags, gcflags and build_tags instead"})
		}
	}
	if c.Race && !c.Cgo {
		errs = append(errs, &SpecError{Field: where + "race", Reason: "the race detector requires cgo, which is off"})
	}
	return errors.Join(errs...)
}

// compile returns the settings for p: those of Compile with the overrides for p.
func (g GoPackage) compile(p ocispec.Platform) Compile {
	c, o := g.Compile, Compile{}
	for _, key := range keys(p) {
		var said bool
		if o, said = g.Overrides[key]; said {
			break
		}
	}
	if len(o.Ldflags) > 0 {
		c.Ldflags = o.Ldflags
	}
	if len(o.Gcflags) > 0 {
		c.Gcflags = o.Gcflags
	}
	if len(o.Tags) > 0 {
		c.Tags = o.Tags
	}
	c.Unoptimized = c.Unoptimized || g.Debug
	c.Env = slices.Concat(c.Env, o.Env)
	c.Cgo, c.Symbols = c.Cgo || o.Cgo, c.Symbols || o.Symbols
	return c
}

// settings returns the compile settings of s's program for p, with templates expanded.
func (s Spec) settings(p ocispec.Platform) (Compile, error) {
	return s.goPackage().compile(p).expand(s.Vars)
}

// profiled reports whether c names the file of a profile. This file may be outside the
// sources, so a listing does not have it.
func (c Compile) profiled() bool { return c.Pgo != "" && c.Pgo != "auto" && c.Pgo != "off" }

// flags returns the flags of go build for c. Platform and environment are not among them.
func (c Compile) flags() []string {
	ldflags := slices.Clone(c.Ldflags)
	if !c.Symbols && !c.Unoptimized {
		ldflags = append([]string{"-s", "-w"}, ldflags...)
	}
	if c.Cgo && c.C.Static {
		ldflags = append([]string{"-linkmode=external", "-extldflags=-static"}, ldflags...)
	}
	var flags []string
	if c.Unoptimized {
		flags = append(flags, "-gcflags=all=-N -l")
	}
	if len(ldflags) > 0 {
		flags = append(flags, "-ldflags="+strings.Join(ldflags, " "))
	}
	if len(c.Gcflags) > 0 {
		flags = append(flags, "-gcflags="+strings.Join(c.Gcflags, " "))
	}
	// The resolver of glibc loads libraries at run time, which a static program cannot
	// do, so Go's resolver is used.
	tags := slices.Clone(c.Tags)
	if c.Cgo && c.C.Static {
		tags = append(tags, "netgo", "osusergo")
	}
	if len(tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(tags, ","))
	}
	if c.Race {
		flags = append(flags, "-race")
	}
	if c.Cover {
		flags = append(flags, "-cover")
	}
	if c.Pgo != "" {
		flags = append(flags, "-pgo="+c.Pgo)
	}
	return flags
}
