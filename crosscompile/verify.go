package crosscompile

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

// elfMachines has what the header of an ELF file says about the processor, for each
// architecture of Go that uses ELF.
var elfMachines = map[string]struct {
	elf.Machine
	elf.Class
	binary.ByteOrder
}{
	"386":      {elf.EM_386, elf.ELFCLASS32, binary.LittleEndian},
	"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, binary.LittleEndian},
	"arm":      {elf.EM_ARM, elf.ELFCLASS32, binary.LittleEndian},
	"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, binary.LittleEndian},
	"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, binary.LittleEndian},
	"mips":     {elf.EM_MIPS, elf.ELFCLASS32, binary.BigEndian},
	"mipsle":   {elf.EM_MIPS, elf.ELFCLASS32, binary.LittleEndian},
	"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, binary.BigEndian},
	"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, binary.LittleEndian},
	"ppc64":    {elf.EM_PPC64, elf.ELFCLASS64, binary.BigEndian},
	"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, binary.LittleEndian},
	"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, binary.LittleEndian},
	"s390x":    {elf.EM_S390, elf.ELFCLASS64, binary.BigEndian},
}

// peMachines and machoCPUs have the processor for each architecture of Windows and macOS.
var peMachines = map[string]uint16{
	"386": pe.IMAGE_FILE_MACHINE_I386, "amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64,
}

var machoCPUs = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}

// verify checks that a file is an executable for p. It compares the format with the
// operating system, and machine, class and byte order with the architecture. The header
// does not have the variant, so it is not checked. For plan9 and aix nothing is checked.
func verify(file string, p ocispec.Platform) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if err := verifyFormat(f, p); err != nil {
		return hint.New(hint.Build, "", "not an executable of the platform: %w", err)
	}
	return nil
}

// verifyFormat is verify for an open file.
func verifyFormat(f io.ReaderAt, p ocispec.Platform) error {
	switch {
	// WebAssembly has one format for all operating systems.
	case p.Architecture == "wasm":
		return verifyWasm(f)
	case p.OS == "windows":
		x, err := pe.NewFile(f)
		if err != nil {
			return err
		}
		if want := peMachines[p.Architecture]; x.Machine != want {
			return fmt.Errorf("its machine is %#x, but %s requires %#x", x.Machine, p.Architecture, want)
		}
	case p.OS == "darwin" || p.OS == "ios":
		x, err := macho.NewFile(f)
		if err != nil {
			return err
		}
		if want := machoCPUs[p.Architecture]; x.Cpu != want {
			return fmt.Errorf("its CPU is %v, but %s requires %v", x.Cpu, p.Architecture, want)
		}
	case p.OS == "plan9" || p.OS == "aix": // a.out and XCOFF; containers run neither
		return nil
	default:
		return verifyELF(f, p.Architecture)
	}
	return nil
}

// verifyELF compares the header of an ELF file with an architecture.
func verifyELF(f io.ReaderAt, architecture string) error {
	x, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	want, ok := elfMachines[architecture]
	if !ok {
		return fmt.Errorf("no ELF machine is known for %s", architecture)
	}
	if x.Machine != want.Machine || x.Class != want.Class || x.ByteOrder != want.ByteOrder {
		return fmt.Errorf("it is %v %v %v, but %s requires %v %v %v", x.Machine, x.Class, x.ByteOrder, architecture, want.Machine, want.Class, want.ByteOrder)
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
