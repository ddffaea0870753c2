package versions

import (
	"slices"
	"testing"
)

// Numbers in tags are compared as numbers, and a pre-release comes before its release.
func TestSort(t *testing.T) {
	tags := []string{"v10", "edge", "v9", "build-10", "build-9", "v9.1-rc", "v9.1"}
	Sort(tags)
	want := []string{"build-9", "build-10", "edge", "v9", "v9.1-rc", "v9.1", "v10"}
	if !slices.Equal(tags, want) {
		t.Errorf("got  %v\nwant %v", tags, want)
	}
}

// A date or the number of a build is not a version.
func TestOf(t *testing.T) {
	for tag, want := range map[string]string{"v1.2": "1.2.0", "1": "1.0.0", "20260401": "", "v123456": "", "latest": "", "1.2.3-rc1": "1.2.3-rc1"} {
		got := ""
		if v := Of(tag); v != nil {
			got = v.String()
		}
		if got != want {
			t.Errorf("%s is %q, want %q", tag, got, want)
		}
	}
}
