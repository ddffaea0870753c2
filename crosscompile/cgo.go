package crosscompile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Toolchains of C that cgo may use.
const (
	GNU    = "gnu"    // GCC's cross compilers under the names that Debian gives them
	Zig    = "zig"    // zig cc, one program for all platforms
	Custom = "custom" // those that CC, CXX and the environment name, and no others
)

// Cgo says which C compilers cgo uses. Its zero value is GNU's.
type Cgo struct {
	Toolchain string // GNU, Zig or Custom, "": GNU
	Static    bool   // link the C library in: nothing is needed of the base
	// CC and CXX are the commands for single platforms, by [platform.Key]; CC_FOR_
	// and CXX_FOR_ variables beat them. A command is a program on PATH or its path,
	// and may have arguments.
	CC, CXX map[string]string
	Env     map[string][]string // K=V for single platforms: CGO_CFLAGS=-O2
}

// A compiler is what a toolchain has for one platform.
type compiler struct {
	gnu    string // the triplet in the names of its programs
	debian string // the architecture in the names of Debian's libraries
	zig    string // zig's -target, with LIBC where the library's name belongs
	cpu    string // zig's -mcpu, "": the architecture's oldest
}

// compilers lists the C compilers by platform, architectures with variants of
// their own by these.
var compilers = map[string]compiler{
	"linux/386":      {gnu: "i686-linux-gnu", debian: "i386", zig: "x86-linux-LIBC"},
	"linux/amd64":    {gnu: "x86_64-linux-gnu", debian: "amd64", zig: "x86_64-linux-LIBC"},
	"linux/arm/v5":   {gnu: "arm-linux-gnueabi", debian: "armel", zig: "arm-linux-LIBCeabi", cpu: "arm926ej_s"},
	"linux/arm/v6":   {gnu: "arm-linux-gnueabi", debian: "armel", zig: "arm-linux-LIBCeabihf", cpu: "arm1176jzf_s"},
	"linux/arm/v7":   {gnu: "arm-linux-gnueabihf", debian: "armhf", zig: "arm-linux-LIBCeabihf", cpu: "generic+v7a"},
	"linux/arm64":    {gnu: "aarch64-linux-gnu", debian: "arm64", zig: "aarch64-linux-LIBC"},
	"linux/loong64":  {gnu: "loongarch64-linux-gnu", debian: "loong64", zig: "loongarch64-linux-LIBC"},
	"linux/mips":     {gnu: "mips-linux-gnu", debian: "mips", zig: "mips-linux-LIBCeabihf"},
	"linux/mipsle":   {gnu: "mipsel-linux-gnu", debian: "mipsel", zig: "mipsel-linux-LIBCeabihf"},
	"linux/mips64":   {gnu: "mips64-linux-gnuabi64", debian: "mips64", zig: "mips64-linux-LIBCabi64"},
	"linux/mips64le": {gnu: "mips64el-linux-gnuabi64", debian: "mips64el", zig: "mips64el-linux-LIBCabi64"},
	"linux/ppc64le":  {gnu: "powerpc64le-linux-gnu", debian: "ppc64el", zig: "powerpc64le-linux-LIBC"},
	"linux/riscv64":  {gnu: "riscv64-linux-gnu", debian: "riscv64", zig: "riscv64-linux-LIBC"},
	"linux/s390x":    {gnu: "s390x-linux-gnu", debian: "s390x", zig: "s390x-linux-LIBC"},
	"windows/amd64":  {gnu: "x86_64-w64-mingw32", zig: "x86_64-windows-gnu"},
	"windows/arm64":  {zig: "aarch64-windows-gnu"},
}

// compilerOf returns what there is for p.
func compilerOf(p ocispec.Platform) compiler {
	for _, key := range cgoKeys(p) {
		if c, ok := compilers[key]; ok {
			return c
		}
	}
	return compiler{}
}

// cgoKeys returns the keys under which something may be said of p's C compiler:
// its own and, as the variants of other architectures than arm only add to what
// all of them have, the one without a variant.
func cgoKeys(p ocispec.Platform) []string {
	p.OSVersion, p.OSFeatures = "", nil
	keys := []string{platform.Key(p)}
	if p.Architecture != "arm" {
		p.Variant = ""
		keys = append(keys, platform.Key(p))
	}
	return slices.Compact(keys)
}

