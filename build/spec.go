package build

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// Bases that mabuild has built in.
const (
	Static  = "static"  // CA certificates, time zones, users and /tmp, for every linux platform
	Scratch = "scratch" // nothing
)

// A Spec says what to build: one program, for some platforms, each on a base. It
// is data; nothing in it has been looked up.
type Spec struct {
	Package string // as [crosscompile.Query.Pattern], "": the package in Dir
	Dir     string // what Package and Files are relative to, "": the working directory
	AsMain  bool   // as [crosscompile.Query.AsMain]
	Name    string // of the program in the image, "": the package's

	Platforms []ocispec.Platform // the image has all of them, or is not built
	All       bool               // in place of Platforms: all that the base and Go share
	// Newest takes of a Windows base with several versions the newest alone. A
	// platform without a version makes an image for each otherwise.
	Newest bool

	Base  string            // an image's reference, Static or Scratch; "": Static
	Bases map[string]string // other bases by [platform.Key]

	Compile   Compile
	Overrides map[string]Compile // by platform.Key: Env on top of Compile's, the rest in its place

	Path   string // where the program lies, absolute; "": /mabuild/NAME
	Files  []File
	Config Config
	// These are of the index alone, and of the manifests alone, on top of
	// Config.Annotations.
	IndexAnnotations    map[string]string
	ManifestAnnotations map[string]string
	Docker              bool // manifests of Docker's media types, not OCI's
	Compression         Compression
	Time                time.Time // of every entry and in the config, in whole seconds; zero: 1970-01-01

	// Debug adds the debugger Delve, which starts the program and listens on port
	// 40000. The program is compiled without optimisations.
	Debug bool

	Vars Vars // for templates in Compile and Config

	// Main is the package that Package turned out to be. [Builder.Resolve] fills
	// it in.
	Main crosscompile.Package

	debugger    crosscompile.Package // Resolve fills it in, too
	buildRecord *buildRecord         // what was compiled before, from Resolve on
}

// Compile says how to compile. Its zero value is trimmed, stripped, without cgo.
type Compile struct {
	Ldflags []string // each may hold several flags, and templates
	Gcflags []string
	Tags    []string
	Env     []string // K=V
	Cgo     bool
	C       crosscompile.Cgo // the C compilers of cgo; of the Spec's Compile alone
	Symbols bool             // keep the symbol table and DWARF
	Race    bool             // with the race detector, which wants Cgo
	// Unoptimized compiles as a debugger wants it: no optimisations, no inlining,
	// all symbols.
	Unoptimized bool
	Cover       bool // with counters of what ran, written to GOCOVERDIR
	// Pgo is the file of a profile to optimise by, or off; "", as auto, is
	// default.pgo beside the main package, where there is one.
	Pgo string
}

// A File is a file or a directory's content that goes into the image.
type File struct {
	From string // relative to Spec.Dir, within it
	To   string // absolute; a trailing slash means into that directory
	Mode int64  // of files, 0: 0644, or 0755 where the owner may execute it
	UID  int    // of files and of the directories that are made for them
	GID  int
}

// Config is what an image says of itself. What is empty is the base's, or what a
// program image needs.
type Config struct {
	Entrypoint  []string // empty: the program
	Cmd         []string
	User        string
	WorkingDir  string
	Env         []string // K=V, on top of the base's
	Ports       []string // 8080/tcp
	Volumes     []string
	StopSignal  string
	Labels      map[string]string
	Annotations map[string]string // of the index and of every manifest
	// Healthcheck is Docker's. Its engine heeds it in images of both families of
	// media types, podman in those of Docker's alone, Kubernetes in none.
	Healthcheck *v1.HealthConfig
}

// A SpecError is a complaint about a Spec that needs no look at the world.
type SpecError struct {
	Field  string // as in .mabuild.yaml
	Reason string
	Way    string
	Want   string // a value that the field can have, may be empty
	Err    error  // the cause, may be nil
}

func (e *SpecError) Error() string { return e.Field + ": " + e.Reason }
func (e *SpecError) Unwrap() error { return e.Err }

// Is reports whether target is the kind of the error.
func (*SpecError) Is(target error) bool { return target == hint.Usage }

// Hint returns the way out.
func (e *SpecError) Hint() string { return e.Way }

