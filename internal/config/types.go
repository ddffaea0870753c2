package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// everyPlatform is the key of a PerPlatform for platforms without a key.
const everyPlatform = "default"

// PerPlatform is a text that may differ by platform. In the file it is a text, or a map
// from "default" and platforms to texts. Here the keys are "default" and platforms as
// [platform.Key] spells them.
type PerPlatform map[string]string

// Default returns the text for platforms without a key, or "".
func (t PerPlatform) Default() string { return t[everyPlatform] }

// A Compression is a format and optionally a level: gzip, zstd:3. Level is 0 if none was
// given; the layer writer chooses one then.
type Compression struct {
	Format string
	Level  int
}

// highest has the highest level of each format. The lowest is 1.
var highest = map[string]int{"gzip": 9, "zstd": 22}

// UnmarshalText parses what MarshalText writes.
func (c *Compression) UnmarshalText(b []byte) error {
	format, level, leveled := strings.Cut(string(b), ":")
	most, ok := highest[format]
	if !ok {
		return errors.New("must be gzip or zstd, optionally with a level such as gzip:6")
	}
	n, err := strconv.Atoi(level)
	if leveled && (err != nil || n < 1 || n > most) {
		return fmt.Errorf("must be %s:1 to %s:%d", format, format, most)
	}
	*c = Compression{format, n}
	return nil
}

// MarshalText writes FORMAT or FORMAT:LEVEL.
func (c Compression) MarshalText() ([]byte, error) {
	if c.Level == 0 {
		return []byte(c.Format), nil
	}
	return fmt.Appendf(nil, "%s:%d", c.Format, c.Level), nil
}

// A Mode is the permissions of a file, including setuid, setgid and sticky. It is always
// written in octal. The zero Mode means that none was given.
type Mode uint32

// UnmarshalText parses 644, 0644 or 0o644. YAML reads the first as a decimal number, but
// the decoder passes on the text as written.
func (m *Mode) UnmarshalText(b []byte) error {
	text := string(b)
	if len(text) > 2 && text[:2] == "0o" {
		text = text[2:]
	}
	v, err := strconv.ParseUint(text, 8, 12)
	if err != nil || v == 0 {
		return errors.New("must be permissions in octal, for example 0644")
	}
	*m = Mode(v)
	return nil
}

// MarshalText writes at least four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }
