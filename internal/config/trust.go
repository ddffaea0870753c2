package config

import (
	"fmt"
	"iter"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/local"
)

// A file of the tree, .mabuild.yaml or mirror.yaml, may come from an untrusted
// contributor, because CI builds pull requests. The tag trust of each key states what such
// a file may set it to, and a judge checks this before any value is used. Flags, the
// environment and the user's own file ([UserFile]) may set everything.

// A trust is a rule for what a file of the tree may set a key to.
type trust string

const (
	trustData      trust = "data"          // anything: content and description of images
	trustPath      trust = "path"          // a path in the tree
	trustFiles     trust = "files"         // a path below the build's directory; checked when it is read
	trustPackage   trust = "package"       // a package; a directory must be in the tree
	trustImage     trust = "image"         // an image of a registry, a layout or archive in the tree
	trustLinker    trust = "linker"        // harmless flags of the linker
	trustCompiler  trust = "compiler"      // harmless flags of the compiler
	trustVariables trust = "variables"     // harmless variables of the go command
	trustCC        trust = "cc"            // the name of a C compiler on PATH
	trustPrivate   trust = "private"       // true, only for loopback and private hosts
	trustHosts     trust = "hosts"         // loopback and private hosts
	trustBases     trust = "bases"         // registry mirrors, for the base images of this file
	trustSigner    trust = "signer"        // a key in the tree or in a variable that is meant for it
	trustSecret    trust = "secret"        // a variable that is meant for it by its name
	trustPeople    trust = yamlconf.People // nothing: reserved for users
)

// trusts has the sentence of each rule in the table of SECURITY.md, in its order.
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
	{trustSigner, "none, cosign, a key file in the source tree, or env:// and a variable named MABUILD_… or COSIGN_PRIVATE_KEY"},
	{trustSecret, "a variable named MABUILD_…, or one allowed with --allow-env"},
	{trustPeople, "nothing: use flags, the environment or your own configuration file"},
}

// Trust is what a user permits the tree's files to set beyond the rules. The zero Trust
// permits nothing.
type Trust struct {
	Paths     []string // directories that paths may lead into
	Variables []string // variables that may be sent to registries, or read by templates
	Flags     bool     // all flags and variables of compilers and the go command
}

// The names of the flags and variables for it. No file can grant these permissions.
const (
	allowUnsafe    = "allow-unsafe-build-flags"
	allowUnsafeEnv = prefix + "ALLOW_UNSAFE_BUILD_FLAGS"
	allowPath      = "allow-path"
	allowPathEnv   = prefix + "ALLOW_PATH"
	allowEnv       = "allow-env"
)

// BindTrust adds the flag that lets a file name paths outside its tree.
func BindTrust(flags *pflag.FlagSet) {
	flags.StringArray(allowPath, nil, "Allow paths below `DIR` in the configuration file; repeatable")
}

// BindSecrets adds the flag that lets a mirror's file send a variable to a registry.
func BindSecrets(flags *pflag.FlagSet) {
	flags.StringSlice(allowEnv, nil, "Allow the configuration file to send these `VARIABLES` to registries, in addition to MABUILD_…")
}

// BindVariables adds the flag that lets templates of a build read a variable.
func BindVariables(flags *pflag.FlagSet) {
	flags.StringSlice(allowEnv, nil, "Allow templates to read these `VARIABLES` as {{.Env.NAME}}; their values can become public")
}

// TrustOf returns what flags and environment permit. A flag that was given replaces its
// variable. flags may be nil, and may lack some of these flags.
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

// forUsers says that a file of the tree may not set a key to a value.
func forUsers(format string, args ...any) error {
	return hint.New(hint.Usage, "use a flag or an environment variable, or set it in "+userFileName(), format, args...)
}

