package crosscompile

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
