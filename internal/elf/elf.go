// Package elf reads what an ELF program needs from the system that it runs on, and which
// glibc a system has.
package elf

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Linkage says what a program needs from the system that it runs on.
type Linkage struct {
	Interpreter string   // the path of the loader; "": the program is static
	Libraries   []string // that the loader has to find (DT_NEEDED)
	Glibc       string   // the highest version among its symbols, such as 2.34; "": none
}

// ReadLinkage reads the linkage of an ELF program. For a file of another format it
// returns the zero Linkage and no error. It needs as much memory as the file says, at most
// the size of the file.
func ReadLinkage(r io.ReaderAt) (l Linkage, err error) {
	f, err := elf.NewFile(r)
	if errors.As(err, new(*elf.FormatError)) || errors.Is(err, io.EOF) { // shorter than a header
		return l, nil
	}
	if err != nil {
		return l, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		// The path of the loader ends with a zero byte. 4096 bytes are PATH_MAX of Linux.
		path, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return l, fmt.Errorf("its loader: %w", err)
		}
		l.Interpreter = strings.TrimRight(string(path), "\x00")
	}
	if l.Interpreter == "" {
		return l, nil
	}
	if l.Libraries, err = f.ImportedLibraries(); err != nil {
		return l, fmt.Errorf("its libraries: %w", err)
	}
	if f.SectionByType(elf.SHT_GNU_VERNEED) == nil { // as with musl
		return l, nil
	}
	needs, err := f.DynamicVersionNeeds()
	if err != nil {
		return l, fmt.Errorf("the versions it needs: %w", err)
	}
	var names []string
	for _, need := range needs {
		for _, dep := range need.Needs {
			names = append(names, dep.Dep)
		}
	}
	l.Glibc = highestGlibc(names)
	return l, nil
}

// GlibcOf returns the version of a glibc from the content of its libc.so.6: the highest
// version in the names of its symbol versions, "" if r is not an ELF file. It reads r to
// its end in constant memory and parses nothing: r may be untrusted, and debug/elf is not
// made for untrusted files.
func GlibcOf(r io.Reader) (string, error) {
	in := bufio.NewReader(r)
	first, err := in.Peek(len(elf.ELFMAG))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if string(first) != elf.ELFMAG {
		return "", nil
	}
	const prefix, longest = "GLIBC_", 32
	highest := ""
	name := make([]byte, 0, longest) // since the last zero byte, while it may be a name
	for text := true; ; {
		b, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return highest, nil
		}
		if err != nil {
			return "", err
		}
		switch {
		case b == 0:
			if text && len(name) > len(prefix) {
				highest = highestGlibc([]string{"GLIBC_" + highest, string(name)})
			}
			name, text = name[:0], true
		// A byte counts only while it continues the prefix, or a name that has it
		// already.
		case text && len(name) < longest && (len(name) >= len(prefix) || b == prefix[len(name)]):
			name = append(name, b)
		default:
			text = false
		}
	}
}

// relr is the symbol version that marks a program with packed relocations. packedSince is
// the first glibc that supports them.
const relr, packedSince = "GLIBC_ABI_DT_RELR", "2.36"

// highestGlibc returns the highest of the versions in names such as GLIBC_2.34, without
// the prefix, or "" if there is none.
func highestGlibc(names []string) string {
	highest := ""
	for _, name := range names {
		version, ok := strings.CutPrefix(name, "GLIBC_")
		if name == relr {
			version = packedSince
		}
		if ok && CompareGlibc(version, highest) > 0 {
			highest = version
		}
	}
	return highest
}

// CompareGlibc compares versions by their numbers. "" and text that is not a version,
// such as PRIVATE, come before all versions.
func CompareGlibc(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }

// numbers returns the numbers of a version, nil if it is not one.
func numbers(version string) []int {
	var list []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		list = append(list, n)
	}
	return list
}
