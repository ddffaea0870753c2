package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// everyPlatform is the key of a PerPlatform that holds for the platforms without
// a key of their own.
const everyPlatform = "default"

// PerPlatform is a text that may differ by platform. In the file it is a text
// or a map from "default" and platforms to texts; here platforms are spelled as
// [platform.Key] does.
type PerPlatform map[string]string

// For returns the text for p, empty where there is none.
func (t PerPlatform) For(p ocispec.Platform) string {
	if s, ok := t[platform.Key(p)]; ok {
		return s
	}
	return t[everyPlatform]
}

// Default returns the text for the platforms that have none of their own.
func (t PerPlatform) Default() string { return t[everyPlatform] }

// A Duration is written as Go writes it: 90s, 1h30m. It is not negative.
type Duration time.Duration

// UnmarshalText reads what String writes.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New("wants a duration such as 90s or 1h30m")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// A Mode is a file's permissions, always written in octal. The zero Mode means
// that none was given.
type Mode uint32

// UnmarshalText reads 644, 0644 or 0o644, the three bits above included.
func (m *Mode) UnmarshalText(b []byte) error {
	text := string(b)
	if len(text) > 2 && text[:2] == "0o" {
		text = text[2:]
	}
	v, err := strconv.ParseUint(text, 8, 12)
	if err != nil || v == 0 {
		return errors.New("wants permissions in octal, such as 0644")
	}
	*m = Mode(v)
	return nil
}

// MarshalText writes four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }
