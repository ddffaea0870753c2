// Package mirrorfile reads the file of mabuild mirror, mirror.yaml, and makes the plan
// that package mirror runs.
//
// Package yamlconf reads the struct tags of [File], as it does for .mabuild.yaml, and lists
// them. What a file of a source tree may set follows the rules of package config. All
// errors are reported at once, each a [*yamlconf.Problem] with its line.
package mirrorfile

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// FileName is the usual name of a mirror's file.
const FileName = "mirror.yaml"

// A File is the configuration file of mabuild mirror: which images to copy, from where,
// to where and when. It is complete after [Load] or [Read]; its plan has the
// entries in the form that the mirror runs.
type File struct {
	// Settings apply to every entry that does not set them itself.
	Settings `yaml:",inline"`

	Exclude    []string            `yaml:"exclude" trust:"data" doc:"Globs of tags that no entry selects, in addition to its own." check:"glob" single:"true" example:"[\"*-rc*\"]"`
	Registries map[string]Registry `yaml:"registries" doc:"Connection settings of single registries, by host[:port]." check:"host" example:"registry.local"`
	Entries    []Entry             `yaml:"entries" doc:"Images to copy." said:"images|copies|mirrors|sync|repositories" item:"source"`

	file  string
	lines map[string]int
	fence *config.Fence
	plan  []*mirror.Entry
}

// Settings say when and how an entry is copied. They occur at the top level of the
// file, for all entries, and in an entry, for that one.
type Settings struct {
	Every       yamlconf.Duration `yaml:"every" trust:"data" doc:"Time between two runs with --watch; 0 runs once." example:"6h" said:"schedule|interval|period"`
	Cron        string            `yaml:"cron" trust:"data" doc:"Schedule with --watch, instead of every: five cron fields, or a name such as @daily." check:"cron" example:"17 */6 * * *"`
	Jitter      yamlconf.Duration `yaml:"jitter" trust:"data" doc:"Longest random delay of a run." example:"5m"`
	VerifyEvery yamlconf.Duration `yaml:"verify_every" trust:"data" doc:"How often to check that all images of an unchanged index are present at the target, re-upload missing ones, and check its signature if verify has a key; 0 means never." example:"24h"`
	MinAge      yamlconf.Duration `yaml:"min_age" trust:"data" doc:"Minimum age of an image before it is copied." example:"72h"`
	Platforms   []string          `yaml:"platforms" trust:"data" doc:"Platforms to keep, or those of a template, each os/arch[/variant]; by default all. A missing platform is an error unless optional is true." check:"platforms" single:"true" example:"[linux/amd64, linux/arm64]"`
	Arch        map[string]string `yaml:"arch" trust:"data" doc:"Replacement of ARCH or ARCHVARIANT in the template, by platform." check:"platform" example:"linux/arm/v6: armv6"`
	Optional    bool              `yaml:"optional" trust:"data" doc:"Allow missing platforms if at least one is present; the report names them."`
	Referrers   bool              `yaml:"referrers" trust:"data" doc:"Also copy referrers: signatures, SBOMs and provenance."`
	Missing     bool              `yaml:"missing" trust:"data" doc:"Copy only tags that are missing at the target."`
	Backup      string            `yaml:"backup" trust:"data" doc:"Template of the tag that keeps the target's previous image." example:"\"{{.Tag}}-{{.Date}}\""`
}

// A Entry is one entry of the file: images from one source to one or several
// targets. Exactly one of Source, Template, Images and Go is set.
type Entry struct {
	Name     string `yaml:"name" trust:"data" doc:"Name of the entry in reports, metrics and --only; by default the path of its target." example:"flannel"`
	Source   string `yaml:"source" trust:"image" doc:"Image or repository, or oci:DIR, oci-archive:FILE or docker-archive:FILE. The repository may be a glob if the registry lists its repositories." example:"quay.io/coreos/flannel" said:"image|from|src|repository"`
	Template string `yaml:"template" trust:"data" doc:"Name of images that differ by platform, with OS, ARCH and VARIANT as placeholders and {{.Tag}} for the tag." example:"\"quay.io/coreos/flannel:{{.Tag}}-ARCH\""`
	Images   []struct {
		Image    string `yaml:"image" trust:"image" doc:"Name of the image, with {{.Tag}} for the tag." example:"\"acme/app-arm:{{.Tag}}\""`
		Platform string `yaml:"platform" trust:"data" doc:"Platform of the image; by default the one in its config." example:"linux/arm/v7"`
		Optional bool   `yaml:"optional" trust:"data" doc:"Allow the image to be missing."`
	} `yaml:"images" doc:"Images to combine into one index, one per platform."`
	Go   string `yaml:"go" trust:"data" doc:"Go program to build instead of copying an image: module/path@version or module/path@latest." example:"github.com/prometheus/node_exporter@latest"`
	Base string `yaml:"base" trust:"image" doc:"Base image of a Go program: static (built in, the default), scratch, or any image." example:"static"`

	Target []string `yaml:"target" trust:"image" doc:"Template of one or several targets: a repository, with or without a tag, or a local destination." single:"true" example:"registry.local/flannel" said:"to|dest|destination|dst|into|targets"`
	Tags   Tags     `yaml:"tags" doc:"Tags to copy: a list, or rules that select them." short:"exact"`
	Rename []struct {
		Match string `yaml:"match" trust:"data" doc:"Regular expression that matches the complete tag." check:"regex" example:"\"v(.*)\""`
		To    string `yaml:"to" trust:"data" doc:"Tag at the target; $1 is the match of the first group." example:"\"$1\""`
	} `yaml:"rename" doc:"Rules that rename tags at the target; the first rule that matches applies."`
	Verify struct {
		Key string `yaml:"key" trust:"path" doc:"Copy only images that the public key in this file has signed." check:"path" example:"vendor.pub"`
	} `yaml:"verify" doc:"Signatures that the source must have. They are copied with referrers: true."`

	Settings `yaml:",inline"`
}

