// Package config merges .mabuild.yaml, MABUILD_* variables, flags and defaults into one
// struct of plain data.
//
// A flag beats the environment, which beats the file of the source tree, which beats the
// user's own file, which beats the defaults. Keys, types, checks, defaults and
// descriptions come from the struct tags of [Config] alone, which package yamlconf reads.
// So do the JSON schema, the initial file, the view of the merged result and the table of
// what a file may set.
//
// A file of a source tree may come from an untrusted contributor, so each key states what
// such a file may set it to; [Trust] extends that. All errors are reported at once, each a
// [*yamlconf.Problem] with its line.
//
// The package does not connect to registries and does not start programs.
package config

import (
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/yamlconf"
)

// Package yamlconf lists the tags of the fields. Every key here has doc and trust, and its
// trust is one of those in trust.go. check may also name one of [Checks].

// The tables of the types here.
var (
	table         = yamlconf.Describe[Config](prefix, Checks)
	buildTable    = yamlconf.Describe[Build](prefix, Checks)
	settingsTable = yamlconf.Describe[Settings](prefix, Checks)
	overrideTable = yamlconf.Describe[Override](prefix, Checks)
)

// Config is the merged result of all sources. A Config that [Load] returns is complete
// and checked.
type Config struct {
	// File is the path of the file that was read, or "" if there is none.
	File string `yaml:"-"`
	// Dir is the directory of the file. Without a file it is the directory that Load was
	// given. Paths of the file are already relative to the working directory, except main
	// and files of a build, which are relative to [Build.Dir].
	Dir string `yaml:"-"`

	// Settings apply to every build that does not set them itself. Settings from the
	// environment or a flag have replaced those of the builds already.
	Settings `yaml:",inline"`

	Builds []Build `yaml:"builds" group:"Programs" doc:"Programs to build. A program may have its own value for every setting above." flag:"-" item:"main"`

	Output       []string    `yaml:"output" group:"Results and formats" trust:"image" doc:"Write the result to oci:DIR, oci-archive:FILE, docker-archive:FILE[,platform=P], docker-daemon:[platform=P] or containerd:." example:"[\"oci:./image\"]" sep:"lines" letter:"o" single:"true"`
	MetadataFile string      `yaml:"metadata_file" trust:"path" doc:"Write digests, platforms and sizes to FILE as JSON." example:"dist/image.json" check:"path"`
	NoIndex      bool        `yaml:"no_index" trust:"data" doc:"Publish an image without an index; requires exactly one platform."`
	MediaTypes   string      `yaml:"media_types" trust:"data" doc:"Media types of manifests and layers; use docker for registries without OCI support." enum:"oci|docker" default:"oci"`
	Compression  Compression `yaml:"compression" trust:"data" doc:"Compression of new layers: gzip or zstd, optionally with a level (gzip:1 to gzip:9, zstd:1 to zstd:22)." default:"gzip:1" check:"compression"`

	SBOM     string `yaml:"sbom" group:"Supply chain" trust:"data" doc:"Attach a software bill of materials (SBOM) to each image." enum:"none|spdx|cyclonedx" default:"none"`
	SBOMBase bool   `yaml:"sbom_base" trust:"data" doc:"Add the base image's packages to the SBOM; reads its layers once per digest."`
	SBOMDir  string `yaml:"sbom_dir" trust:"path" doc:"Also write each SBOM to DIR, as NAME-os-arch.spdx.json or .cdx.json." example:"dist" check:"path"`
	// Sign is none, cosign, env://VARIABLE or the path of a key.
	Attest       bool     `yaml:"attest" trust:"data" doc:"Attach provenance and SBOMs, and sign if CI offers an identity; short for provenance min, sbom spdx and sign cosign."`
	Provenance   string   `yaml:"provenance" trust:"data" doc:"Attach how the image was made (SLSA provenance): min is reproducible, max adds values of settings, times and the address of the run." enum:"none|min|max" default:"none"`
	Attestations string   `yaml:"attestations" trust:"data" doc:"Where unsigned provenance and SBOMs are: referrers, or also index, as docker buildx reads them; index changes the digest of the index." enum:"referrers|index" default:"referrers"`
	Attach       string   `yaml:"attach" trust:"data" doc:"What signatures and provenance refer to: the index, all (each image as well), or auto (each image if the registry has the referrers API)." enum:"auto|index|all" default:"auto"`
	Sign         string   `yaml:"sign" trust:"signer" doc:"Sign with the private key in FILE or env://VARIABLE, or with the program cosign; none signs nothing." example:"cosign.key" default:"none"`
	SignFormat   string   `yaml:"sign_format" trust:"data" doc:"Format of signatures: bundle (cosign 3), legacy (the tags .sig that podman and CRI-O read) or both." enum:"bundle|legacy|both" default:"bundle"`
	SignArgs     []string `yaml:"sign_args" trust:"people" doc:"Pass this argument to cosign." flag:"sign-arg" example:"[\"--key=awskms:///alias/release\"]" sep:"lines" single:"true"`
	BuilderID    string   `yaml:"builder_id" trust:"people" doc:"Name the builder by this URI in the provenance; by default that of the CI system." flag:"builder-id" example:"https://ci.example.com/release"`
	SmokeRun     string   `yaml:"smoke_run" trust:"people" doc:"Start the program of each platform before tags move: in namespaces, by docker or podman, or direct; auto selects one, off starts none." flag:"smoke" enum:"off|auto|namespace|docker|podman|direct" default:"off"`
	SmokeSkip    []string `yaml:"smoke_skip" trust:"data" doc:"Do not start the programs of these platforms, which this machine cannot run." flag:"smoke-skip" check:"platforms" example:"[linux/loong64]" single:"true"`
	BeforeTag    string   `yaml:"before_tag" trust:"people" doc:"Run CMD for each repository before its tags move; if it fails, they stay." flag:"before-tag" example:"trivy image --exit-code 1"`

	VCS bool `yaml:"vcs" trust:"data" doc:"Annotate the index with the commit's revision, source, version and time."`

	Registries         map[string]Registry `yaml:"registries" group:"Registries" doc:"Connection settings of single registries, by host[:port]." flag:"-" check:"host" example:"registry.local"`
	InsecureRegistries []string            `yaml:"insecure_registries" trust:"hosts" doc:"Allow plain HTTP and unverified TLS for HOST." flag:"insecure-registry" example:"[\"registry.local:5000\"]" check:"host" single:"true"`
	TrustRealms        []string            `yaml:"trust_realms" trust:"people" doc:"Send a registry's credentials to the token server HOST, even if it is another host." flag:"trust-realm" example:"[auth.example.com]" check:"host" single:"true"`
	CAFile             string              `yaml:"ca_file" trust:"people" doc:"Trust the certificate authorities in the PEM file FILE for all registries, in addition to the system's." flag:"ca-file" example:"ca.pem" check:"path"`
	ClientCert         string              `yaml:"client_cert" trust:"people" doc:"Use the client certificate in the PEM file FILE for all registries." example:"client.pem" check:"path"`
	ClientKey          string              `yaml:"client_key" trust:"people" doc:"Use the key in the PEM file FILE for the client certificate." example:"client-key.pem" check:"path"`

	Jobs  int `yaml:"jobs" group:"The run" trust:"data" doc:"Run at most this many compilers at once; 0 chooses by cores and memory." example:"4" letter:"j"`
	Cache struct {
		Dir string         `yaml:"dir" trust:"people" doc:"Use DIR as the cache; by default mabuild in the user's cache directory." flag:"cache" example:".cache/mabuild" check:"path"`
		Max yamlconf.Bytes `yaml:"max" trust:"people" doc:"Limit the cache to this size by evicting the least recently used entries; 0 means no limit." flag:"cache-max" default:"5GB"`

		Repo    string   `yaml:"repo" trust:"people" doc:"Keep what programs are compiled to in REPOSITORY, and take from there what other machines have compiled." flag:"cache-repo" example:"ghcr.io/acme/build-cache"`
		Mode    string   `yaml:"mode" trust:"people" doc:"Read and write the build records in cache.repo (rw), only read them (ro), or neither (off)." flag:"cache-mode" enum:"rw|ro|off" default:"rw"`
		Compile bool     `yaml:"compile" trust:"people" doc:"Also share in cache.repo what the go command has compiled, by its release and by platform." flag:"cache-compile"`
		Check   bool     `yaml:"check" trust:"people" doc:"Read and check every program that is taken from cache.repo, even if the registry could mount it." flag:"cache-check"`
		Trust   []string `yaml:"trust" trust:"people" doc:"Use only build records that a key in this list has signed; mabuild cache key prints the key of this machine." flag:"cache-trust" example:"[\"ed25519:2Oq4…\"]" single:"true"`
	} `yaml:"cache" doc:"Directory and size of the cache, which keeps results for the next run, and the repository that shares them."`
	Timeout  yamlconf.Duration `yaml:"timeout" trust:"data" doc:"Stop the run after this time; 0 means no limit." example:"30m"`
	Progress string            `yaml:"progress" trust:"data" doc:"Format of progress output." enum:"auto|tty|plain|json|none" default:"auto"`

	Check struct {
		Ignore []Ignore `yaml:"ignore" doc:"Findings of mabuild check that are not reported." flag:"-"`
	} `yaml:"check" group:"Kubernetes" doc:"Settings of mabuild check."`

	// Refused has the values that a file of a tree is not allowed to set. It can be
	// non-empty only with [Options.View] or other [Keys] than All, otherwise Load fails.
	Refused []*yamlconf.Problem `yaml:"-"`

	// Ignored has errors that do not stop the command: those in keys that were not asked
	// for, and variables that are most likely misspelled. Callers print them as warnings.
	Ignored []error `yaml:"-"`

	workdir string                     // Options.Dir, to which PACKAGE arguments are relative
	origins map[string]yamlconf.Origin // of each value that was set, by dotted path
	within  []string                   // directories that paths of the file may lead into
	tree    string                     // directory of the tree; "" if nothing marks one
}

