package yamlconf

import (
	"testing"
	"time"
)

// A duration may use days as its unit.
func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"0": 0, "90s": 90 * time.Second, "2d": 48 * time.Hour, "1w": 168 * time.Hour, "1w2d3h4m": (7*24+2*24+3)*time.Hour + 4*time.Minute} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %s, %v", in, time.Duration(d), err)
		}
	}
}