// Tags select tags: the exact ones, and those of the others that pass all rules.
// Newest applies last.
type Tags struct {
	Exact   []string `yaml:"exact" trust:"data" doc:"Tags by their exact name." check:"tag" single:"true" example:"[v0.28.0]"`
	Glob    []string `yaml:"glob" trust:"data" doc:"Tags that match one of these globs." check:"glob" single:"true" example:"[\"v0.2*\"]"`
	Regex   []string `yaml:"regex" trust:"data" doc:"Tags that match one of these regular expressions completely." check:"regex" single:"true" example:"['v\\d+\\.\\d+\\.\\d+']"`
	Semver  string   `yaml:"semver" trust:"data" doc:"Tags that are semantic versions in this range." check:"range" example:"\">=0.25 <1\""`
	Newest  int      `yaml:"newest" trust:"data" doc:"Number of newest versions to keep of the tags selected so far; 0 means all." example:"5" said:"latest|last|max|limit|count"`
	Exclude []string `yaml:"exclude" trust:"data" doc:"Globs of tags to leave out; does not apply to exact tags." check:"glob" single:"true" example:"[\"*-rc*\"]"`
}

// A Registry has the connection settings of a registry, its credentials and limits
// on the requests to it.
type Registry struct {
	config.Registry `yaml:",inline"`
	MaxRequests     int `yaml:"max_requests" trust:"data" doc:"Maximum number of concurrent requests; 0 means the default." example:"4"`
	PerSecond       int `yaml:"per_second" trust:"data" doc:"Maximum number of requests per second; 0 means no limit." example:"10"`
	QuotaReserve    int `yaml:"quota_reserve" trust:"data" doc:"Number of pulls of the registry's quota to leave unused." example:"20"`
	Username        struct {
		Name string `yaml:"name" trust:"data" doc:"User name." example:"someone"`
		Env  string `yaml:"env" trust:"secret" doc:"Variable that holds the user name." check:"variable" example:"MABUILD_HUB_USER"`
	} `yaml:"username" doc:"User name, or {env: NAME} for a variable that holds it; by default the stored credentials are used." short:"name" example:"someone"`
	// The file cannot hold the secret itself.
	Password struct {
		Env string `yaml:"env" trust:"secret" doc:"Variable that holds the password or token." check:"variable" example:"MABUILD_HUB_TOKEN"`
	} `yaml:"password" doc:"{env: NAME} for the variable that holds the password or token; the file cannot hold it." check:"secret"`
}

// The tables of the types here.
var (
	table         = yamlconf.Describe[File]("", checks())
	settingsTable = yamlconf.Describe[Settings]("", checks())
)

// Load reads the file at path. The file may set what the trust of each key permits,
// and what t adds. Relative paths in it are relative to its directory. The error joins
// all errors in the file, each a [*yamlconf.Problem].
func Load(path string, t config.Trust) (*File, error) {
	fail := func(err error) (*File, error) {
		return nil, yamlconf.InFile(path, 0, "", err)
	}
	fence, err := config.NewFence(filepath.Dir(path), t)
	if err != nil {
		return fail(err)
	}
	data, err := fence.Read(path, true)
	if err != nil {
		return fail(err)
	}
	return read(path, data, fence)
}

// Read reads data like Load; file is its path.
func Read(file string, data []byte, t config.Trust) (*File, error) {
	fence, err := config.NewFence(filepath.Dir(file), t)
	if err != nil {
		return nil, err
	}
	return read(file, data, fence)
}

// read decodes, plans and judges the file. Each step continues after errors of the
// one before as far as it can, so that one run reports them all. The judge does not
// report a key that has an error already.
func read(file string, data []byte, fence *config.Fence) (*File, error) {
	m, lines, problems := table.Decode(file, data)
	m.file, m.lines, m.fence = file, lines, fence
	table.Anchor(m, filepath.Dir(file))
	p := planner{m: m, names: map[string]int{}, reported: map[string]bool{}, broken: map[string]bool{}}
	if p.add(problems) {
		p.registries()
		p.entries()
	}
	table.Each(m, lines, func(f *yamlconf.Field, list []string, prefix, host string) {
		key, err := prefix+f.Path, fence.Judge(f, list, filepath.Dir(file), host, nil)
		if err != nil && !slices.ContainsFunc(p.wrong, func(one *yamlconf.Problem) bool { return one.Key == key }) {
			p.complain(key, "%w", err)
		}
	})
	if err := p.err(); err != nil {
		return nil, err
	}
	return m, nil
}