// Settings describe how a program becomes an image. They occur at the top level of the
// file, for all builds, and in a build, for that build.
type Settings struct {
	Repo      string      `yaml:"repo" group:"Names, platforms and base image" trust:"data" doc:"Push images below this registry and path; the program's name is appended." said:"registry|repository|image_repo" check:"repository" example:"ghcr.io/acme"`
	Naming    string      `yaml:"naming" trust:"data" doc:"Append the program's name, its import path, the last element of the import path, or nothing (bare) to repo." enum:"program|import-path|base-import-path|bare" default:"program"`
	Platforms []string    `yaml:"platforms" trust:"data" doc:"Build for these platforms, each os/arch[/variant]; all means every platform that both Go and the base image support." default:"linux/amd64,linux/arm64" alias:"platform" check:"platforms" single:"true" said:"goos|goarch|os|arch|architectures"`
	Base      PerPlatform `yaml:"base" trust:"image" doc:"Base image: static (built in), scratch, or any image, for all platforms or for one." said:"from" default:"static" check:"by-platform"`
	Tags      []string    `yaml:"tags" trust:"data" doc:"Publish under these tags; templates such as {{.Version}} take their values from git." flag:"tag" letter:"t" default:"latest" single:"true"`
	Ldflags   []string    `yaml:"ldflags" group:"Compilation" trust:"linker" doc:"Pass these flags to the linker, in addition to -s -w; templates take their values from git." example:"[\"-X main.version={{.Version}}\"]" sep:"lines" single:"true"`
	Gcflags   []string    `yaml:"gcflags" trust:"compiler" doc:"Pass these flags to the compiler." example:"[\"-N -l\"]" sep:"lines" single:"true"`
	BuildTags []string    `yaml:"build_tags" trust:"data" doc:"Set these build tags." example:"[netgo]" single:"true"`
	Env       []string    `yaml:"env" trust:"variables" doc:"Set KEY=VALUE for the go command." flag:"build-env" example:"[GOEXPERIMENT=none]" check:"keyvalue" sep:"lines" single:"true"`
	Cgo       Cgo         `yaml:"cgo" doc:"Compile with cgo: true, or which C compilers to use." short:"enabled"`
	Symbols   bool        `yaml:"symbols" trust:"data" doc:"Keep the symbol table and debug information."`
	Race      bool        `yaml:"race" trust:"data" doc:"Compile with the race detector; requires cgo."`
	Cover     bool        `yaml:"cover" trust:"data" doc:"Compile with coverage counters, which the program writes to $GOCOVERDIR."`
	PGO       string      `yaml:"pgo" trust:"files" doc:"Profile for optimization: a file below the build's directory, auto (default.pgo in the main package, the default) or off." example:"cpu.pgo"`
	Path      string      `yaml:"path" group:"Content and configuration of the image" trust:"data" doc:"Path of the program in the image; by default /mabuild/NAME." example:"/usr/local/bin/app" check:"program"`
	Files     []File      `yaml:"files" doc:"Files to copy into the image." flag:"-" item:"from,to"`
	Smoke     Smoke       `yaml:"smoke" doc:"What the program must do when it is started with --smoke."`
	Packages  Packages    `yaml:"packages" doc:"Debian packages in the image, which are unpacked below the files and the program. Nothing of them is run."`
	Image     Image       `yaml:"image" doc:"Configuration of the image."`
}

