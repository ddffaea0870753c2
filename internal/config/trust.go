package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest/local"
)

// A file of the tree, .mabuild.yaml or mirror.yaml, may be a stranger's: CI builds pull
// requests. The tag trust of each key says what such a file may say of it. Flags, the
// environment and the person's own file ([UserFile]) may say everything.

// A trust is what a file of the tree may say of a key.
type trust string

const (
	trustData      trust = "data"      // anything: what is built, and how it is described
	trustPath      trust = "path"      // a path in the tree
	trustFiles     trust = "files"     // a path below the build's directory, where it is looked at when it is read
	trustPackage   trust = "package"   // a package; a directory lies in the tree
	trustImage     trust = "image"     // an image of a registry; a layout or archive in the tree
	trustLinker    trust = "linker"    // harmless flags of the linker
	trustCompiler  trust = "compiler"  // harmless flags of the compiler
	trustVariables trust = "variables" // harmless variables of the go command
	trustCC        trust = "cc"        // the name of a C compiler on PATH
	trustPrivate   trust = "private"   // true, of loopback and private hosts alone
	trustHosts     trust = "hosts"     // loopback and private hosts
	trustBases     trust = "bases"     // mirrors of registries, for the bases and sources of this file
	trustSecret    trust = "secret"    // a variable that is named for it
	trustPeople    trust = "people"    // nothing
)

// trusts explain them, in the order in which they are listed.
var trusts = []struct {
	trust trust
	says  string
}{
	{trustData, "anything"},
	{trustPath, "a path in the source tree, after links are followed"},
	{trustFiles, "a path below the build's directory, after links are followed"},
	{trustPackage, "an import path, or a directory in the source tree"},
	{trustImage, "an image in a registry, or a layout or archive in the source tree; no image of a daemon"},
	{trustLinker, "linker flags from the list below"},
	{trustCompiler, "compiler flags from the list below"},
	{trustVariables, "variables of the go command from the list below, with values that match a pattern"},
	{trustCC, "the name of a C compiler on PATH"},
	{trustPrivate, "true, or a file in the source tree, only for loopback and private hosts"},
	{trustHosts, "loopback and private hosts"},
	{trustBases, "hosts from which the file's own base images or sources are read; other commands ignore them"},
	{trustSecret, "a variable named MABUILD_…, or one allowed with --allow-env"},
	{trustPeople, "nothing: use flags, the environment or your own configuration file"},
}

// Trust is what a person lets the tree's files say, beyond what any such file may.
type Trust struct {
	Paths     []string // directories that its paths may lead into
	Variables []string // that it may send to registries
	Flags     bool     // whatever it wants of compilers and of the go command
}

// Names of the flags for it. No file can give these permissions.
const (
	allowUnsafe    = "allow-unsafe-build-flags"
	allowUnsafeEnv = prefix + "ALLOW_UNSAFE_BUILD_FLAGS"
	allowPath      = "allow-path"
	allowPathEnv   = prefix + "ALLOW_PATH"
	allowEnv       = "allow-env"
)

// BindTrust adds the flag by which a file may name paths outside its tree.
func BindTrust(flags *pflag.FlagSet) {
	flags.StringArray(allowPath, nil, "Allow paths below `DIR` in the configuration file; repeatable")
}

// BindSecrets adds the flag by which a mirror's file may send a variable.
func BindSecrets(flags *pflag.FlagSet) {
	flags.StringSlice(allowEnv, nil, "Allow the configuration file to send these `VARIABLES` to registries, in addition to MABUILD_…")
}

// TrustOf returns what flags and environment permit.
func TrustOf(flags *pflag.FlagSet, lookup func(string) (string, bool)) Trust {
	var t Trust
	text, _ := lookup(allowUnsafeEnv)
	t.Flags = text == "true" || text == "1"
	if text, _ := lookup(allowPathEnv); text != "" {
		t.Paths = filepath.SplitList(text)
	}
	if flags == nil {
		return t
	}
	if f := flags.Lookup(allowUnsafe); f != nil && f.Changed {
		t.Flags = f.Value.String() == "true"
	}
	for name, list := range map[string]*[]string{allowPath: &t.Paths, allowEnv: &t.Variables} {
		if f := flags.Lookup(name); f != nil && f.Changed {
			*list = f.Value.(pflag.SliceValue).GetSlice()
		}
	}
	return t
}

// A Fence says which paths a file of a tree may name.
type Fence struct{ trees []*intree.Tree }

// newFence returns the fence of the file, or of what would be a file, in dir.
func newFence(dir string, t Trust) (*Fence, error) {
	root, err := intree.Root(dir)
	if err != nil {
		return nil, err
	}
	f := &Fence{}
	for i, dir := range append([]string{root}, t.Paths...) {
		tree, err := intree.New(dir)
		if err != nil && i > 0 {
			f.Close()
			return nil, fmt.Errorf("--%s %s: %w", allowPath, dir, bare(err))
		}
		if err == nil { // a file in /dev or /proc is of no tree
			f.trees = append(f.trees, tree)
		}
	}
	return f, nil
}

