package build

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/filelist"
	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/build/internal/templates"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The base images that are built in.
const (
	Static  = baseimage.Static  // CA certificates, time zones, users and /tmp; linux only
	Scratch = baseimage.Scratch // no files
)

// A Spec says what to build: one program for some platforms, each on a base image. It is
// plain data. The methods of [Builder] take it by value and do not change the caller's
// maps and slices.
type Spec struct {
	Program Program // nil: the [GoPackage] in Dir
	Dir     string  // a package and Files are relative to it; "": the working directory
	Name    string  // of the program in the image; "": the name of the package

	Platforms []ocispec.Platform // the index has all of them, or is not built
	All       bool               // instead of Platforms: all that both the base and Go support
	// Newest selects only the newest version of a Windows base. Otherwise a platform
	// without a version makes an image for each version that the base has.
	Newest bool

	Base  string            // a reference, Static or Scratch; "": Static
	Bases map[string]string // other bases for single platforms, by [platform.Key]

	// Packages has the Debian packages of each platform, by [platform.Key]. Those that the
	// base lacks make a layer below Files and the program.
	Packages map[string][]DebianPackage
	// PackageScripts says, by package, what replaces its scripts preinst and postinst, which
	// are not run: alternatives, alternatives:WORD, ca-certificates or ignore. A package with
	// scripts that has no rule is an error.
	PackageScripts map[string]string
	PackageRoots   []string // names that the base or Packages must have, on each platform
	PackageDocs    bool     // keep manual pages, translations and documentation of the packages

	Path   string // of the program in the image, absolute; "": /mabuild/NAME
	Files  []File
	Config Config
	// These annotations are added to the index, or to each image manifest, after those of
	// Config.Annotations.
	IndexAnnotations    map[string]string
	ManifestAnnotations map[string]string
	Docker              bool // use Docker's media types instead of OCI's
	Compression         Compression
	// Time is the time of all files and of the config, in whole seconds. Zero is
	// 1970-01-01, so that the digest does not depend on the time of the build.
	Time time.Time

	Vars Vars // the values for templates in Config and in the Program
}

// A File is a file, or a directory with its content, that is copied into the image. Its
// fields are:
//
//	From string  relative to Spec.Dir, and inside it
//	To   string  absolute; with a slash at its end it is the directory for the file
//	Mode int64   of files; 0: 0755 if the owner may execute the file, else 0644
//	UID  int     of files, and of copied directories
//	GID  int
//	Tree string  the source tree of From, in place of Spec.Dir
type File = filelist.File

// Config is the configuration of an image (image-spec, config.md). An empty field has the
// value of the base, or what the program needs.
type Config struct {
	Entrypoint  []string // empty: the program
	Cmd         []string
	User        string
	WorkingDir  string
	Env         []string // NAME=value, added to that of the base
	Ports       []string // for example 8080/tcp
	Volumes     []string
	StopSignal  string
	Labels      map[string]string
	Annotations map[string]string // of the index and of each image manifest
	// Healthcheck is an extension of Docker. Docker uses it in OCI and Docker images,
	// podman only in Docker images, Kubernetes never.
	Healthcheck *v1.HealthConfig
}

// A SpecError says what is wrong in a Spec, either by itself or together with the files
// and base images that it names. Its fields are:
//
//	Field  string  as in .mabuild.yaml
//	Reason string
//	Way    string  what the user can do, may be empty
//	Want   string  a value that the field can have, may be empty
//	Err    error   the cause, may be nil
//
// Its methods are:
//
//	Error() string         the field and the reason
//	Unwrap() error         the cause
//	Is(target error) bool  whether target is the kind of the error
//	Hint() string          Way
type SpecError = specerr.Error

// A BaseError says why a base image cannot be used: it cannot be read, its content is
// invalid, or it has no image for a platform. Its fields are:
//
//	Ref     string              as the Spec names it
//	Err     error
//	Way     string              what the user can do, may be empty
//	Missing []ocispec.Platform  platforms that it lacks, if that is what is wrong
//
// Its methods are:
//
//	Error() string         the reference and the cause
//	Unwrap() error         the cause
//	Is(target error) bool  whether target is the kind of the error: a base that does not
//	                       exist or does not fit is a mistake in what was asked for, unless
//	                       the registry failed
//	Hint() string          Way, or that of the cause
type BaseError = baseimage.Error