// Packages are the Debian packages of an image.
type Packages struct {
	Debian  Debian            `yaml:"debian" doc:"Archive of the packages."`
	Install []string          `yaml:"install" trust:"data" doc:"Packages to install, with those that they depend on; mabuild.lock has the versions: mabuild lock." flag:"-" check:"package" example:"[iptables, conntrack]" single:"true"`
	Scripts map[string]string `yaml:"scripts" trust:"data" doc:"What replaces the scripts preinst and postinst of a package: alternatives, alternatives:WORD (those whose path has WORD), ca-certificates or ignore." flag:"-" check:"script" example:"iptables: alternatives"`
	Docs    bool              `yaml:"docs" trust:"data" doc:"Keep manual pages, translations and documentation of the packages." flag:"-"`
}

// Debian is an archive of Debian packages.
type Debian struct {
	Suite      string   `yaml:"suite" trust:"data" doc:"Suite, by its code name." flag:"-" check:"suite" example:"trixie"`
	Snapshot   string   `yaml:"snapshot" trust:"data" doc:"Time of a snapshot, which is appended to mirror; without it, packages are as in the archive when the lock is written." flag:"-" check:"snapshot" example:"20260801T000000Z"`
	Components []string `yaml:"components" trust:"data" doc:"Components of the archive; by default main." flag:"-" check:"suite" example:"[main]" single:"true"`
	Mirror     string   `yaml:"mirror" trust:"data" doc:"URL of the archive, or of its snapshots: https, or http." flag:"-" example:"https://deb.example.org/debian"`
	Keyring    string   `yaml:"keyring" trust:"path" doc:"File with the keys of the archive; by default that of the package debian-archive-keyring." flag:"-" check:"path" example:"archive.gpg"`
}

