package crosscompile

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ownelf "github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/hint"
)

// peMachines and machoCPUs have the processor for each architecture of Windows and macOS.
var peMachines = map[string]uint16{
	"386": pe.IMAGE_FILE_MACHINE_I386, "amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64,
}

var machoCPUs = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}

// Verify checks that f is an executable for p, whatever language it is written in, and
// returns its build information, which is nil if Go did not write any, as for wasm.
//
// It compares the format with the operating system, and machine, class and byte order with
// the architecture. The program must not require a later version of the processor than the
// variant of p has, as far as the program says which one it requires: by Go's settings, or
// by the build attributes of ARM. For plan9 and aix nothing is checked.
func Verify(f io.ReaderAt, p ocispec.Platform) (info *buildinfo.BuildInfo, err error) {
	if err = verifyFormat(f, p); err == nil {
		info, _ = buildinfo.Read(f) // nil after an error: it is not written in Go
		err = verifyVariant(f, info, p)
	}
	if err != nil {
		return nil, hint.New(hint.Build, "", "not an executable of the platform: %w", err)
	}
	return info, nil
}

// A processor says in which setting of Go a program has the version of a processor that it
// requires, and which version a platform without a variant has.
type processor struct {
	setting string
	usual   int
}

var processors = map[string]processor{"amd64": {"GOAMD64", 1}, "arm": {"GOARM", 7}, "arm64": {"GOARM64", 8}}

// verifyVariant compares the version of the processor that a program requires with p. A
// program that does not say which one it requires passes.
func verifyVariant(f io.ReaderAt, info *buildinfo.BuildInfo, p ocispec.Platform) error {
	processor, ok := processors[p.Architecture]
	if !ok {
		return nil
	}
	requires := 0
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == processor.setting {
				requires = firstNumber(s.Value)
			}
		}
	} else if x, err := elf.NewFile(f); err == nil && p.Architecture == "arm" {
		requires = ownelf.ARMVersion(x)
	}
	if has := cmp.Or(firstNumber(p.Variant), processor.usual); requires > has {
		return fmt.Errorf("it requires version %d of %s, and the platform has version %d", requires, p.Architecture, has)
	}
	return nil
}

// firstNumber returns the first number in a text, such as 8 of v8.1, or 0.
func firstNumber(text string) int {
	text = strings.TrimLeft(text, "v")
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, _ := strconv.Atoi(text[:end]) // 0 if there is none
	return n
}

// verifyFormat compares the format of a file with p.
func verifyFormat(f io.ReaderAt, p ocispec.Platform) error {
	switch {
	// WebAssembly has one format for all operating systems.
	case p.Architecture == "wasm":
		return verifyWasm(f)
	case p.OS == "windows":
		x, err := pe.NewFile(f)
		if err != nil {
			return notA(f, "PE", err)
		}
		if want := peMachines[p.Architecture]; x.Machine != want {
			return fmt.Errorf("it is for %s, not for %s", nameOf(peMachines, x.Machine), p.Architecture)
		}
	case p.OS == "darwin" || p.OS == "ios":
		x, err := macho.NewFile(f)
		if err != nil {
			return notA(f, "Mach-O", err)
		}
		if want := machoCPUs[p.Architecture]; x.Cpu != want {
			return fmt.Errorf("it is for %s, not for %s", nameOf(machoCPUs, x.Cpu), p.Architecture)
		}
	case p.OS == "plan9" || p.OS == "aix": // a.out and XCOFF; containers run neither
		return nil
	default:
		return verifyELF(f, p.Architecture)
	}
	return nil
}

// nameOf returns Go's name of a processor, or its number.
func nameOf[M interface{ ~uint16 | ~uint32 }](machines map[string]M, is M) string {
	for name, m := range machines {
		if m == is {
			return name
		}
	}
	return fmt.Sprintf("machine %#x", uint32(is))
}

// formats has how files begin that are no programs of a platform, and what they are.
var formats = []struct{ head, format, is string }{
	{"#!", "", "a script, and must be an executable"},
	{elf.ELFMAG, "ELF", "an ELF program, of Linux or another Unix"},
	{"MZ", "PE", "a program of Windows"},
	{"\xcf\xfa\xed\xfe", "Mach-O", "a program of macOS"},
	{"\x1f\x8b", "", "a gzip file"},
	{"PK\x03\x04", "", "a zip file"},
	{"\x00asm", "", "a WebAssembly module"},
}

// notA returns the error for a file that cannot be read as one of a format: what it is instead,
// if that is known. The parser's own text is left out.
func notA(f io.ReaderAt, format string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return err
	}
	head := make([]byte, 4)
	n, _ := f.ReadAt(head, 0) // what is missing matches nothing
	for _, known := range formats {
		if strings.HasPrefix(string(head[:n]), known.head) && known.format != format {
			return fmt.Errorf("it is %s", known.is)
		}
	}
	return fmt.Errorf("it is not a valid %s file", format)
}

// verifyELF compares the header of an ELF file with an architecture.
func verifyELF(f io.ReaderAt, architecture string) error {
	x, err := elf.NewFile(f)
	if err != nil {
		return notA(f, "ELF", err)
	}
	head := make([]byte, ownelf.HeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if is := ownelf.Architecture(head); is != architecture {
		return fmt.Errorf("it is for %s, not for %s", cmp.Or(is, x.Machine.String()), architecture)
	}
	return nil
}

// verifyWasm checks the first bytes of a WebAssembly module. It has no processor.
func verifyWasm(f io.ReaderAt) error {
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if !bytes.Equal(head, []byte("\x00asm")) {
		return errors.New("it is not WebAssembly")
	}
	return nil
}
