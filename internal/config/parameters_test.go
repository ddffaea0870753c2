package config

import (
	"maps"
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

// Parameters has the settings of programs and images that flags and variables gave, and with
// all those of the file and the defaults. Where a run writes, what it trusts and how it signs
// are none.
func TestParameters(t *testing.T) {
	dir := write(t, FileName, "symbols: true\nsbom: spdx\nbuilds:\n  - main: ./cmd/api\n    tags: [v1]\n")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	BindBuild(flags)
	BindGlobal(flags)
	if err := flags.Parse([]string{"--ldflags=-s", "--timeout=1m", "--compression=zstd:3", "--sign=x.key"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{Dir: dir, Flags: flags, Lookup: func(name string) (string, bool) {
		if name == "MABUILD_USER" {
			return "7", true
		}
		return "", false
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ldflags": "-s", "compression": "zstd:3", "image.user": "7"}
	if got := c.Parameters(c.Builds[0], false); !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	all := c.Parameters(c.Builds[0], true)
	if all["tags"] != "v1" {
		t.Errorf("tags %q", all["tags"])
	}
	for _, key := range []string{"ldflags", "symbols", "platforms"} {
		if _, ok := all[key]; !ok {
			t.Errorf("%s is not in %q", key, slices.Sorted(maps.Keys(all)))
		}
	}
	for _, key := range []string{"sign", "sbom", "timeout", "cache.dir", "registries"} {
		if _, ok := all[key]; ok {
			t.Errorf("%s is a parameter", key)
		}
	}
}