// Cgo states whether cgo is on, and with which compilers. If only the compilers are
// given, cgo is on (see the two functions imply).
type Cgo struct {
	Enabled   bool                `yaml:"enabled" trust:"data" doc:"Compile with cgo; requires a C compiler for each platform." flag:"cgo" example:"true"`
	Toolchain string              `yaml:"toolchain" trust:"data" doc:"C compilers: gnu (GCC as Debian names it, the default), zig, or custom (only those in cc and the environment)." enum:"gnu|zig|custom" flag:"cgo-toolchain"`
	Static    bool                `yaml:"static" trust:"data" doc:"Link the C library statically, so that the program runs on any base image." flag:"cgo-static"`
	CC        map[string]string   `yaml:"cc" trust:"cc" doc:"C compilers of single platforms; variables such as CC_FOR_linux_arm_v7 take precedence." flag:"-" check:"platform" example:"linux/arm/v7: arm-linux-gnueabihf-gcc"`
	CXX       map[string]string   `yaml:"cxx" trust:"cc" doc:"C++ compilers of single platforms; variables such as CXX_FOR_linux_arm_v7 take precedence." flag:"-" check:"platform" example:"linux/arm/v7: arm-linux-gnueabihf-g++"`
	Env       map[string][]string `yaml:"env" trust:"variables" doc:"Variables of the go command for single platforms, each KEY=VALUE." flag:"-" check:"platform" example:"linux/arm64: [CGO_CFLAGS=-O2]"`
}

