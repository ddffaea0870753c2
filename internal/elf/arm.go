package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// The form of the build attributes that ARMVersion reads (ABI for the Arm 32-bit
// Architecture: elf32, section 5.3; addenda, section 3).
const (
	tagFile         = 1 // attributes of the whole file
	tagCPURawName   = 4
	tagCPUName      = 5
	tagCPUArch      = 6
	tagCompatible   = 32 // a number and a text
	firstByParity   = 33 // from here on, odd tags have texts and even tags have numbers
	sectionType     = elf.SHT_LOPROC + 3
	attributesKind  = 'A'
	attributesOwner = "aeabi"
)

// armVersions has the version of the architecture for each value of tagCPUArch. Values
// after the last one are later versions.
var armVersions = [latest + 1]int{3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 6, 6, 7, 8}

// latest is the value of tagCPUArch for ARMv8-A.
const latest = 14

// ARMVersion returns the version of the ARM architecture, such as 7, that a 32-bit ARM
// program requires by its build attributes. It is 0 if the program says none, as programs
// do that Go has linked, or if the attributes cannot be read.
func ARMVersion(f *elf.File) int {
	for _, s := range f.Sections {
		if s.Type != sectionType {
			continue
		}
		b, err := s.Data()
		if err != nil || len(b) == 0 || b[0] != attributesKind {
			return 0
		}
		return armVersion(b[1:], f.ByteOrder)
	}
	return 0
}

// armVersion finds the attributes of the file in the section, after its first byte. Each
// part begins with its own length.
func armVersion(b []byte, order binary.ByteOrder) int {
	for len(b) >= 4 {
		size := order.Uint32(b)
		if size < 4 || uint64(size) > uint64(len(b)) {
			return 0
		}
		owner, rest, ok := bytes.Cut(b[4:size], []byte{0})
		for ok && string(owner) == attributesOwner && len(rest) >= 5 {
			length := order.Uint32(rest[1:])
			if length < 5 || uint64(length) > uint64(len(rest)) {
				return 0
			}
			if rest[0] == tagFile {
				return cpuArch(rest[5:length])
			}
			rest = rest[length:]
		}
		b = b[size:]
	}
	return 0
}

// cpuArch returns the version that a list of attributes has, or 0.
func cpuArch(b []byte) int {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0
		}
		b = b[n:]
		number := tag != tagCPURawName && tag != tagCPUName && (tag < firstByParity || tag%2 == 0)
		if number {
			value, n := binary.Uvarint(b)
			if n <= 0 {
				return 0
			}
			if tag == tagCPUArch {
				return armVersions[min(value, latest)]
			}
			b = b[n:]
		}
		if !number || tag == tagCompatible {
			_, b, _ = bytes.Cut(b, []byte{0})
		}
	}
	return 0
}
