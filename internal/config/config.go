// Package config turns .mabuild.yaml, MABUILD_* variables and flags into one
// struct of plain data.
//
// A flag beats the environment, which beats the file, which beats the defaults.
// The keys, their types, checks, defaults and descriptions all come from the
// struct tags of [Config]; so do the JSON schema, the starter file and the view
// of the merged result.
//
// The file is not trusted: its size, nesting and aliases are bounded, unknown
// and repeated keys are refused, and all complaints come at once, each a
// [*Problem] with its line.
package config

// Tags of the fields, besides yaml:
//
//	trust    what a file of the tree may say of it: see trust; every key has one
//	doc      one sentence for people; every key has one
//	flag     name of the flag; "-" for none; otherwise the key with dashes
//	default  value where nobody says anything, written as in the environment
//	example  what the starter file shows where there is no default
//	check    what each text must be: see checks
//	enum     the texts that are allowed, separated by |
//	sep      what separates the items of a list in the environment:
//	         a comma, or "lines" where items may hold commas
//	short    the key of an object that a value which is no map is for
//	single   true for a list where one text may stand for a list of it

// Config is everything that can be said in .mabuild.yaml, in MABUILD_* and by
// flags, merged.
type Config struct {
	// File is the path of the file that was read, empty for none.
	File string `yaml:"-"`
	// Dir is what relative paths of the file are relative to: its directory.
	// Without a file it is the directory that Load was given.
	Dir string `yaml:"-"`

	// Settings hold for every build that does not say otherwise. What the
	// environment or a flag says has replaced the builds' own settings already.
	Settings `yaml:",inline"`

	Builds []Build `yaml:"builds" doc:"The programs to build. Every setting above may also be given for one of them." flag:"-"`

	Jobs         int         `yaml:"jobs" trust:"data" doc:"How many compilers run at once; 0 chooses by cores and memory." example:"4"`
	Cache        Cache       `yaml:"cache" doc:"Where what was made is kept for the next run, and how much of it."`
	Output       []string    `yaml:"output" trust:"image" doc:"Local destinations: oci:DIR, oci-archive:F, docker-archive:F[,platform=P], docker-daemon:[platform=P], containerd:." example:"[\"oci:./image\"]" sep:"lines" single:"true"`
	MetadataFile string      `yaml:"metadata_file" trust:"path" doc:"Write digests, platforms and sizes to this file, as JSON." example:"dist/image.json" check:"path"`
	NoIndex      bool        `yaml:"no_index" trust:"data" doc:"Publish a plain image instead of an index; wants exactly one platform."`
	MediaTypes   string      `yaml:"media_types" trust:"data" doc:"Media types of what is built; docker is for registries that know no OCI." enum:"oci|docker" default:"oci"`
	Compression  Compression `yaml:"compression" trust:"data" doc:"How layers are compressed: gzip or zstd, with a level: gzip:1 to gzip:9, zstd:1 to zstd:22." default:"gzip:1" check:"compression"`
	SBOM         string      `yaml:"sbom" trust:"data" doc:"Attach a software bill of materials to each image." enum:"none|spdx|cyclonedx" default:"none"`
	SBOMBase     bool        `yaml:"sbom_base" trust:"data" doc:"List the packages of the base in it, too: its layers are read, once a digest."`
	SBOMDir      string      `yaml:"sbom_dir" trust:"path" doc:"Write each of them to a file in this directory, too: NAME-os-arch.spdx.json or .cdx.json." example:"dist" check:"path"`
	VCS          bool        `yaml:"vcs" trust:"data" doc:"Annotate the index with revision, source, version and time of the commit."`
	Progress     string      `yaml:"progress" trust:"data" doc:"How progress is shown." enum:"auto|tty|plain|json|none" default:"auto"`

	Registries         map[string]Registry `yaml:"registries" doc:"How to reach single registries, by host[:port]." flag:"-" check:"host" example:"registry.local"`
	InsecureRegistries []string            `yaml:"insecure_registries" trust:"hosts" doc:"Hosts that may be spoken to over plain http or unverified TLS." flag:"insecure-registry" example:"[\"registry.local:5000\"]" check:"host" single:"true"`
	TrustRealms        []string            `yaml:"trust_realms" trust:"people" doc:"Token servers that may have a registry's credentials although they live elsewhere." flag:"trust-realm" example:"[auth.example.com]" check:"host" single:"true"`
	CAFile             string              `yaml:"ca_file" trust:"people" doc:"PEM file of certificate authorities to trust beside the system's, for every registry." flag:"ca-file" example:"ca.pem" check:"path"`
	ClientCert         string              `yaml:"client_cert" trust:"people" doc:"PEM file of the client certificate, for every registry." example:"client.pem" check:"path"`
	ClientKey          string              `yaml:"client_key" trust:"people" doc:"PEM file of the client certificate's key." example:"client-key.pem" check:"path"`
	Timeout            Duration            `yaml:"timeout" trust:"data" doc:"End the run after this time; 0 never does." example:"30m"`

	// Refused is what a file of the tree says and may not say: [Options.View] keeps it.
	Refused []*Problem `yaml:"-"`

	// Ignored is what was found wrong and stopped nothing: keys that were not wanted,
	// and variables that are most likely misspelt.
	Ignored []error `yaml:"-"`

	workdir string
	origins map[string]Origin
	within  []string // where paths of the file may lead
	tree    string   // the directory of the tree, "" where nothing marks one
}