// Close gives the directories back.
func (f *Fence) Close() {
	for _, t := range f.trees {
		_ = t.Close() // only looked at
	}
}

// Dirs returns the directories that paths may lead into, without links.
func (f *Fence) Dirs() []string {
	var list []string
	if f == nil {
		return nil
	}
	for _, t := range f.trees {
		list = append(list, t.Dir())
	}
	return list
}

// Check refuses a path that leads out of the tree and of what the person allows.
func (f *Fence) Check(path string) error {
	err := intree.ErrOutside
	for i, t := range f.trees {
		if _, terr := t.Resolve(path); terr == nil {
			return nil
		} else if i == 0 {
			err = terr
		}
	}
	return outside(path, bare(err))
}

// CheckPlace is Check of the path of a local place. A daemon is no place in a tree.
func (f *Fence) CheckPlace(text string) error {
	place, err := local.Parse(text)
	switch {
	case err != nil:
		return nil // which its reader says
	case place.Form == local.FormDockerDaemon || place.Form == local.FormContainerd:
		return forUsers("%s: is outside the source tree", text)
	case place.Path == local.Stdout:
		return nil
	}
	return f.Check(place.Path)
}

// outside says that a path leads out of the tree.
func outside(path string, err error) error {
	e := &hint.Error{Kind: hint.Usage, Err: fmt.Errorf("%s: %w", path, err)}
	switch {
	case errors.Is(err, intree.ErrGit):
		e.Hint = "use another path; git's directory can contain credentials"
	case errors.Is(err, intree.ErrOutside):
		e.Hint = "use a flag or an environment variable for paths outside the source tree, or allow a directory with --" + allowPath
	}
	return e
}

// forUsers says that a file of the tree may not set a key to a value.
func forUsers(format string, args ...any) error {
	return hint.New(hint.Usage, "use a flag or an environment variable, or set it in "+userFileName(), format, args...)
}

// A judge goes through what a file of a tree says.
type judge struct {
	fence *Fence
	trust Trust
	dir   string // that local places are relative to
	// said has the lines of what the file says, by key; unsaid reports whether something
	// stronger says a field in its place.
	said   map[string]int
	unsaid func(prefix string, f *field) bool
	cgo    func(prefix string) bool // whether cgo is on for the build that a key is of
	refuse func(key string, err error)
}

// fields judges the fields of in, which stands at prefix; host is that of the registry
// that it is about.
func (j *judge) fields(fields []*field, in reflect.Value, prefix, host string) {
	for _, f := range fields {
		at := in.FieldByIndex(f.index)
		key := prefix + f.path
		switch f.kind {
		case object:
			j.fields(f.elem, in, prefix, host)
		case objects:
			for i := range at.Len() {
				j.fields(f.elem, at.Index(i), fmt.Sprintf("%s[%d].", key, i), host)
			}
		case dict:
			for _, k := range slices.SortedFunc(slices.Values(at.MapKeys()), compareText) {
				host := host
				if f.check == "host" {
					host = k.String()
				}
				j.fields(f.elem, at.MapIndex(k), fmt.Sprintf("%s[%s].", key, k.String()), host)
			}
		default:
			if _, said := j.said[key]; !said || j.unsaid != nil && j.unsaid(prefix, f) {
				continue
			}
			if err := j.judge(f, textsOf(f, at), prefix, host); err != nil {
				j.refuse(key, err)
			}
		}
	}
}

// textsOf returns the texts of a leaf: what it says, in whatever shape.
func textsOf(f *field, at reflect.Value) (list []string) {
	switch f.kind {
	case texts:
		return at.Interface().([]string)
	case perPlatform, pairs:
		m := at.Convert(reflect.TypeFor[map[string]string]()).Interface().(map[string]string)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			list = append(list, m[key])
		}
		return list
	case lists:
		m := at.Interface().(map[string][]string)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			list = append(list, m[key]...)
		}
		return list
	case boolean:
		if !at.Bool() {
			return nil
		}
		return []string{"true"}
	case text:
		if at.String() == "" {
			return nil
		}
		return []string{at.String()}
	}
	return []string{fmt.Sprint(at.Interface())}
}

var templated = regexp.MustCompile(`\{\{.*?\}\}`)

// judge says why a file of a tree may not say these texts of a field.
func (j *judge) judge(f *field, list []string, at, host string) error {
	each := func(check func(string) error) error {
		for _, text := range list {
			if err := check(text); err != nil {
				return err
			}
		}
		return nil
	}
	tool := func(name string) error {
		if j.trust.Flags {
			return nil
		}
		return judgeFlags(name, templated.ReplaceAllString(strings.Join(list, " "), filled), j.cgo != nil && j.cgo(at))
	}
	switch f.trust {
	case trustData, trustFiles, trustBases:
		return nil
	case trustPath:
		return each(j.fence.Check)
	case trustPackage: // relative to its build's directory, where the file's judge looks at it
		return each(func(pkg string) error {
			if !filepath.IsAbs(pkg) {
				return nil
			}
			return j.fence.Check(pkg)
		})
	case trustImage:
		return each(func(ref string) error {
			if !local.Is(ref) || strings.Contains(ref, "{{") { // which is looked at when it is filled in
				return nil
			}
			return j.fence.CheckPlace(anchorPlace(j.dir, ref))
		})
	case trustLinker:
		return tool("link")
	case trustCompiler:
		return tool("compile")
	case trustVariables, trustCC:
		if j.trust.Flags {
			return nil
		}
		return each(func(text string) error {
			if f.trust == trustCC {
				text = strings.ToUpper(f.key) + "=" + text
			}
			return judgeVariable(templated.ReplaceAllString(text, filled))
		})
	case trustPrivate:
		if len(list) > 0 && !Private(host) {
			return forUsers("%s is not a loopback or private host, so a file in the source tree cannot change how it is trusted", host)
		}
		if f.check == "path" {
			return each(j.fence.Check)
		}
		return nil
	case trustHosts:
		return each(func(host string) error {
			if Private(host) {
				return nil
			}
			return forUsers("%s is not a loopback or private host, so a file in the source tree cannot change how it is trusted", shorten(host))
		})
	case trustSecret:
		return each(func(name string) error {
			if slices.Contains(j.trust.Variables, name) || strings.HasPrefix(name, prefix) && !slices.Contains(settingVariables(), name) {
				return nil
			}
			return hint.New(hint.Usage, "rename the variable to MABUILD_…, for example MABUILD_HUB_TOKEN, or allow it with --"+allowEnv+" "+shorten(name),
				"a file in the source tree cannot send the variable %s", shorten(name))
		})
	}
	return forUsers("cannot be set by a file in the source tree")
}

// Private reports whether host[:port] is of this machine or of a private network: a
// loopback or private address (RFC 1918, RFC 4193), or a name that no public registry
// can have: localhost (RFC 6761), one below local (RFC 6762), internal or home.arpa (RFC
// 8375), or one without a dot.
func Private(host string) bool {
	name := strings.ToLower(host)
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if ip, err := netip.ParseAddr(name); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate()
	}
	if strings.Trim(name, "0123456789.") == "" || strings.HasPrefix(name, "0x") {
		return false // another spelling of an address
	}
	if !strings.Contains(name, ".") {
		return name != ""
	}
	for _, zone := range []string{".localhost", ".local", ".internal", ".home.arpa"} {
		if strings.HasSuffix(name, zone) {
			return true
		}
	}
	return false
}

// TrustTable returns as Markdown what the files of a tree may say of each key.
func TrustTable() string {
	var b strings.Builder
	b.WriteString("| a file may set | keys |\n|---|---|\n")
	keys := map[trust][]string{}
	for _, file := range []struct {
		name string
		of   reflect.Type
	}{{FileName, reflect.TypeFor[Config]()}, {MirrorFileName, reflect.TypeFor[Mirror]()}} {
		found := map[trust][]string{}
		everyKey(describe(file.of), "", func(key string, f *field) {
			key = strings.TrimPrefix(key, "builds[].")
			if !slices.Contains(found[f.trust], "`"+key+"`") {
				found[f.trust] = append(found[f.trust], "`"+key+"`")
			}
		})
		for t, list := range found {
			text := strings.Join(list, " ")
			if t == trustData {
				text = "all others"
			}
			keys[t] = append(keys[t], "*"+file.name+"*: "+text)
		}
	}
	for _, one := range trusts {
		if one.trust != trustData {
			fmt.Fprintf(&b, "| %s | %s |\n", one.says, strings.Join(keys[one.trust], "<br>"))
		}
	}
	fmt.Fprintf(&b, "| anything | %s |\n", strings.Join(keys[trustData], "<br>"))
	b.WriteString("\n| for | allowed |\n|---|---|\n")
	for _, tool := range []string{"link", "compile"} {
		fmt.Fprintf(&b, "| `go tool %s` | `%s` |\n", tool, strings.Join(harmlessFlags(tool), "` `"))
	}
	fmt.Fprintf(&b, "| variables | `%s` |\n", strings.Join(harmlessVariables(), "` `"))
	return b.String()
}

// everyKey calls do for the leaves among fields, with those in lists and maps.
func everyKey(fields []*field, prefix string, do func(key string, f *field)) {
	for _, f := range fields {
		switch {
		case f.elem == nil:
			do(prefix+f.path, f)
		case f.kind == object:
			everyKey(f.elem, prefix, do)
		default:
			everyKey(f.elem, prefix+f.path+"[].", do)
		}
	}
}
