package smoke

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/cpu"

	"github.com/mabuild/mabuild/internal/elf"
)

// This file says whether this machine can run a program of a platform: itself, or by an
// emulator that is registered with the kernel (Documentation/admin-guide/binfmt-misc.rst).

// binfmt is the directory of the registered emulators.
const binfmt = "/proc/sys/fs/binfmt_misc"

// native are the architectures beside its own that a processor usually runs.
var native = map[string][]string{"amd64": {"386"}}

// notEmulated is why a machine cannot run programs of other machines.
const notEmulated = "no emulator is registered"

// unable returns why this machine cannot run programs of a platform, or "". On a host that is
// not Linux, Docker or podman runs Linux and is the one to say.
func unable(p ocispec.Platform) string {
	switch {
	case p.OS != "linux":
		return "containers of " + p.OS + " are not started"
	case runtime.GOOS != "linux":
		return ""
	case p.Architecture == runtime.GOARCH || slices.Contains(native[runtime.GOARCH], p.Architecture):
		return tooOld(p)
	case !emulated(p.Architecture, binfmt):
		return notEmulated
	}
	return ""
}

// tooOld returns why the processor lacks what a variant of its architecture needs, or ""
// (x86-64 psABI, micro-architecture levels).
func tooOld(p ocispec.Platform) string {
	x := cpu.X86
	levels := map[string]bool{
		"v2": x.HasSSE42 && x.HasPOPCNT && x.HasSSSE3, "v3": x.HasAVX2 && x.HasBMI1 && x.HasBMI2 && x.HasFMA,
		"v4": x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL,
	}
	if has, known := levels[p.Variant]; p.Architecture == "amd64" && known && !has {
		return "the processor lacks instructions of " + p.Variant
	}
	return ""
}

// emulated reports whether an emulator is registered that the kernel would use for programs
// of an architecture in another root: its flag F keeps it open.
func emulated(arch, dir string) bool {
	header := elf.Header(arch)
	if header == nil {
		return false
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		return err == nil && accepts(string(raw), header)
	})
}

// accepts reports whether the registration of an emulator is enabled, has the flag F and
// matches the beginning of a program.
func accepts(registration string, header []byte) bool {
	if !strings.HasPrefix(registration, "enabled\n") {
		return false
	}
	field := func(name string) string {
		for line := range strings.SplitSeq(registration, "\n") {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				return value
			}
		}
		return ""
	}
	offset, _ := strconv.Atoi(field("offset"))
	magic, err := hex.DecodeString(field("magic"))
	if err != nil || len(magic) == 0 || offset < 0 || offset+len(magic) > len(header) || !strings.Contains(field("flags:"), "F") {
		return false
	}
	mask, _ := hex.DecodeString(field("mask"))
	for i, want := range magic {
		is := header[offset+i]
		if i < len(mask) {
			is, want = is&mask[i], want&mask[i]
		}
		if is != want {
			return false
		}
	}
	return true
}