// A Build is one program of the configuration file, or of a PACKAGE argument.
type Build struct {
	ID   string `yaml:"id" trust:"data" doc:"Name of the image below repo; by default the program's name." check:"id" example:"api" flag:"-" said:"name|binary"`
	Main string `yaml:"main" trust:"package" doc:"Package of the program: a directory below dir, an import path, or module/path@version." example:"./cmd/api" flag:"-" said:"package|pkg|source"`
	// Dir is the directory of the module. It is never empty once loaded. Main and Files
	// are relative to it.
	Dir string `yaml:"dir" trust:"path" doc:"Directory of the module, relative to this file; main and files are relative to it." example:"." flag:"-" check:"path"`
	// Prebuilt says where the program is that this build does not compile.
	Prebuilt Prebuilt `yaml:"prebuilt" doc:"Use a program that exists already instead of main: its file for each platform. Settings of the compiler do not apply." short:"path"`
	// Settings are complete once loaded: inherited values are filled in.
	Settings  `yaml:",inline"`
	Overrides map[string]Override `yaml:"overrides" doc:"Settings of single platforms." flag:"-" check:"platform"`

	prefix string // "builds[N]." for a build of the file, "" for one of a PACKAGE argument
}

// A Prebuilt names the files of a program that exists already, one for each platform. A file
// may be an archive that has the program.
type Prebuilt struct {
	Path    string            `yaml:"path" trust:"files" doc:"File of the program, or archive that has it, below the build's directory; may use {{.OS}}, {{.Arch}} and {{.Variant}}, and templates with values from git." flag:"-" example:"dist/{{.OS}}_{{.Arch}}/app"`
	URL     string            `yaml:"url" trust:"data" doc:"Download the file from this URL instead of path; may use {{.OS}}, {{.Arch}}, {{.Variant}}, {{.Version}} and {{.VersionNumber}}. mabuild.lock has its sha256: mabuild lock." flag:"-" example:"https://example.com/app-{{.Version}}-{{.OS}}-{{.Arch}}.tar.gz"`
	Version string            `yaml:"version" trust:"data" doc:"Version to download; {{.VersionNumber}} is without a leading v." flag:"-" example:"v1.2.3"`
	Repo    string            `yaml:"repo" trust:"data" doc:"Repository on GitHub whose releases mabuild lock --update looks for." flag:"-" example:"acme/app"`
	Sums    string            `yaml:"sums" trust:"data" doc:"URL of a list of sha256 sums, in which mabuild lock looks up the file." flag:"-" example:"https://example.com/app-{{.Version}}/sha256sums.txt"`
	Verify  Verify            `yaml:"verify" doc:"Who must have signed sums, or each file if there are no sums. mabuild lock checks it."`
	Program string            `yaml:"program" trust:"data" doc:"Program in an archive, a pattern such as */app; by default its only file. Archives are tar, zip, gz, xz, zst and bz2, found by content." flag:"-" example:"*/app"`
	Files   map[string]string `yaml:"files" trust:"data" doc:"Further files of the archive: the absolute path in the image of each, by pattern." flag:"-" check:"absolute" example:"'*/app.yml': /etc/app.yml"`
	OS      map[string]string `yaml:"os" trust:"data" doc:"What {{.OS}} is for single platforms; by default Go's name." flag:"-" check:"platform" example:"darwin/arm64: macos"`
	Arch    map[string]string `yaml:"arch" trust:"data" doc:"What {{.Arch}} is for single platforms; by default Go's name." flag:"-" check:"platform" example:"linux/amd64: x86_64"`
}

// Verify says who must have signed a release: a key of minisign, or whom cosign accepts.
type Verify struct {
	Minisign string `yaml:"minisign" trust:"data" doc:"Public key of minisign. The signature is at the URL of what is signed, with .minisig." flag:"-" example:"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"`
	Cosign   Cosign `yaml:"cosign" doc:"A bundle that the program cosign checks."`
}

// Cosign says whom cosign accepts: a key, or an identity of an issuer.
type Cosign struct {
	Key      string `yaml:"key" trust:"path" doc:"File with the public key." flag:"-" check:"path" example:"cosign.pub"`
	Identity string `yaml:"identity" trust:"data" doc:"Identity in the certificate, such as the URI of a workflow." flag:"-" example:"https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.2.3"`
	Issuer   string `yaml:"issuer" trust:"data" doc:"Issuer of the identity." flag:"-" example:"https://token.actions.githubusercontent.com"`
	Bundle   string `yaml:"bundle" trust:"data" doc:"URL of the bundle, with the templates of url; by default that of what is signed, with .sigstore.json." flag:"-" example:"https://example.com/app-{{.Version}}/sha256sums.txt.sigstore.json"`
}

// IsPrebuilt reports whether the program of b is prebuilt.
func (b Build) IsPrebuilt() bool {
	p := b.Prebuilt
	return p.Path != "" || p.URL != "" || p.Program != "" || len(p.OS)+len(p.Arch)+len(p.Files) > 0
}

// An Override replaces settings of a build for one platform. An empty field leaves the
// build's value; Env is added to it instead. Flags and variables beat overrides.
type Override struct {
	Ldflags   []string `yaml:"ldflags" trust:"linker" doc:"Linker flags." flag:"-" single:"true"`
	Gcflags   []string `yaml:"gcflags" trust:"compiler" doc:"Compiler flags." flag:"-" single:"true"`
	BuildTags []string `yaml:"build_tags" trust:"data" doc:"Build tags." flag:"-" single:"true"`
	Env       []string `yaml:"env" trust:"variables" doc:"Variables of the go command, each KEY=VALUE, in addition to the build's." flag:"-" check:"keyvalue" single:"true"`
}

// A File is a file or directory to copy into the image.
type File struct {
	From string `yaml:"from" trust:"files" doc:"File or directory below the build's directory." flag:"-" example:"./web/dist" said:"src|source|path"`
	To   string `yaml:"to" trust:"data" doc:"Absolute path in the image." flag:"-" check:"absolute" example:"/srv/web" said:"dst|dest|destination|target"`
	Mode Mode   `yaml:"mode" trust:"data" doc:"Permissions in octal; by default 0755 if the owner may execute the file, else 0644." flag:"-" example:"\"0644\""`
	// Owner applies to directories as well as files.
	Owner string `yaml:"owner" trust:"data" doc:"Numeric owner and group, for example 65532 or 65532:65532; by default 0:0." flag:"-" check:"owner" example:"\"65532:65532\""`
}