// Settings say how a program becomes an image. They stand at the top level of
// the file, for every build, and in a build, for that one.
type Settings struct {
	Repo      string      `yaml:"repo" trust:"data" doc:"Registry and path that images are pushed below; the name of the program is added." example:"ghcr.io/acme"`
	Naming    string      `yaml:"naming" trust:"data" doc:"What stands below repo: the program's name, its import path, the last element of that, or nothing (bare)." enum:"program|import-path|base-import-path|bare" default:"program"`
	Platforms []string    `yaml:"platforms" trust:"data" doc:"What to build for: os/arch[/variant], or all for every platform that the base and Go share. All of it is published, or nothing." default:"linux/amd64,linux/arm64" check:"platforms" single:"true"`
	Base      PerPlatform `yaml:"base" trust:"image" doc:"Base image: static (built in), scratch, or any image; or one for each platform." default:"static"`
	Tags      []string    `yaml:"tags" trust:"data" doc:"Tags that the image gets; templates such as {{.Version}} are filled in from git." flag:"tag" default:"latest" single:"true"`
	Ldflags   []string    `yaml:"ldflags" trust:"linker" doc:"Flags of the linker beside -s -w; templates are filled in from git." example:"[\"-X main.version={{.Version}}\"]" sep:"lines" single:"true"`
	Gcflags   []string    `yaml:"gcflags" trust:"compiler" doc:"Flags of the compiler." example:"[\"-N -l\"]" sep:"lines" single:"true"`
	BuildTags []string    `yaml:"build_tags" trust:"data" doc:"Build tags." example:"[netgo]" single:"true"`
	Env       []string    `yaml:"env" trust:"variables" doc:"Variables for the go command, each K=V." flag:"build-env" example:"[GOEXPERIMENT=none]" check:"keyvalue" sep:"lines" single:"true"`
	Cgo       Cgo         `yaml:"cgo" doc:"Compile with cgo: true, or with which C compilers." short:"enabled"`
	Symbols   bool        `yaml:"symbols" trust:"data" doc:"Keep symbol table and debug information."`
	Race      bool        `yaml:"race" trust:"data" doc:"Compile with the race detector; wants cgo."`
	Cover     bool        `yaml:"cover" trust:"data" doc:"Compile with coverage counters, which the program writes to GOCOVERDIR."`
	PGO       string      `yaml:"pgo" trust:"files" doc:"Profile to optimise by, below the build's directory; auto, the default, is default.pgo beside the main package, off is none." example:"cpu.pgo"`
	Path      string      `yaml:"path" trust:"data" doc:"Where the program lies in the image; by default /mabuild/NAME." example:"/usr/local/bin/app" check:"absolute"`
	Files     []File      `yaml:"files" doc:"Files that go into the image beside the program." flag:"-"`
	Image     Image       `yaml:"image" doc:"What the image says about how it is run."`
}

