package crosscompile

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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

// A ccChoice is the compiler that was chosen for a platform.
type ccChoice struct {
	cc, cxx           string
	namedCC, namedCXX bool // by the person, not by the toolchain
}

// chooseToolchain says which compilers c has for p.
func (g *Go) chooseToolchain(p ocispec.Platform, c Cgo) (choice ccChoice) {
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