// Image is the part of the image's config that describes how a container is run
// (image-spec, config.md). Annotations go to the manifests instead.
type Image struct {
	Entrypoint  []string `yaml:"entrypoint" trust:"data" doc:"Entrypoint of the image; by default the program." flag:"entrypoint" sep:"lines" check:"entrypoint" example:"[/mabuild/api, serve]"`
	Cmd         []string `yaml:"cmd" trust:"data" doc:"Default arguments, which the user of the image can replace." flag:"cmd" sep:"lines" example:"[--help]"`
	User        string   `yaml:"user" trust:"data" doc:"User or user:group, by number or name." flag:"user" example:"\"65532\""`
	Workdir     string   `yaml:"workdir" trust:"data" doc:"Working directory." flag:"workdir" check:"absolute" example:"/srv"`
	Env         []string `yaml:"env" trust:"data" doc:"Set KEY=VALUE in the environment of the running program." flag:"env" check:"keyvalue" sep:"lines" example:"[TZ=UTC]" single:"true"`
	Ports       []string `yaml:"ports" trust:"data" doc:"Port that the program listens on, as PORT[/PROTOCOL]." flag:"port" example:"[8080/tcp]" single:"true"`
	Labels      []string `yaml:"labels" trust:"data" doc:"Label the image with KEY=VALUE." flag:"label" check:"keyvalue" sep:"lines" example:"[\"org.opencontainers.image.source=https://example.com/acme\"]" single:"true"`
	Annotations []string `yaml:"annotations" trust:"data" doc:"Add KEY=VALUE to the index and all images; use index:KEY=VALUE or manifest:KEY=VALUE for only one." flag:"annotation" check:"keyvalue" sep:"lines" example:"[\"org.opencontainers.image.licenses=Apache-2.0\"]" single:"true"`
	Volumes     []string `yaml:"volumes" trust:"data" doc:"Declare a directory in the image as a volume." flag:"volume" check:"absolute" example:"[/data]" single:"true"`
	StopSignal  string   `yaml:"stop_signal" trust:"data" doc:"Signal that stops the program." flag:"stop-signal" example:"SIGTERM" check:"signal"`

	Healthcheck Healthcheck `yaml:"healthcheck" doc:"Health check, which Docker runs; Kubernetes uses its own probes."`
}

// A Healthcheck is a command that the runtime runs in the container at intervals. It is
// Docker's; image-spec reserves its key in the config. Zero fields mean Docker's
// defaults.
type Healthcheck struct {
	Cmd         []string          `yaml:"cmd" trust:"data" doc:"Health check command, run without a shell; exit code 0 means healthy." flag:"health-cmd" sep:"lines" example:"[/mabuild/api, health]"`
	Interval    yamlconf.Duration `yaml:"interval" trust:"data" doc:"Time between health checks." flag:"health-interval" example:"30s"`
	Timeout     yamlconf.Duration `yaml:"timeout" trust:"data" doc:"Time limit of a health check." flag:"health-timeout" example:"3s"`
	StartPeriod yamlconf.Duration `yaml:"start_period" trust:"data" doc:"Time after the start in which failed health checks do not count." flag:"health-start-period" example:"5s"`
	Retries     int               `yaml:"retries" trust:"data" doc:"Number of consecutive failures that mark the container as unhealthy." flag:"health-retries" example:"3"`
}

// A Smoke says how the program is started before its tags move, and how it must end.
type Smoke struct {
	Args    []string          `yaml:"args" trust:"data" doc:"Start the program with these arguments, in place of cmd." flag:"smoke-args" sep:"lines" example:"[--version]"`
	Expect  string            `yaml:"expect" trust:"data" doc:"Regular expression that its output must match." flag:"smoke-expect" example:"^app v"`
	Exit    int               `yaml:"exit" trust:"data" doc:"Exit code that it must have." flag:"smoke-exit" example:"0"`
	Timeout yamlconf.Duration `yaml:"timeout" trust:"data" doc:"Time within which it must end." flag:"smoke-timeout" default:"20s"`
	Alive   yamlconf.Duration `yaml:"alive" trust:"data" doc:"A program that still runs after this time passes, such as a server." flag:"smoke-alive" example:"2s"`
}