// Vars has the values for templates. A template that uses an empty value is an error,
// since a label or a tag with a missing part is rarely noticed. Its fields are:
//
//	Version     string  from git describe, or the version of module/path@version
//	Commit      string
//	ShortCommit string
//	Date        string  of the commit, in RFC 3339
//	Timestamp   string  of the commit, in seconds since 1970
//	Tag         string  of this commit, not of an earlier one
//	Branch      string
//	Env         map[string]string  variables of the environment that templates may read
//	Why         map[string]error   why a value is empty, by name, such as Tag or Env.USER;
//	                               "" is for all others that are not in Env
//
// An error of Why may have a method Hint() string. The methods of Vars are:
//
//	Expand(text string) (string, error)          fills in a template, which may use
//	                                             {{.Version}}, {{.Commit}},
//	                                             {{.ShortCommit}}, {{.Date}},
//	                                             {{.Timestamp}}, {{.Tag}}, {{.Branch}},
//	                                             {{.Env.NAME}} and the functions slug and
//	                                             tag. Any other name, and an empty value,
//	                                             is a [*SpecError].
//	ExpandAll(list []string) ([]string, error)   Expand for each text of list
type Vars = templates.Vars

// Validate returns s with defaults filled in and its platforms normalised and sorted. It
// reports all errors at once. It reads nothing but s.
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
		errs = append(errs, filelist.Check(f))
	}
	s.Program = plainProgram(s.Program)
	errs = append(errs, s.Program.validate(), s.Config.validate(), s.checkPackages())
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

// port matches a port with an optional protocol; Config.validate checks the range.
var port = regexp.MustCompile(`^[0-9]{1,5}(/(tcp|udp|sctp))?$`)

// validate checks c and joins all errors.
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

// base returns the reference of the base for p.
func (s Spec) base(p ocispec.Platform) string {
	for _, key := range keys(p) {
		if ref, ok := s.Bases[key]; ok {
			return ref
		}
	}
	return s.Base
}

// target returns p as the compiler sees it, without the version of the operating system.
// Platforms with the same target have the same program.
func target(p ocispec.Platform) ocispec.Platform {
	p.OSVersion, p.OSFeatures = "", nil
	return p
}

// keys returns the keys under which settings for p may be found, the most specific first.
func keys(p ocispec.Platform) []string {
	return slices.Compact([]string{platform.Key(p), platform.Key(target(p))})
}

// The formats in which layers can be compressed.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// A Compression says how the layers that mabuild makes are compressed. Layers of a base
// image are never compressed again. The zero value is gzip at level 1: on Go programs it
// takes half the time of gzip's usual level 6 and makes 12 % more bytes
// (docs/performance.md).
type Compression struct {
	Format string // Gzip or Zstd; "": Gzip
	Level  int    // gzip: 1 to 9; zstd: 1 to 22; 0: 1 for gzip, 3 for zstd
}

// formats has the highest and the default level of each format.
var formats = map[string]struct{ highest, usual int }{
	Gzip: {gzip.BestCompression, gzip.BestSpeed},
	Zstd: {22, 3},
}

// full returns c with its defaults filled in. The defaults are part of the cache key of a
// layer, so that a default and the same explicit value find the same cached layer.
func (c Compression) full() Compression {
	if c.Format == "" {
		c.Format = Gzip
	}
	if c.Level == 0 {
		c.Level = formats[c.Format].usual
	}
	return c
}

// validate checks the format and the level of c, which full has completed.
func (c Compression) validate() error {
	f, ok := formats[c.Format]
	switch {
	case !ok:
		return &SpecError{Field: "compression", Reason: fmt.Sprintf("unknown format %q", c.Format), Way: "use gzip or zstd"}
	case c.Level < 1 || c.Level > f.highest:
		return &SpecError{Field: "compression", Reason: fmt.Sprintf("%s has levels 1 to %d, not %d", c.Format, f.highest, c.Level)}
	}
	return nil
}

// expand fills in the templates of labels, annotations and the environment of the image.
// It only tests those of the program.
func (s Spec) expand() (Spec, error) {
	var errs [6]error
	s.Config.Env, errs[5] = s.Vars.ExpandAll(s.Config.Env)
	s.Config.Labels, errs[0] = templates.Map(s.Vars, s.Config.Labels)
	s.Config.Annotations, errs[1] = templates.Map(s.Vars, s.Config.Annotations)
	s.IndexAnnotations, errs[2] = templates.Map(s.Vars, s.IndexAnnotations)
	s.ManifestAnnotations, errs[4] = templates.Map(s.Vars, s.ManifestAnnotations)
	errs[3] = s.Program.templates(s.Vars)
	return s, errors.Join(errs[:]...)
}
