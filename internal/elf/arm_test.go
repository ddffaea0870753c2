package elf

import (
	"encoding/binary"
	"testing"
)

// armVersion finds Tag_CPU_arch among other attributes, and returns 0 for anything that is not
// well formed.
func TestARMVersion(t *testing.T) {
	const v7 = "\x1d\x00\x00\x00aeabi\x00\x01\x13\x00\x00\x00\x05cortex-a8\x00\x06\x0a\x08\x01"
	for _, c := range []struct {
		name, section string
		want          int
	}{
		{"nothing", "", 0},
		{"ARMv7", v7, 7},
		{"another owner first", "\x08\x00\x00\x00gnu\x00" + v7, 7},
		{"another owner", "\x08\x00\x00\x00gnu\x00", 0},
		{"a later version", "\x12\x00\x00\x00aeabi\x00\x01\x08\x00\x00\x00\x06\x7f\x00", 8},
		{"a version after a text", "\x15\x00\x00\x00aeabi\x00\x01\x0b\x00\x00\x00\x43a\x00\x20\x01b\x00\x06\x04", 0}, // the part is cut
		{"a part of no length", "\x00\x00\x00\x00", 0},
		{"a part that is too long", "\xff\xff\xff\xff", 0},
		{"attributes of no length", "\x0f\x00\x00\x00aeabi\x00\x01\x00\x00\x00\x00", 0},
		{"a number without end", "\x10\x00\x00\x00aeabi\x00\x01\x06\x00\x00\x00\xff", 0},
		{"a text without end", "\x11\x00\x00\x00aeabi\x00\x01\x07\x00\x00\x00\x05a", 0},
	} {
		if got := armVersion([]byte(c.section), binary.LittleEndian); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		for i := range c.section { // a section that ends early
			armVersion([]byte(c.section[:i]), binary.LittleEndian)
		}
	}
}