// Validate returns s with its platforms normalised, sorted and unique and its
// defaults filled in, or every complaint at once.
func (s Spec) Validate() (Spec, error) {
	var errs []error
	complain := func(field, way, format string, args ...any) {
		errs = append(errs, &SpecError{Field: field, Reason: fmt.Sprintf(format, args...), Way: way})
	}
	s.Platforms = slices.Clone(s.Platforms)
	for i, p := range s.Platforms {
		s.Platforms[i] = platform.Normalize(p)
	}
	slices.SortFunc(s.Platforms, platform.Compare)
	for i, p := range s.Platforms[min(1, len(s.Platforms)):] {
		if platform.Compare(s.Platforms[i], p) == 0 {
			complain("platforms", "", "%s is listed twice", platform.Key(p))
		}
	}
	if len(s.Platforms) == 0 && !s.All {
		complain("platforms", "for example linux/amd64,linux/arm64", "no platform is set")
	}
	if s.Base == "" {
		s.Base = Static
	}
	if s.Path != "" && (!path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path || s.Path == "/") {
		complain("path", "for example /usr/local/bin/app", "%q is not an absolute path of a file", s.Path)
	}
	if s.Name != "" && (s.Name != path.Base(s.Name) || strings.HasPrefix(s.Name, ".")) {
		complain("id", "", "%q cannot be a file's name", s.Name)
	}
	for _, f := range s.Files {
		if err := f.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.Compile.validate(""), s.Config.validate())
	for _, key := range slices.Sorted(maps.Keys(s.Overrides)) {
		errs = append(errs, s.Overrides[key].validate("overrides: "+key+": "))
	}
	if s.Docker && len(s.Config.Annotations)+len(s.IndexAnnotations)+len(s.ManifestAnnotations) > 0 {
		complain("annotations", "omit them, or use OCI media types", "Docker's media types do not support annotations")
	}
	s.Compression = s.Compression.full()
	errs = append(errs, s.Compression.validate())
	if s.Docker && s.Compression.Format == Zstd {
		complain("compression", "use gzip, or OCI media types", "Docker's media types do not support zstd")
	}
	if s.Time.IsZero() {
		s.Time = time.Unix(0, 0)
	}
	s.Time = s.Time.UTC().Truncate(time.Second)
	return s, errors.Join(errs...)
}

func (f File) validate() error {
	switch {
	case f.From == "":
		return &SpecError{Field: "files", Reason: "an entry has no from"}
	case !path.IsAbs(f.To):
		return &SpecError{Field: "files", Reason: fmt.Sprintf("to %q is not absolute", f.To), Way: "write /" + f.To}
	case slices.Contains(strings.Split(f.To, "/"), ".."):
		return &SpecError{Field: "files", Reason: fmt.Sprintf("to %q contains ..", f.To)}
	case f.UID < 0 || f.GID < 0:
		return &SpecError{Field: "files", Reason: fmt.Sprintf("owner %d:%d is invalid", f.UID, f.GID)}
	case f.Mode&^0o7777 != 0:
		return &SpecError{Field: "files", Reason: fmt.Sprintf("mode %o is invalid", f.Mode)}
	}
	return nil
}

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

var port = regexp.MustCompile(`^[0-9]{1,5}(/(tcp|udp|sctp))?$`)

func (c Config) validate() error {
	var errs []error
	for field, list := range map[string][]string{"entrypoint": c.Entrypoint, "cmd": c.Cmd} {
		if len(list) > 0 && list[0] == "" {
			errs = append(errs, &SpecError{Field: "image: " + field, Reason: "the first element is empty", Way: "omit it"})
		}
	}
	for _, kv := range c.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			errs = append(errs, &SpecError{Field: "image: env", Reason: fmt.Sprintf("%q is not NAME=value", kv)})
		}
	}
	if h := c.Healthcheck; h != nil && (len(h.Test) < 2 || h.Test[1] == "") && !slices.Equal(h.Test, []string{"NONE"}) {
		errs = append(errs, &SpecError{Field: "image: healthcheck", Reason: "has no command", Way: "for example cmd: [/mabuild/api, health]"})
	}
	for _, p := range c.Ports {
		number, _, _ := strings.Cut(p, "/")
		if n, err := strconv.Atoi(number); !port.MatchString(p) || err != nil || n < 1 || n > 65535 {
			errs = append(errs, &SpecError{Field: "image: ports", Reason: fmt.Sprintf("%q is not a port", p), Way: "for example 8080/tcp"})
		}
	}
	return errors.Join(errs...)
}

// base returns the reference of p's base.
func (s Spec) base(p ocispec.Platform) string {
	for _, key := range keys(p) {
		if ref, ok := s.Bases[key]; ok {
			return ref
		}
	}
	return s.Base
}

// target is p as the compiler sees it: for every version of the operating system
// the same.
func target(p ocispec.Platform) ocispec.Platform {
	p.OSVersion, p.OSFeatures = "", nil
	return p
}

// keys returns the keys under which something may be said for p, the closest
// first.
func keys(p ocispec.Platform) []string {
	return slices.Compact([]string{platform.Key(p), platform.Key(target(p))})
}

// compile returns how p is compiled: what is said for p, else for all.
func (s Spec) compile(p ocispec.Platform) Compile {
	c, o := s.Compile, Compile{}
	for _, key := range keys(p) {
		var said bool
		if o, said = s.Overrides[key]; said {
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
	c.Unoptimized = c.Unoptimized || s.Debug
	c.Env = slices.Concat(c.Env, o.Env)
	c.Cgo, c.Symbols = c.Cgo || o.Cgo, c.Symbols || o.Symbols
	return c
}

// profiled reports whether a profile is named, which may lie anywhere.
func (c Compile) profiled() bool { return c.Pgo != "" && c.Pgo != "auto" && c.Pgo != "off" }

// Flags returns the flags of go build that c stands for.
func (c Compile) Flags() []string {
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
	tags := slices.Clone(c.Tags)
	if c.Cgo && c.C.Static { // the C library's ways to look up names load parts of it while running
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