// Fence returns the restriction of the paths that the file may name, for templates of
// local places, which are filled in later. It stays open for as long as the File is
// used.
func (m *File) Fence() *config.Fence { return m.fence }

// Plan returns the entries, complete and checked, in the order of the file. The caller
// must not change them.
func (m *File) Plan() []*mirror.Entry { return slices.Clone(m.plan) }

// Schema returns the JSON schema (draft 2020-12) of a mirror's file.
func Schema() ([]byte, error) {
	return table.Schema(FileName, "Configuration of mabuild mirror.")
}

// Init returns the initial [FileName]: one entry and, commented out, all other
// keys. Keys that an entry shares with the top level are only shown there.
func Init() []byte {
	text := table.Initial(config.Modeline("mirror.schema.json")+"\n# Configuration of mabuild mirror. Only entries is required.", "entries", "name", "source", "target", "tags", "exact")
	return append(text, "    # An entry may also have the top-level keys from every to backup.\n"...)
}

// Logins returns the credentials that the file names, by host. lookup returns the value
// of a variable, as os.LookupEnv does. A variable that is not set is a [*yamlconf.Problem]. No
// error contains a value.
func (m *File) Logins(lookup func(string) (string, bool)) (map[string]authn.Basic, error) {
	p := planner{m: m, reported: map[string]bool{}}
	value := func(key, name string) string {
		v, ok := lookup(name)
		if !ok || v == "" {
			p.complain(key, "the variable %s is not set", name)
		}
		return v
	}
	logins := map[string]authn.Basic{}
	for host, r := range m.Registries {
		if r.Password.Env == "" {
			continue
		}
		at := "registries[" + host + "]."
		l := authn.Basic{Username: r.Username.Name, Password: value(at+"password.env", r.Password.Env)}
		if r.Username.Env != "" {
			l.Username = value(at+"username.env", r.Username.Env)
		}
		logins[host] = l
	}
	return logins, p.err()
}

// A planner turns a file into a plan. It continues after an error, and skips the parts
// that could not be decoded.
type planner struct {
	m        *File
	names    map[string]int // line of each entry, by name
	wrong    []*yamlconf.Problem
	reported map[string]bool // texts of wrong, so that each is reported once

	// broken has the paths of the registries and entries that have errors of decoding.
	broken map[string]bool
}

// partOfFile matches the path of the entry or registry that a key belongs to.
var partOfFile = regexp.MustCompile(`^(?:entries|registries)\[[^\]]*\]`)

// add takes over the errors of decoding, and reports whether the rest can be planned. It
// can if each error is within an entry or registry, which is then skipped, or is an
// unknown key, which has no effect. An error in a top-level setting affects all entries.
func (p *planner) add(problems []error) bool {
	whole := true
	for _, err := range problems {
		one := (*yamlconf.Problem)(nil)
		if !errors.As(err, &one) {
			continue
		}
		p.wrong = append(p.wrong, one)
		part := partOfFile.FindString(one.Key)
		_, read := p.m.lines[one.Key]
		p.broken[part] = true
		whole = whole && (part != "" || one.Key != "" && !read)
	}
	return whole
}

// line returns the line of a key, or of the nearest key around it that has one.
func (p *planner) line(key string) int {
	for key != "" {
		if line, ok := p.m.lines[key]; ok {
			return line
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// complain records an error in a key, unless the same text was recorded before: an error
// in an inherited setting would be reported for each entry.
func (p *planner) complain(key, format string, args ...any) {
	one := yamlconf.InFile(p.m.file, p.line(key), key, fmt.Errorf(format, args...))
	if text := one.Error(); !p.reported[text] {
		p.wrong, p.reported[text] = append(p.wrong, one), true
	}
}

// err joins the errors in the order of the file.
func (p *planner) err() error {
	slices.SortStableFunc(p.wrong, func(a, b *yamlconf.Problem) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
	var errs []error
	for _, one := range p.wrong {
		errs = append(errs, one)
	}
	return yamlconf.Join(p.m.file, errs)
}

// registries checks that user name and password are given together.
func (p *planner) registries() {
	for host, r := range p.m.Registries {
		at := "registries[" + host + "]"
		if p.broken[at] {
			continue
		}
		switch named := r.Username.Name != "" || r.Username.Env != ""; {
		case r.Username.Name != "" && r.Username.Env != "":
			p.complain(at+".username", "requires either a name or a variable, not both")
		case named && r.Password.Env == "":
			p.complain(at+".username", "requires a password: password: {env: NAME}")
		case !named && r.Password.Env != "":
			p.complain(at+".password", "requires a username")
		}
	}
}