// command returns the toolchain's compiler for p, "" where it has none.
func (t compiler) command(toolchain string, static, cxx bool) string {
	switch {
	case toolchain == GNU && t.gnu != "" && cxx:
		return t.gnu + "-g++"
	case toolchain == GNU && t.gnu != "":
		return t.gnu + "-gcc"
	case toolchain == Zig && t.zig != "":
		program, libc := "cc", "gnu"
		if cxx {
			program = "c++"
		}
		if static { // glibc is not made to be linked in, and zig does not
			libc = "musl"
		}
		command := "zig " + program + " -target " + strings.Replace(t.zig, "LIBC", libc, 1)
		if t.cpu != "" {
			command += " -mcpu=" + t.cpu
		}
		return command
	}
	return ""
}

// Compilers returns the command of the C compiler for p of each toolchain that
// has one.
func Compilers(p ocispec.Platform) map[string]string {
	all := map[string]string{}
	for _, toolchain := range []string{GNU, Zig} {
		if command := compilerOf(p).command(toolchain, false, false); command != "" {
			all[toolchain] = command
		}
	}
	return all
}

// A ccChoice is the compiler that was chosen for a platform.
type ccChoice struct {
	cc, cxx           string
	namedCC, namedCXX bool // by the person, not by the toolchain
}

// choose says which compilers c has for p.
func (g *Go) choose(p ocispec.Platform, c Cgo) (choice ccChoice) {
	choice.cc, choice.namedCC = g.said("CC_FOR_", p, c.CC)
	choice.cxx, choice.namedCXX = g.said("CXX_FOR_", p, c.CXX)
	t, toolchain := compilerOf(p), c.toolchain()
	if !choice.namedCC {
		choice.cc = t.command(toolchain, c.Static, false)
	}
	if own := p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH; own && toolchain == GNU && !choice.namedCC && !installed(choice.cc) && installed("gcc") {
		choice.cc, t.gnu = "gcc", "" // outside Debian the machine's own has no other name
		if !choice.namedCXX {
			choice.cxx, choice.namedCXX = "g++", installed("g++")
		}
	}
	if !choice.namedCXX && choice.cxx == "" {
		choice.cxx = t.command(toolchain, c.Static, true)
	}
	return choice
}

func (c Cgo) toolchain() string {
	if c.Toolchain == "" {
		return GNU
	}
	return c.Toolchain
}

// said returns what variables or a map say of p's compiler.
func (g *Go) said(prefix string, p ocispec.Platform, byPlatform map[string]string) (command string, ok bool) {
	for _, key := range cgoKeys(p) {
		names := []string{key}
		if key == "linux/arm/v7" { // what linux/arm means
			names = append(names, "linux/arm")
		}
		for _, name := range names {
			if command := g.lookup(variable(prefix, name)); command != "" {
				return command, true
			}
		}
	}
	for _, key := range cgoKeys(p) {
		if command, ok := byPlatform[key]; ok && command != "" {
			return command, true
		}
	}
	return "", false
}

// variable returns the name of a platform's variable, CC_FOR_linux_arm_v7.
func variable(prefix, key string) string {
	return prefix + strings.NewReplacer("/", "_", ".", "_").Replace(key)
}

// cgoEnv returns the variables that make the go command use c for p.
func (g *Go) cgoEnv(p ocispec.Platform, c Cgo) []string {
	choice := g.choose(p, c)
	env := []string{"CGO_ENABLED=1"}
	if choice.cc != "" {
		env = append(env, "CC="+choice.cc)
	}
	if choice.cxx != "" {
		env = append(env, "CXX="+choice.cxx)
	}
	for _, key := range slices.Backward(cgoKeys(p)) {
		env = append(env, c.Env[key]...)
	}
	return env
}

// LookCompilers checks, before anything is compiled, that every platform has a C
// compiler, that it is installed, and that what it links runs there. All that is
// wrong comes in one error, a [*CompilerError], with the commands that install
// what is missing.
func (g *Go) LookCompilers(ctx context.Context, dir string, list []ocispec.Platform, c Cgo) error {
	supported, err := g.withCgo(ctx, dir)
	if err != nil {
		return err
	}
	e := &CompilerError{}
	for _, p := range list {
		switch choice := g.choose(p, c); {
		case !slices.Contains(supported, p.OS+"/"+p.Architecture):
			e.refuse(p, "Go has no cgo there", "")
		case choice.cc == "":
			reason := c.toolchain() + " has no C compiler for it"
			if c.toolchain() == Custom {
				reason = "custom names no C compiler for it"
			}
			e.refuse(p, reason, "name one: cgo: {cc: {"+platform.Key(p)+": COMMAND}}, or "+variable("CC_FOR_", platform.Key(p))+"=COMMAND in the environment")
		case !installed(choice.cc):
			e.miss(p, choice.cc, choice.namedCC)
		case choice.namedCXX && !installed(choice.cxx):
			e.miss(p, choice.cxx, true)
		default:
			if reason := g.tooNew(ctx, p, choice.cc); reason != "" {
				e.refuse(p, reason, "take arm-linux-gnueabi-gcc or zig, whose start code is older")
			}
		}
	}
	if len(e.refused)+len(e.missing) == 0 {
		return nil
	}
	return e
}

