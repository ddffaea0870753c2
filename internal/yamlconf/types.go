package yamlconf

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Duration is written as in Go, such as 90s or 1h30m, and may begin with weeks and days
// of 24 hours: 2w, 3d12h. It is not negative.
type Duration time.Duration

// weeksAndDays matches the weeks and days at the beginning of a duration; it may match
// nothing. The numbers of digits keep the sum from overflowing an int.
var weeksAndDays = regexp.MustCompile(`^(?:(\d{1,4})w)?(?:(\d{1,5})d)?`)

// UnmarshalText parses such a text. It fails if the sum exceeds the range of
// [time.Duration], about 292 years.
func (d *Duration) UnmarshalText(b []byte) error {
	const day = 24 * time.Hour
	long := weeksAndDays.FindSubmatch(b)
	weeks, _ := strconv.Atoi(string(long[1])) // 0 if there are no digits
	days, _ := strconv.Atoi(string(long[2]))
	v, err := time.Duration(0), error(nil)
	if rest := string(b[len(long[0]):]); rest != "" || len(long[0]) == 0 {
		v, err = time.ParseDuration(rest)
	}
	if err != nil || v < 0 || v+time.Duration(7*weeks+days)*day < v {
		return errors.New("must be a duration such as 90s, 1h30m or 3d")
	}
	*d = Duration(v + time.Duration(7*weeks+days)*day)
	return nil
}

// MarshalText writes hours, minutes and seconds, without weeks and days.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Bytes is a size in bytes. It is written as a number with a unit, such as 500MB or 5GB.
// The units are powers of 1000.
type Bytes int64

// units are tried in this order: a suffix must come before those that it ends with.
var units = []struct {
	name string
	size float64
}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}, {"", 1}}

// UnmarshalText parses such a text. A number without a unit is an error, except 0; fractions
// of a byte are cut off. The maximum is 10^18.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || v < 0 || v*u.size > 1e18 || u.name == "" && v != 0 {
			break
		}
		*b = Bytes(v * u.size)
		return nil
	}
	return errors.New("must be a size such as 500MB or 5GB")
}

// MarshalText writes what String returns, which UnmarshalText parses.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns b in the largest unit in which it is a whole number.
func (b Bytes) String() string {
	for _, u := range units {
		if n := float64(b) / u.size; b != 0 && n >= 1 && n == float64(int64(n)) {
			return strconv.FormatInt(int64(n), 10) + u.name
		}
	}
	return "0"
}
