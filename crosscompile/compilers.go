package crosscompile

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

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