// Judge returns an error if a file of a tree may not set field to these texts. Local
// places are relative to dir. host is the key of the map around field, which is the host
// of a registry. cgo reports whether cgo is on for the key's build; nil means that it is
// off. A rule that is not listed below allows nothing, so a new one is safe by default.
func (f *Fence) Judge(field *yamlconf.Field, list []string, dir, host string, cgo func() bool) error {
	each := func(check func(string) error) error {
		for _, text := range list {
			if err := check(text); err != nil {
				return err
			}
		}
		return nil
	}
	tool := func(name string) error {
		if f.trust.Flags {
			return nil
		}
		return JudgeFlags(name, strings.Join(list, " "), cgo != nil && cgo())
	}
	switch trust(field.Trust) {
	// trustFiles is checked when the file is read. For trustBases, commands that do not
	// build drop the mirrors.
	case trustData, trustFiles, trustBases:
		return nil
	case trustPath:
		return each(f.Check)
	// A relative directory is relative to its build, so inputFile.judge checks it.
	case trustPackage:
		return each(func(pkg string) error {
			if !filepath.IsAbs(pkg) {
				return nil
			}
			return f.Check(pkg)
		})
	case trustImage:
		return each(func(ref string) error {
			// A template is checked after it is filled in.
			if !local.Is(ref) || strings.Contains(ref, "{{") {
				return nil
			}
			return f.CheckPlace(AnchorPlace(dir, ref))
		})
	case trustLinker:
		return tool("link")
	case trustCompiler:
		return tool("compile")
	case trustVariables, trustCC:
		if f.trust.Flags {
			return nil
		}
		return each(func(text string) error {
			if trust(field.Trust) == trustCC {
				text = strings.ToUpper(field.Key) + "=" + text
			}
			return JudgeVariable(text)
		})
	case trustPrivate:
		if len(list) > 0 && !Private(host) {
			return forUsers("%s is not a loopback or private host, so a file in the source tree cannot change how it is trusted", host)
		}
		if field.Check == "path" {
			return each(f.Check)
		}
		return nil
	case trustHosts:
		return each(func(host string) error {
			if Private(host) {
				return nil
			}
			return forUsers("%s is not a loopback or private host, so a file in the source tree cannot change how it is trusted", yamlconf.Shorten(host))
		})
	case trustSigner:
		return each(f.checkSigner)
	case trustSecret:
		return each(func(name string) error {
			if slices.Contains(f.trust.Variables, name) || strings.HasPrefix(name, prefix) && !slices.Contains(settingVariables(), name) {
				return nil
			}
			return hint.New(hint.Usage, "rename the variable to MABUILD_…, for example MABUILD_HUB_TOKEN, or allow it with --"+allowEnv+" "+yamlconf.Shorten(name),
				"a file in the source tree cannot send the variable %s", yamlconf.Shorten(name))
		})
	}
	return forUsers("cannot be set by a file in the source tree")
}

// checkSigner returns an error if a file of a tree may not sign with a key.
func (f *Fence) checkSigner(text string) error {
	variable, ok := strings.CutPrefix(text, SignEnv)
	switch {
	case text == SignNone || text == SignCosign:
		return nil
	case ok && (variable == cosignKey || strings.HasPrefix(variable, prefix)):
		return nil
	case ok:
		return forUsers("a file in the source tree cannot sign with the variable %s", yamlconf.Shorten(variable))
	}
	return f.Check(text)
}

// Private reports whether host[:port] belongs to this machine or a private network. This
// is a loopback or private address (RFC 1918, RFC 4193), or a name that no public
// registry can have: one without a dot, localhost (RFC 6761), or one below local (RFC
// 6762), internal or home.arpa (RFC 8375). Names are not looked up. Addresses in other
// spellings, such as octal or hexadecimal, are never private.
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
		return false // an address in another spelling
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

// TrustTable returns the Markdown table in SECURITY.md of what the files of a tree may
// set: [FileName] and another one, with its keys. It is generated, so that it cannot
// differ from the code.
func TrustTable(another string, itsKeys iter.Seq2[string, *yamlconf.Field]) string {
	var b strings.Builder
	b.WriteString("| a file may set | keys |\n|---|---|\n")
	keys := map[trust][]string{}
	for _, file := range []struct {
		name string
		keys iter.Seq2[string, *yamlconf.Field]
	}{{FileName, table.Keys()}, {another, itsKeys}} {
		found := map[trust][]string{}
		for key, f := range file.keys {
			key, t := "`"+strings.TrimPrefix(key, "builds[].")+"`", trust(f.Trust)
			if !slices.Contains(found[t], key) {
				found[t] = append(found[t], key)
			}
		}
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
