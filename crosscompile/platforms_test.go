package crosscompile_test

import (
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// inContainers lists every pair of `go tool dist list` that containers run on, and the
// format of its programs. The formats come from the specifications of ELF, PE and
// WebAssembly, not from this package's tables.
var inContainers = map[string]string{
	"freebsd/amd64":  "ELF 64 little 62",
	"freebsd/arm64":  "ELF 64 little 183",
	"linux/386":      "ELF 32 little 3",
	"linux/amd64":    "ELF 64 little 62",
	"linux/arm/v7":   "ELF 32 little 40",
	"linux/arm64":    "ELF 64 little 183",
	"linux/loong64":  "ELF 64 little 258",
	"linux/mips":     "ELF 32 big 8",
	"linux/mips64":   "ELF 64 big 8",
	"linux/mips64le": "ELF 64 little 8",
	"linux/mipsle":   "ELF 32 little 8",
	"linux/ppc64":    "ELF 64 big 21",
	"linux/ppc64le":  "ELF 64 little 21",
	"linux/riscv64":  "ELF 64 little 243",
	"linux/s390x":    "ELF 64 big 22",
	"wasip1/wasm":    "WebAssembly 1",
	"windows/amd64":  "PE 0x8664",
	"windows/arm64":  "PE 0xaa64",
}

// Every platform of go tool dist list compiles to a program of its format.
func TestEveryPlatform(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26\n", "main.go": mainGo})
	g := new(crosscompile.Go)
	targets, err := g.Targets(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range targets {
		got = append(got, platform.Key(p))
	}
	for _, key := range got {
		if _, ok := inContainers[key]; !ok && strings.HasPrefix(key, "linux/") {
			t.Errorf("%s is new: add the format of its programs to this list", key)
		}
	}
	for key, want := range inContainers {
		if !slices.Contains(got, key) {
			t.Errorf("%s is missing in %v", key, got)
			continue
		}
		out := filepath.Join(t.TempDir(), "hello")
		b, err := g.Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: out, Platform: parse(t, key)})
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if is := format(t, out); is != want {
			t.Errorf("%s: the program is %s, want %s", key, is, want)
		}
		if b.Info == nil {
			continue
		}
		for _, kv := range b.Info.Settings { // the default of a variant is listed, too
			if kv.Key == "GOOS" && !strings.HasPrefix(key, kv.Value+"/") {
				t.Errorf("%s: built for %s", key, kv.Value)
			}
		}
	}
}

// Each variant changes the build settings that the program contains.
func TestEveryVariantIsCompiledFor(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26\n", "main.go": mainGo})
	for _, key := range []string{"linux/amd64/v3", "linux/arm/v5", "linux/arm/v6", "linux/arm64/v9"} {
		p := parse(t, key)
		b, err := new(crosscompile.Go).Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: filepath.Join(t.TempDir(), "hello"), Platform: p})
		if err != nil {
			t.Fatal(err)
		}
		env, err := crosscompile.Env(p)
		if err != nil {
			t.Fatal(err)
		}
		variable, _ := crosscompile.Variants(p.Architecture)
		for _, kv := range env {
			name, _, _ := strings.Cut(kv, "=")
			if slices.Contains([]string{"GOOS", "GOARCH", variable}, name) && !slices.ContainsFunc(b.Info.Settings, func(s debug.BuildSetting) bool { return s.Key+"="+s.Value == kv }) {
				t.Errorf("%s: built with %v; %s is missing", key, b.Info.Settings, kv)
			}
		}
	}
}

// format returns the format and the machine of a program.
func format(t *testing.T, file string) string {
	t.Helper()
	head, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case string(head[:4]) == elf.ELFMAG:
		bits := map[byte]int{1: 32, 2: 64}[head[4]]
		order, name := binary.ByteOrder(binary.LittleEndian), "little"
		if head[5] == 2 {
			order, name = binary.BigEndian, "big"
		}
		return fmt.Sprintf("ELF %d %s %d", bits, name, order.Uint16(head[18:]))
	case string(head[:4]) == "\x00asm":
		return fmt.Sprintf("WebAssembly %d", binary.LittleEndian.Uint32(head[4:]))
	case string(head[:2]) == "MZ":
		f, err := pe.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return fmt.Sprintf("PE %#x", f.Machine)
	}
	return fmt.Sprintf("%q", head[:8])
}
