package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// allowUnsafe is the flag, and by its variable the permission, for a file to say
// what could run other programs. No file can give it.
const (
	allowUnsafe    = "allow-unsafe-build-flags"
	allowUnsafeEnv = "MABUILD_ALLOW_UNSAFE_BUILD_FLAGS"
)

// harmless are the variables that a file may set for the go command. Any other
// could name a program (CC, GOCACHEPROG, GOAUTH), load code into one (CGO_CFLAGS,
// LD_PRELOAD) or take a check away (GONOSUMDB).
var harmless = []string{
	"CGO_ENABLED", "GO386", "GOAMD64", "GOARM", "GOARM64", "GODEBUG", "GOEXPERIMENT", "GOFIPS140",
	"GOMIPS", "GOMIPS64", "GOPPC64", "GORISCV64", "GOWASM", "SOURCE_DATE_EPOCH", "TZ",
}

// compiler is the name of a C compiler on PATH, cross compilers included.
var compiler = regexp.MustCompile(`^([a-z0-9_.]+-)*(gcc|g\+\+|clang|clang\+\+|cc|c\+\+)(-[0-9.]+)?$`)

// toolFlags are the flags of linker and compiler that run a program, write a file
// of their own or read one that is no source.
var toolFlags = []string{
	"asmhdr", "bench", "blockprofile", "cpuprofile", "embedcfg", "exec", "extar", "extld", "extldflags",
	"importcfg", "json", "L", "linkobj", "memprofile", "modfile", "mutexprofile", "o", "overlay",
	"pgoprofile", "symabis", "tmpdir", "toolexec", "traceprofile",
}

// bindUnsafe adds the flag.
func bindUnsafe(flags *pflag.FlagSet) {
	flags.Bool(allowUnsafe, false, "Let the file set flags and variables that can run other programs.")
}

// permitted reports whether the file may say what could run other programs.
func permitted(o Options) bool {
	if o.Flags != nil {
		if f := o.Flags.Lookup(allowUnsafe); f != nil && f.Changed {
			return f.Value.String() == "true"
		}
	}
	text, _ := o.Lookup(allowUnsafeEnv)
	return text == "true" || text == "1"
}

// refuseUnsafe complains of all that the file says and that could run other
// programs. What flags and environment say is the person's own word.
func (c *Config) refuseUnsafe() error {
	var errs []error
	seen := map[string]bool{}
	look := func(prefix, key string, items []string, examine func(string) error) {
		origin := c.origins[prefix+key]
		if strings.Contains(prefix, "overrides") {
			origin = Origin{Kind: FromFile, Name: c.File}
		}
		for _, item := range items {
			err := examine(item)
			if at := fmt.Sprint(origin, key, item); err != nil && origin.Kind == FromFile && !seen[at] {
				seen[at] = true
				errs = append(errs, &Problem{Origin: origin, Key: prefix + key, Err: err})
			}
		}
	}
	settings := func(prefix string, env, ldflags, gcflags []string) {
		look(prefix, "env", env, unsafeVariable)
		look(prefix, "ldflags", ldflags, unsafeFlags)
		look(prefix, "gcflags", gcflags, unsafeFlags)
	}
	compilers := func(prefix string, g Cgo) {
		for _, one := range []struct {
			key  string
			name string
			list map[string]string
		}{{"cgo.cc", "CC", g.CC}, {"cgo.cxx", "CXX", g.CXX}} {
			for _, p := range slices.Sorted(maps.Keys(one.list)) {
				look(prefix, one.key, []string{one.name + "=" + one.list[p]}, unsafeVariable)
			}
		}
		for _, p := range slices.Sorted(maps.Keys(g.Env)) {
			look(prefix, "cgo.env", g.Env[p], unsafeVariable)
		}
	}
	compilers("", c.Cgo)
	settings("", c.Env, c.Ldflags, c.Gcflags)
	for i, b := range c.Builds {
		prefix := fmt.Sprintf("builds[%d].", i)
		compilers(prefix, b.Cgo)
		settings(prefix, b.Env, b.Ldflags, b.Gcflags)
		for _, key := range slices.Sorted(maps.Keys(b.Overrides)) {
			o := b.Overrides[key]
			settings(prefix+"overrides."+key+".", o.Env, o.Ldflags, o.Gcflags)
		}
	}
	return errors.Join(errs...)
}

// unsafeVariable says why a file may not set a variable.
func unsafeVariable(kv string) error {
	name, value, _ := strings.Cut(kv, "=")
	if slices.Contains(harmless, name) || (name == "CC" || name == "CXX") && compiler.MatchString(value) {
		return nil
	}
	return unsafe(name)
}

// unsafeFlags says why a file may not give flags to linker or compiler. Quotes are
// taken for separators: a flag inside one is refused, too.
func unsafeFlags(text string) error {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n'\"", r) }) {
		if pattern, rest, ok := strings.Cut(word, "="); ok && !strings.HasPrefix(pattern, "-") && strings.HasPrefix(rest, "-") {
			word = rest // all=-N
		}
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if strings.HasPrefix(word, "@") || strings.HasPrefix(word, "-") && slices.Contains(toolFlags, name) {
			return unsafe(word)
		}
	}
	return nil
}

func unsafe(what string) error {
	return fmt.Errorf("%s could run a program or write a file that this file chooses; give it by flag, or allow it with --%s", shorten(what), allowUnsafe)
}