// A Registry has the connection settings of one registry, by which a file may weaken the
// verification of private hosts only.
type Registry struct {
	PlainHTTP  bool     `yaml:"plain_http" trust:"private" doc:"Use plain HTTP." flag:"-"`
	SkipVerify bool     `yaml:"skip_verify" trust:"private" doc:"Accept any TLS certificate." flag:"-"`
	CAFile     string   `yaml:"ca_file" trust:"private" doc:"PEM file of certificate authorities to trust in addition to the system's." flag:"-" check:"path" example:"ca.pem"`
	ClientCert string   `yaml:"client_cert" trust:"private" doc:"PEM file of the client certificate." flag:"-" check:"path" example:"client.pem"`
	ClientKey  string   `yaml:"client_key" trust:"private" doc:"PEM file of the client certificate's key." flag:"-" check:"path" example:"client-key.pem"`
	Mirrors    []string `yaml:"mirrors" trust:"bases" doc:"Registry mirrors to read from first, in this order; HOST/PATH serves repository X as HOST/PATH/X." flag:"-" check:"mirror" example:"[mirror.gcr.io, harbor.example/proxy-cache]"`
}

// An Ignore names findings of mabuild check. An empty field matches everything.
type Ignore struct {
	Rule     string `yaml:"rule" trust:"data" doc:"Rule of the finding." flag:"-" example:"platform-missing"`
	Image    string `yaml:"image" trust:"data" doc:"Image of the finding, with or without its tag; * matches part of a name." flag:"-" example:"ghcr.io/acme/legacy"`
	Reason   string `yaml:"reason" trust:"data" doc:"Why the finding is ignored." flag:"-" example:"amd64 until the vendor has an arm64 image"`
	Workload string `yaml:"workload" trust:"data" doc:"Workload of the finding, as KIND/NAME or NAMESPACE/KIND/NAME; * matches part of a name." flag:"-" example:"Job/legacy"`
	Until    string `yaml:"until" trust:"data" doc:"Last day on which the finding is ignored." flag:"-" example:"2027-01-31"`
}

// Within returns the directories that paths in the tree's file, and the sources, must
// stay in: the tree and those that the user allows. It is empty if there is no tree.
func (c *Config) Within() []string { return slices.Clone(c.within) }

// Tree returns the directory of the tree, whose content may be untrusted. It is "" if
// neither a configuration file nor .git or go.mod marks one.
func (c *Config) Tree() string { return c.tree }

// FromTree reports whether a key of a build was set by a file of the tree, not by the
// user.
func (c *Config) FromTree(b Build, key string) bool {
	return c.origins[b.prefix+key].Kind == yamlconf.FromFile
}

// VersionLine returns the line of the file that has the version of a prebuilt program, 0 if
// there is none.
func (c *Config) VersionLine(b Build) int { return c.origins[b.prefix+"prebuilt.version"].Line }

// Origin returns where the value at a dotted path came from, such as
// "image.user" or "builds[0].ldflags".
func (c *Config) Origin(path string) yamlconf.Origin { return c.origins[path] }

// Parameters returns the settings of a build, by key, that flags and variables gave; with all,
// those of the files and the defaults too. Secrets are not left out.
func (c *Config) Parameters(b Build, all bool) map[string]string {
	lines := map[string]int{}
	for key, origin := range c.origins {
		top := topOf(strings.TrimPrefix(key, b.prefix))
		setting := top == "media_types" || top == "compression" || top == "no_index" ||
			slices.ContainsFunc(settingsTable.Leaves(), func(f *yamlconf.Field) bool { return topOf(f.Path) == top })
		if setting && (all || origin.Kind >= yamlconf.FromEnv) {
			lines[key] = origin.Line
		}
	}
	values := map[string]string{}
	// The settings of the build come after those of the top level.
	table.Each(c, lines, func(f *yamlconf.Field, list []string, prefix, _ string) {
		values[strings.TrimPrefix(prefix, b.prefix)+f.Path] = strings.Join(list, " ")
	})
	return values
}
