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

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// checkCompilers returns an error if a platform has no C compiler, if it is not
// installed, or if what it links does not run there.
func (g *Go) checkCompilers(ctx context.Context, tc *toolchain, list []ocispec.Platform, c Cgo) error {
	supported, err := tc.withCgo(ctx)
	if err != nil {
		return err
	}
	e := &compilerProblems{}
	for _, p := range list {
		switch choice := g.chooseToolchain(p, c); {
		case !slices.Contains(supported, p.OS+"/"+p.Architecture):
			e.refuse(p, "Go does not support cgo for this platform", "")
		case choice.cc == "":
			reason := c.toolchain() + " has no C compiler for this platform"
			if c.toolchain() == Custom {
				reason = "no custom C compiler is set for this platform"
			}
			e.refuse(p, reason, "set one: cgo: {cc: {"+platform.Key(p)+": COMMAND}}, or "+variable("CC_FOR_", platform.Key(p))+"=COMMAND in the environment")
		case !installed(choice.cc):
			e.miss(p, choice.cc, choice.namedCC)
		// A C++ compiler of the toolchain may be missing: most programs have no C++ code.
		// One that the user has named must exist.
		case choice.namedCXX && !installed(choice.cxx):
			e.miss(p, choice.cxx, true)
		default:
			if reason := g.tooNew(ctx, p, choice.cc); reason != "" {
				e.refuse(p, reason, "use arm-linux-gnueabi-gcc or zig, which have older start code")
			}
		}
	}
	return e.err()
}

// installed reports whether the program of a command is on PATH.
func installed(command string) bool {
	_, err := exec.LookPath(programOf(command))
	return err == nil
}

// programOf returns the first word of a command. As for the go command, quotes may
// enclose the word.
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

// tooNew returns the reason why programs linked by a C compiler do not run on an older
// ARM, or "". The compiler adds start code to every program. This code is for the
// architecture that the compiler was configured for, and no flag changes it: Debian's
// gnueabihf compiler, for example, is configured for ARMv7.
//
// It asks the compiler for its default macro __ARM_ARCH. A command with arguments is not
// checked, since they may choose other start code.
func (g *Go) tooNew(ctx context.Context, p ocispec.Platform, command string) string {
	want := map[string]string{"v5": "5", "v6": "6"}[p.Variant]
	program := programOf(command)
	if p.Architecture != "arm" || want == "" || program != strings.TrimSpace(command) {
		return ""
	}
	out, err := exec.CommandContext(ctx, program, "-dM", "-E", "-x", "c", "/dev/null").Output() //nolint:gosec // the compiler, as the person named it
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if has, ok := strings.CutPrefix(line, "#define __ARM_ARCH "); ok && strings.TrimSpace(has) > want {
			return fmt.Sprintf("%s has start code for ARMv%s, which ARMv%s cannot run", program, strings.TrimSpace(has), want)
		}
	}
	return ""
}

// withCgo lists the os/architecture pairs for which Go supports cgo.
func (tc *toolchain) withCgo(ctx context.Context) ([]string, error) {
	// Only the JSON output says for which platforms Go supports cgo.
	out, err := tc.run(ctx, "", "tool", "dist", "list", "-json")
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

// compilerProblems has which C compilers are missing or not suitable, for all platforms.
type compilerProblems struct {
	refused  []string
	missing  []string
	packages map[string]bool // Debian packages that have the missing ones
	zig      bool            // zig is missing
	ways     []string        // hints other than an installation
}

// refuse records a platform whose compiler cannot be used.
func (e *compilerProblems) refuse(p ocispec.Platform, reason, way string) {
	e.refused = append(e.refused, fmt.Sprintf("%s: %s", platform.Key(p), reason))
	if way != "" {
		e.ways = append(e.ways, way)
	}
}

// miss records a program that is not installed, and the package that has it. For a
// command that the user named the package is known only if it is a compiler of the
// toolchain.
func (e *compilerProblems) miss(p ocispec.Platform, command string, named bool) {
	program := programOf(command)
	e.missing = append(e.missing, fmt.Sprintf("%s: %s is not installed", platform.Key(p), program))
	t := compilerOf(p)
	if e.packages == nil {
		e.packages = map[string]bool{}
	}
	// Names of Debian packages have no underscores: gcc-x86-64-linux-gnu.
	add := func(name string) { e.packages[strings.ReplaceAll(name, "_", "-")] = true }
	switch {
	case program == "zig":
		e.zig = true
	// The host needs no cross compiler.
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

// err returns all problems in one error, or nil. Its hint is the commands that install what
// is missing.
func (e *compilerProblems) err() error {
	if len(e.refused)+len(e.missing) == 0 {
		return nil
	}
	var ways []string
	if len(e.packages) > 0 {
		ways = append(ways, "apt-get install "+strings.Join(slices.Sorted(maps.Keys(e.packages)), " "))
	}
	if e.zig {
		ways = append(ways, "install zig and put it on PATH: https://ziglang.org/download/")
	}
	way := strings.Join(append(ways, e.ways...), "; ")
	return hint.New(hint.Usage, way, "cgo: %s", strings.Join(slices.Concat(e.refused, e.missing), "; "))
}
