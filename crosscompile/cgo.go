package crosscompile

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// The toolchains of C that cgo can use.
const (
	GNU    = "gnu"    // the cross compilers of GCC under their names in Debian
	Zig    = "zig"    // zig cc, one program for all platforms
	Custom = "custom" // only the commands that CC, CXX and the environment name
)

// Cgo says which C compilers cgo uses. The zero value uses those of GNU.
type Cgo struct {
	Toolchain string // GNU, Zig or Custom; "": GNU
	Static    bool   // link the C library statically, so that the base needs none
	// CC and CXX are the commands for single platforms, by [platform.Key]. The variables
	// CC_FOR_… and CXX_FOR_… of the environment override them. A command is a program on
	// PATH or the path of a program, and may have arguments.
	CC, CXX map[string]string
	Env     map[string][]string // NAME=value for single platforms, such as CGO_CFLAGS=-O2
}

// A ccChoice is the pair of compilers for a platform; an empty command means that there
// is none.
type ccChoice struct {
	cc, cxx           string
	namedCC, namedCXX bool // set by the user, not by the toolchain
}

// chooseToolchain returns the compilers for p: those that the user named, else those of
// the toolchain. For the platform of the host it also accepts plain gcc, since only
// Debian has the host's compiler under the name of a cross compiler.
func (g *Go) chooseToolchain(p ocispec.Platform, c Cgo) (choice ccChoice) {
	choice.cc, choice.namedCC = g.said("CC_FOR_", p, c.CC)
	choice.cxx, choice.namedCXX = g.said("CXX_FOR_", p, c.CXX)
	t, toolchain := compilerOf(p), c.toolchain()
	if !choice.namedCC {
		choice.cc = t.command(toolchain, c.Static, false)
	}
	if own := p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH; own && toolchain == GNU && !choice.namedCC && !installed(choice.cc) && installed("gcc") {
		choice.cc, t.gnu = "gcc", "" // an empty t.gnu prevents a g++ that does not match
		if !choice.namedCXX {
			choice.cxx, choice.namedCXX = "g++", installed("g++")
		}
	}
	if !choice.namedCXX && choice.cxx == "" {
		choice.cxx = t.command(toolchain, c.Static, true)
	}
	return choice
}

// toolchain returns the toolchain, with its default.
func (c Cgo) toolchain() string {
	if c.Toolchain == "" {
		return GNU
	}
	return c.Toolchain
}

// said returns the command that the user named for p, from a variable of the environment
// or from a map. A variable overrides the map, also if it is for a less specific key.
func (g *Go) said(prefix string, p ocispec.Platform, byPlatform map[string]string) (command string, ok bool) {
	for _, key := range cgoKeys(p) {
		names := []string{key}
		// linux/arm without a variant means linux/arm/v7.
		if key == "linux/arm/v7" {
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

// variable returns the name of the variable for a platform, such as CC_FOR_linux_arm_v7.
func variable(prefix, key string) string {
	return prefix + strings.NewReplacer("/", "_", ".", "_").Replace(key)
}

// cgoEnv returns the variables that make the go command use cgo for p. The variables of
// the more specific keys come last: the go command uses the last value of a variable.
func (g *Go) cgoEnv(p ocispec.Platform, c Cgo) []string {
	choice := g.chooseToolchain(p, c)
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

// A compiler has the names that each toolchain uses for one platform.
type compiler struct {
	gnu    string // the triplet in the names of GNU's programs; "": no such compiler
	debian string // the architecture in the names of Debian's packages
	zig    string // for zig's -target; LIBC stands for the C library
	cpu    string // for zig's -mcpu; "": the oldest CPU of the architecture
}

// compilers has the C compilers by platform. Only arm has an entry for each variant,
// since its variants have different calling conventions or instructions.
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

// compilerOf returns the entry of compilers for p, or the zero compiler.
func compilerOf(p ocispec.Platform) compiler {
	for _, key := range cgoKeys(p) {
		if c, ok := compilers[key]; ok {
			return c
		}
	}
	return compiler{}
}

// cgoKeys returns the keys under which the settings of p's C compiler are found, the most
// specific first. Variants of architectures other than arm only add instructions, so the
// compiler for the architecture without a variant can be used for them.
func cgoKeys(p ocispec.Platform) []string {
	p.OSVersion, p.OSFeatures = "", nil
	keys := []string{platform.Key(p)}
	if p.Architecture != "arm" {
		p.Variant = ""
		keys = append(keys, platform.Key(p))
	}
	return slices.Compact(keys)
}

// command returns the toolchain's C or C++ compiler, "" if it has none.
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
		if static { // glibc cannot be linked statically by zig
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

// Compilers returns the command of the C compiler for p, by the name of the toolchain.
// Toolchains without a compiler for p are left out. Nothing is run.
func Compilers(p ocispec.Platform) map[string]string {
	all := map[string]string{}
	for _, toolchain := range []string{GNU, Zig} {
		if command := compilerOf(p).command(toolchain, false, false); command != "" {
			all[toolchain] = command
		}
	}
	return all
}