// Cgo says whether C is compiled, and by what. Who says by what and not whether
// means that it is.
type Cgo struct {
	Enabled   bool                `yaml:"enabled" trust:"data" doc:"Compile with cgo; wants a C compiler for each platform." flag:"cgo" example:"true"`
	Toolchain string              `yaml:"toolchain" trust:"data" doc:"C compilers: gnu, as Debian names GCC's, which is the default; zig; or custom, those of cc and the environment alone." enum:"gnu|zig|custom" flag:"cgo-toolchain"`
	Static    bool                `yaml:"static" trust:"data" doc:"Link the C library in, so that the program runs on any base." flag:"cgo-static"`
	CC        map[string]string   `yaml:"cc" trust:"cc" doc:"C compilers for single platforms; CC_FOR_linux_arm_v7 and the like in the environment beat them." flag:"-" check:"platform" example:"linux/arm/v7: arm-linux-gnueabihf-gcc"`
	CXX       map[string]string   `yaml:"cxx" trust:"cc" doc:"C++ compilers for single platforms; CXX_FOR_linux_arm_v7 and the like beat them." flag:"-" check:"platform" example:"linux/arm/v7: arm-linux-gnueabihf-g++"`
	Env       map[string][]string `yaml:"env" trust:"variables" doc:"Variables for the go command on single platforms, each K=V." flag:"-" check:"platform" example:"linux/arm64: [CGO_CFLAGS=-O2]"`
}

// A Build is one program of the file.
type Build struct {
	ID   string `yaml:"id" trust:"data" doc:"Name of the image below repo; by default the name of the program." example:"api" flag:"-"`
	Main string `yaml:"main" trust:"package" doc:"Package of the program: a directory below dir, an import path, or module/path@version." example:"./cmd/api" flag:"-"`
	// Dir is never empty once loaded. Main and Files are relative to it.
	Dir string `yaml:"dir" trust:"path" doc:"Directory of the module, relative to this file; main and files are relative to it." example:"." flag:"-" check:"path"`
	// Settings are complete once loaded: nothing is left to look up in Config.
	Settings  `yaml:",inline"`
	Overrides map[string]Override `yaml:"overrides" doc:"Settings for single platforms." flag:"-" check:"platform"`

	prefix string // of its keys
}

// An Override replaces settings of a build for one platform.
type Override struct {
	Ldflags   []string `yaml:"ldflags" trust:"linker" doc:"Flags of the linker." flag:"-" single:"true"`
	Gcflags   []string `yaml:"gcflags" trust:"compiler" doc:"Flags of the compiler." flag:"-" single:"true"`
	BuildTags []string `yaml:"build_tags" trust:"data" doc:"Build tags." flag:"-" single:"true"`
	Env       []string `yaml:"env" trust:"variables" doc:"Variables for the go command, each K=V, beside those of the build." flag:"-" check:"keyvalue" single:"true"`
}

// A File is a file or directory that goes into the image.
type File struct {
	From string `yaml:"from" trust:"files" doc:"File or directory, below the build's directory." flag:"-" example:"./web/dist"`
	To   string `yaml:"to" trust:"data" doc:"Absolute path in the image." flag:"-" check:"absolute" example:"/srv/web"`
	Mode Mode   `yaml:"mode" trust:"data" doc:"Permissions in octal; by default 0755 where the owner may execute, else 0644." flag:"-" example:"\"0644\""`
	// Owner holds for directories, too.
	Owner string `yaml:"owner" trust:"data" doc:"Owner and group by number, 65532 or 65532:65532; by default 0:0." flag:"-" check:"owner" example:"\"65532:65532\""`
}