// installed reports whether a command's program can be run.
func installed(command string) bool {
	_, err := exec.LookPath(programOf(command))
	return err == nil
}

// programOf returns a command's first word, which quotes may hold together, as
// the go command splits it.
func programOf(command string) string {
	command = strings.TrimSpace(command)
	for _, quote := range []string{`'`, `"`} {
		if rest, ok := strings.CutPrefix(command, quote); ok {
			word, _, _ := strings.Cut(rest, quote)
			return word
		}
	}
	word, _, _ := strings.Cut(command, " ")
	return word
}

// tooNew says why what a C compiler links does not run on an older ARM: its start
// code, which goes into every program, is of the architecture that the compiler
// aims at by itself, and no flag changes that. Debian's gnueabihf is ARMv7.
func (g *Go) tooNew(ctx context.Context, p ocispec.Platform, command string) string {
	want := map[string]string{"v5": "5", "v6": "6"}[p.Variant]
	program := programOf(command)
	if p.Architecture != "arm" || want == "" || program != strings.TrimSpace(command) { // its arguments may choose other start code
		return ""
	}
	out, err := exec.CommandContext(ctx, program, "-dM", "-E", "-x", "c", "/dev/null").Output() //nolint:gosec // the compiler, as the person named it
	if err != nil {
		return "" // it will say so itself
	}
	for line := range strings.Lines(string(out)) {
		if has, ok := strings.CutPrefix(line, "#define __ARM_ARCH "); ok && strings.TrimSpace(has) > want {
			return fmt.Sprintf("%s has start code for ARMv%s, which an ARMv%s cannot run", program, strings.TrimSpace(has), want)
		}
	}
	return ""
}

// withCgo lists the os/architecture pairs that Go has cgo for.
func (g *Go) withCgo(ctx context.Context, dir string) ([]string, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	out, err := run(ctx, process{bin: tc.bin, env: tc.env, args: []string{"tool", "dist", "list", "-json"}})
	if err != nil {
		return nil, err
	}
	var all []struct {
		GOOS, GOARCH string
		CgoSupported bool
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("go tool dist list -json: %w", err)
	}
	var pairs []string
	for _, one := range all {
		if one.CgoSupported {
			pairs = append(pairs, one.GOOS+"/"+one.GOARCH)
		}
	}
	return pairs, nil
}

// A CompilerError says which C compilers are missing, or do not do, for all
// platforms.
type CompilerError struct {
	refused  []string
	missing  []string
	packages map[string]bool // of Debian
	zig      bool
	ways     []string // beside installing
}

func (e *CompilerError) refuse(p ocispec.Platform, reason, way string) {
	e.refused = append(e.refused, fmt.Sprintf("%s: %s", platform.Key(p), reason))
	if way != "" {
		e.ways = append(e.ways, way)
	}
}

// miss notes a program that is not installed. What a person named themselves
// comes in a package only if it is one of those that we know.
func (e *CompilerError) miss(p ocispec.Platform, command string, named bool) {
	program := programOf(command)
	e.missing = append(e.missing, fmt.Sprintf("%s: %s is not installed", platform.Key(p), program))
	t := compilerOf(p)
	if e.packages == nil {
		e.packages = map[string]bool{}
	}
	add := func(name string) { e.packages[strings.ReplaceAll(name, "_", "-")] = true }
	switch {
	case program == "zig":
		e.zig = true
	case !named && p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH:
		add("gcc")
		add("libc6-dev")
	case t.gnu == "" || named && !strings.HasPrefix(program, t.gnu+"-"):
	case strings.HasSuffix(t.gnu, "mingw32"):
		add("gcc-mingw-w64-x86-64")
	default:
		add("gcc-" + t.gnu)
		add("libc6-dev-" + t.debian + "-cross")
		if strings.HasSuffix(program, "g++") {
			add("g++-" + t.gnu)
		}
	}
}

func (e *CompilerError) Error() string {
	return "cgo: " + strings.Join(slices.Concat(e.refused, e.missing), "; ")
}

// Hint returns the command that installs what is missing.
func (e *CompilerError) Hint() string {
	var ways []string
	if len(e.packages) > 0 {
		ways = append(ways, "apt-get install "+strings.Join(slices.Sorted(maps.Keys(e.packages)), " "))
	}
	if e.zig {
		ways = append(ways, "install zig and put it on PATH: https://ziglang.org/download/")
	}
	return strings.Join(append(ways, e.ways...), "; ")
}
