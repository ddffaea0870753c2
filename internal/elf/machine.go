package elf

import (
	"debug/elf"
	"encoding/binary"
)

// A machine is what the header of an ELF file says about the processor (System V ABI,
// chapter 4).
type machine struct {
	elf.Machine
	elf.Class
	elf.Data
}

// machines has those of the architectures, by Go's names.
var machines = map[string]machine{
	"386":      {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"arm":      {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"mips":     {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2MSB},
	"mipsle":   {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"ppc64":    {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"s390x":    {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB},
}

// HeaderSize is the number of bytes up to the end of e_machine in an ELF file.
const HeaderSize = 20

// Header returns how an executable for an architecture begins, or nil if it is no ELF file or
// not known. The architecture has Go's name.
func Header(architecture string) []byte {
	m, ok := machines[architecture]
	if !ok {
		return nil
	}
	h := append(make([]byte, 0, HeaderSize), elf.ELFMAG...)
	h = append(h, byte(m.Class), byte(m.Data), byte(elf.EV_CURRENT))[:HeaderSize]
	order := m.order()
	order.PutUint16(h[16:], uint16(elf.ET_EXEC))
	order.PutUint16(h[18:], uint16(m.Machine))
	return h
}

// Architecture returns Go's name of the architecture of an ELF file, of which head has the
// first bytes. It is "" for another format and for a processor that Go does not know.
func Architecture(head []byte) string {
	if len(head) < HeaderSize || string(head[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return ""
	}
	is := machine{Class: elf.Class(head[elf.EI_CLASS]), Data: elf.Data(head[elf.EI_DATA])}
	is.Machine = elf.Machine(is.order().Uint16(head[18:]))
	for name, m := range machines {
		if m == is {
			return name
		}
	}
	return ""
}

func (m machine) order() binary.ByteOrder {
	if m.Data == elf.ELFDATA2MSB {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