// Image is what the image's config says about how it is run.
type Image struct {
	Entrypoint  []string `yaml:"entrypoint" trust:"data" doc:"Command that is run; by default the program." flag:"entrypoint" sep:"lines" example:"[/mabuild/api, serve]"`
	Cmd         []string `yaml:"cmd" trust:"data" doc:"Arguments that the person who runs the image may replace." flag:"cmd" sep:"lines" example:"[--help]"`
	User        string   `yaml:"user" trust:"data" doc:"User, or user:group, by number or name." flag:"user" example:"\"65532\""`
	Workdir     string   `yaml:"workdir" trust:"data" doc:"Working directory." flag:"workdir" check:"absolute" example:"/srv"`
	Env         []string `yaml:"env" trust:"data" doc:"Variables of the running program, each K=V." flag:"env" check:"keyvalue" sep:"lines" example:"[TZ=UTC]" single:"true"`
	Ports       []string `yaml:"ports" trust:"data" doc:"Ports that the program listens on, each PORT[/PROTOCOL]." flag:"port" example:"[8080/tcp]" single:"true"`
	Labels      []string `yaml:"labels" trust:"data" doc:"Labels, each K=V." flag:"label" check:"keyvalue" sep:"lines" example:"[\"org.opencontainers.image.source=https://example.com/acme\"]" single:"true"`
	Annotations []string `yaml:"annotations" trust:"data" doc:"Annotations of the index and of each image's manifest, each K=V; index:K=V and manifest:K=V are of one of them." flag:"annotation" check:"keyvalue" sep:"lines" example:"[\"org.opencontainers.image.licenses=Apache-2.0\"]" single:"true"`
	Volumes     []string `yaml:"volumes" trust:"data" doc:"Directories that hold data." flag:"volume" check:"absolute" example:"[/data]" single:"true"`
	StopSignal  string   `yaml:"stop_signal" trust:"data" doc:"Signal that ends the program." flag:"stop-signal" example:"SIGTERM" check:"signal"`

	Healthcheck Healthcheck `yaml:"healthcheck" doc:"How Docker finds out whether the program is well; Kubernetes has probes of its own."`
}

// A Healthcheck is a command that is run in the container every now and then. What
// is zero is Docker's default.
type Healthcheck struct {
	Cmd         []string `yaml:"cmd" trust:"data" doc:"Command that ends with 0 if the program is well; it is run without a shell." flag:"health-cmd" sep:"lines" example:"[/mabuild/api, health]"`
	Interval    Duration `yaml:"interval" trust:"data" doc:"Time between two checks." flag:"health-interval" example:"30s"`
	Timeout     Duration `yaml:"timeout" trust:"data" doc:"Time after which a check has failed." flag:"health-timeout" example:"3s"`
	StartPeriod Duration `yaml:"start_period" trust:"data" doc:"Time in which no failure counts." flag:"health-start-period" example:"5s"`
	Retries     int      `yaml:"retries" trust:"data" doc:"How many failures in a row it takes." flag:"health-retries" example:"3"`
}

// Cache says where what was made before is kept, and how much of it.
type Cache struct {
	Dir string `yaml:"dir" trust:"people" doc:"Directory of the cache; by default mabuild in the user's cache directory." flag:"cache" example:".cache/mabuild" check:"path"`
	Max Bytes  `yaml:"max" trust:"people" doc:"Size at which the cache lets go of what was used longest ago; 0 never does." flag:"cache-max" default:"5GB"`
}

// A Registry says how to reach one registry.
type Registry struct {
	PlainHTTP  bool     `yaml:"plain_http" trust:"private" doc:"Speak http." flag:"-"`
	SkipVerify bool     `yaml:"skip_verify" trust:"private" doc:"Accept any TLS certificate." flag:"-"`
	CAFile     string   `yaml:"ca_file" trust:"private" doc:"PEM file of certificate authorities to trust beside the system's." flag:"-" check:"path" example:"ca.pem"`
	ClientCert string   `yaml:"client_cert" trust:"private" doc:"PEM file of the client certificate." flag:"-" check:"path" example:"client.pem"`
	ClientKey  string   `yaml:"client_key" trust:"private" doc:"PEM file of the client certificate's key." flag:"-" check:"path" example:"client-key.pem"`
	Mirrors    []string `yaml:"mirrors" trust:"bases" doc:"Hosts to read from first, in this order. HOST/PATH has repository X as HOST/PATH/X." flag:"-" check:"mirror" example:"[mirror.gcr.io, harbor.example/proxy-cache]"`
}
