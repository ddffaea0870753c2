package platform_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// inputs are platforms as users and registries write them, with their normalized form, or
// "" if they are refused.
var inputs = []struct{ text, want string }{
	{"linux/amd64", "linux/amd64"},
	{"LINUX/AMD64", "linux/amd64"},
	{" linux/amd64 ", "linux/amd64"},
	{"linux/x86_64", "linux/amd64"},
	{"linux/x86-64", "linux/amd64"},
	{"linux/amd64/v1", "linux/amd64"},
	{"linux/amd64/v2", "linux/amd64/v2"},
	{"linux/amd64/v3", "linux/amd64/v3"},
	{"linux/amd64/v5", "linux/amd64/v5"}, // unknown to Go; Parse does not check that
	{"linux/arm64", "linux/arm64"},
	{"linux/aarch64", "linux/arm64"},
	{"linux/arm64/v8", "linux/arm64"},
	{"linux/arm64/8", "linux/arm64"},
	{"linux/arm64/v8.0", "linux/arm64"},
	{"linux/arm64/v9", "linux/arm64/v9"},
	{"linux/arm64/v9.0", "linux/arm64/v9"},
	{"linux/arm", "linux/arm/v7"},
	{"linux/arm/7", "linux/arm/v7"},
	{"linux/armhf", "linux/arm/v7"},
	{"linux/armel", "linux/arm/v6"},
	{"linux/arm/v6", "linux/arm/v6"},
	{"linux/arm/v5", "linux/arm/v5"},
	{"linux/arm/v8", "linux/arm/v8"},
	{"linux/i386", "linux/386"},
	{"linux/386", "linux/386"},
	{"linux/ppc64le", "linux/ppc64le"},
	{"linux/ppc64le/power9", "linux/ppc64le/power9"},
	{"linux/s390x", "linux/s390x"},
	{"linux/riscv64", "linux/riscv64"},
	{"linux/riscv64/rva22u64", "linux/riscv64/rva22u64"},
	{"linux/loong64", "linux/loong64"},
	{"linux/mips64le", "linux/mips64le"},
	{"macos/arm64", "darwin/arm64"},
	{"wasip1/wasm", "wasip1/wasm"},
	{"plan9/amd64", "plan9/amd64"},
	{"freebsd/arm64", "freebsd/arm64"},
	{"windows/amd64", "windows/amd64"},
	{"windows/amd64:10.0.17763.1", "windows/amd64:10.0.17763.1"},
	{"windows(10.0.17763)/amd64", "windows/amd64:10.0.17763"},
	{"Windows(10.0.17763+win32k)/AMD64", "windows/amd64:10.0.17763+win32k"},
	{"windows/amd64:10.0.17763+win32k", "windows/amd64:10.0.17763+win32k"},
	{"sunos/sparc64", "sunos/sparc64"},
	{"foo/bar", "foo/bar"},

	{"", ""},
	{" ", ""},
	{"linux", ""},
	{"arm64", ""},
	{"amd64", ""},
	{"windows", ""},
	{"darwin", ""},
	{"all", ""},
	{"/", ""},
	{"linux/", ""},
	{"/amd64", ""},
	{"linux//v7", ""},
	{"linux/arm/", ""},
	{"linux/arm/v7/", ""},
	{"linux/arm/v7/x", ""},
	{"linux/amd64,linux/arm64", ""},
	{"linux amd64", ""},
	{"linux/amd 64", ""},
	{"linux\\amd64", ""},
	{"linux/*", ""},
	{"*/*", ""},
	{"linux/amd64:", ""},
	{"0/0:%00", ""},
	{"windows(10%2B0)/amd64", ""},
	{"windows:10.0/amd64", ""},
	{"windows(10.0/amd64", ""},
	{"windows(10.0)/amd64:10.0", ""},
	{"linux/amd64\x00", ""},
	{"linux/\x1b[31mamd64", ""},
	{"linux/amd64\n", "linux/amd64"},
	{"línux/amd64", ""},
	{"../../etc", ""},
	{"linux/" + strings.Repeat("a", 1<<16), ""},
}

// Parse accepts each input with the expected key or returns a printable ParseError.
func TestParse(t *testing.T) {
	if len(inputs) < 60 {
		t.Errorf("only %d", len(inputs))
	}
	for _, in := range inputs {
		p, err := platform.Parse(in.text)
		if in.want == "" {
			var pe *platform.ParseError
			if !errors.As(err, &pe) {
				t.Errorf("Parse(%.40q) = %+v, %v; want a ParseError", in.text, p, err)
			} else if len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("Parse(%.40q): the error is not printable: %q", in.text, err)
			}
			continue
		}
		if err != nil || platform.Key(p) != in.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", in.text, platform.Key(p), err, in.want)
		}
	}
}

// Parse accepts every platform of go tool dist list, unchanged.
func TestParseTakesEveryPlatformOfGo(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "tool", "dist", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range strings.Fields(string(out)) {
		want := pair
		if strings.HasSuffix(pair, "/arm") {
			want += "/v7"
		}
		if p, err := platform.Parse(pair); err != nil || platform.Key(p) != want {
			t.Errorf("Parse(%q) = %q, %v; want %q", pair, platform.Key(p), err, want)
		}
	}
}

// If the os is missing, the hint has a complete platform.
func TestParseHintForIncompletePlatform(t *testing.T) {
	for text, want := range map[string]string{"arm64": "linux/arm64", "armhf": "linux/arm/v7", "x86_64": "linux/amd64", "linux": "linux/amd64", "arm/v7": "linux/arm/v7?", "arm64/v8": "linux/arm64?", "x86_64/v2": "linux/amd64/v2?", "arm/v7/x": "os/architecture"} {
		_, err := platform.Parse(text)
		var pe *platform.ParseError
		if !errors.As(err, &pe) || !strings.Contains(pe.Hint(), want) {
			t.Errorf("Parse(%q): hint %q does not contain %s", text, pe.Hint(), want)
		}
	}
}

// A slip in an architecture is an error with the one that was meant. Others may exist in a
// registry, and Parse takes every one.
func TestMisspelledArchitectures(t *testing.T) {
	for text, want := range map[string]string{
		"lnux/amd64": "linux/amd64", "linus/arm64": "linux/arm64", "windwos/amd64": "windows/amd64", "darwin/arm64": "", "freebsd/amd64": "", "zos/s390x": "", "ios/arm64": "", "wasip2/wasm": "wasip1/wasm",
		"linux/amd46": "linux/amd64", "linux/amr64": "linux/arm64", "linux/ppc64el": "linux/ppc64le", "linux/s309x": "linux/s390x", "linux/amd64x": "linux/amd64",
		"linux/risc64": "linux/riscv64", "linux/riscv": "", "linux/sparc64": "", "linux/mips32": "", "linux/x86": "", "linux/ppc": "", "linux/armhf": "", "linux/loong32": "", "linux/mipz": "linux/mips",
	} {
		_, err := platform.ParseList([]string{text})
		var e *platform.ParseError
		if got := errors.As(err, &e); got != (want != "") || got && e.Hint() != "did you mean "+want+"?" {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := platform.Parse(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// ParseList reports all errors at once, and returns a sorted list.
func TestParseListReportsAllErrorsAtOnce(t *testing.T) {
	_, err := platform.ParseList([]string{"linux/amd64,,arm64", "linux/arm64", "linux/arm64/v8"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`platform "": is empty`, `platform "arm64"`, `platform "linux/arm64/v8": is the same platform as "linux/arm64"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
	list, err := platform.ParseList([]string{"linux/s390x,linux/arm/v7", "linux/arm/v6", "linux/amd64"})
	if got := platform.Keys(list); err != nil || got != "linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x" {
		t.Errorf("ParseList = %s, %v", got, err)
	}
}

// The key of a parsed platform parses to the same key.
func FuzzKeyIsAFixedPoint(f *testing.F) {
	for _, in := range inputs {
		f.Add(in.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := platform.Parse(text)
		if err != nil {
			return
		}
		key := platform.Key(p)
		again, err := platform.Parse(key)
		if err != nil {
			t.Fatalf("Parse(%q) is %q, which does not parse: %v", text, key, err)
		}
		if platform.Key(again) != key || platform.Compare(p, again) != 0 {
			t.Fatalf("Parse(%q) is %q, whose parse is %q", text, key, platform.Key(again))
		}
	})
}

// Choose prefers the highest supported variant and version, and fewer features.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name, want string
		have       []string
		chosen     string // "" means no match
	}{
		{"an exact match", "linux/arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"a lower variant", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v6"},
		{"no higher variant", "linux/arm/v6", []string{"linux/arm/v7"}, ""},
		{"the highest supported variant", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, "linux/amd64/v2"},
		{"no variant is the lowest", "linux/amd64/v3", []string{"linux/amd64"}, "linux/amd64"},
		{"arm without a variant is v7", "linux/arm/v6", []string{"linux/arm"}, ""},
		{"arm64 does not run arm", "linux/arm64", []string{"linux/arm/v7"}, ""},
		{"amd64 does not run 386", "linux/amd64", []string{"linux/386"}, ""},
		{"arm64/v9 takes arm64", "linux/arm64/v9", []string{"linux/arm64"}, "linux/arm64"},
		{"arm64 does not take v9", "linux/arm64", []string{"linux/arm64/v9"}, ""},
		{"riscv64 profiles", "linux/riscv64/rva22u64", []string{"linux/riscv64", "linux/riscv64/rva23u64"}, "linux/riscv64"},
		{"an unknown variant matches itself", "linux/amd64/odd", []string{"linux/amd64/odd", "linux/amd64"}, "linux/amd64/odd"},
		{"an unknown variant matches nothing else", "linux/amd64/odd", []string{"linux/amd64"}, ""},
		{"the highest version of Windows", "windows/amd64", []string{"windows/amd64:10.0.17763.9", "windows/amd64:10.0.20348.1"}, "windows/amd64:10.0.20348.1"},
		{"the requested version", "windows/amd64:10.0.17763", []string{"windows/amd64:10.0.17763.9", "windows/amd64:10.0.17763.10", "windows/amd64:10.0.20348.1"}, "windows/amd64:10.0.17763.10"},
		{"not a version with the same prefix", "windows/amd64:10.0.1776", []string{"windows/amd64:10.0.17763.9"}, ""},
		{"no feature before a feature", "linux/amd64", []string{"linux/amd64:+x", "linux/amd64"}, "linux/amd64"},
		{"no feature before a higher variant", "linux/amd64/v3", []string{"linux/amd64/v3:+x", "linux/amd64"}, "linux/amd64"},
		{"a feature if there is nothing else", "linux/amd64", []string{"linux/amd64:+x"}, "linux/amd64:+x"},
		{"no version before a version", "linux/amd64", []string{"linux/amd64:6.1", "linux/amd64"}, "linux/amd64"},
		{"a version before a feature", "linux/amd64", []string{"linux/amd64:+x", "linux/amd64:6.1"}, "linux/amd64:6.1"},
		{"a requested feature does not count", "linux/amd64:+x", []string{"linux/amd64:+x+y", "linux/amd64:+x"}, "linux/amd64:+x"},
		{"requested features are required", "windows/amd64:10.0+win32k", []string{"windows/amd64:10.0"}, ""},
	} {
		have := make([]ocispec.Platform, len(c.have))
		for i, text := range c.have {
			have[i] = parse(t, text)
		}
		at, ok := platform.Choose(parse(t, c.want), have)
		switch {
		case ok != (c.chosen != ""):
			t.Errorf("%s: chose %v, %v", c.name, at, ok)
		case ok && platform.Key(have[at]) != platform.Key(parse(t, c.chosen)):
			t.Errorf("%s: chose %s, want %s", c.name, platform.Key(have[at]), c.chosen)
		}
	}
}

// All returns the entries that a platform stands for, Plain those that belong in a plain
// list, and Single the one entry of All that is meant, if there is one. They return
// positions.
func TestAllPlainSingle(t *testing.T) {
	for _, c := range []struct {
		want, have string
		all        []int
		plain      string
		single     int // -1 means no single entry
	}{
		{"linux/amd64", "linux/amd64 linux/amd64 linux/arm64", []int{0, 1}, "linux/amd64 linux/amd64 linux/arm64", 0},
		{"linux/amd64", "linux/amd64:+x linux/amd64", []int{1}, "linux/amd64", 1},
		{"linux/amd64", "linux/amd64:+x", []int{0}, "linux/amd64:+x", 0},
		{"linux/amd64:+x", "linux/amd64:+x linux/amd64", []int{0}, "linux/amd64", 0},
		{"linux/amd64", "linux/amd64:6.1 linux/amd64", []int{0, 1}, "linux/amd64", 1},
		{"windows/amd64", "windows/amd64:10.0.1 windows/amd64:10.0.2 windows/amd64:10.0.2+w", []int{0, 1}, "windows/amd64:10.0.1 windows/amd64:10.0.2", -1},
		{"windows/amd64", "windows/amd64:10.0.1 windows/amd64:10.0.2+w", []int{0, 1}, "windows/amd64:10.0.1 windows/amd64:10.0.2+w", 0},
		{"windows/amd64:10.0", "windows/amd64:10.0.1 windows/amd64:10.1", []int{0}, "windows/amd64:10.0.1 windows/amd64:10.1", 0},
		{"linux/arm/v7", "linux/arm/v6", nil, "linux/arm/v6", -1},
	} {
		var have []ocispec.Platform
		for _, text := range strings.Fields(c.have) {
			have = append(have, parse(t, text))
		}
		if got := platform.All(parse(t, c.want), have); !slices.Equal(got, c.all) {
			t.Errorf("All(%s, %s) = %v, want %v", c.want, c.have, got, c.all)
		}
		if got := strings.ReplaceAll(platform.Keys(platform.Plain(have)), ",", ""); got != c.plain {
			t.Errorf("Plain(%s) = %s, want %s", c.have, got, c.plain)
		}
		var fit []ocispec.Platform
		for _, at := range c.all {
			fit = append(fit, have[at])
		}
		if at, ok := platform.Single(parse(t, c.want), fit); ok != (c.single >= 0) || ok && c.all[at] != c.single {
			t.Errorf("Single(%s, %s) = %d, %t; want %d", c.want, platform.Keys(fit), at, ok, c.single)
		}
	}
}

// Written is empty for a platform in its canonical spelling.
func TestWritten(t *testing.T) {
	for text, want := range map[string]bool{
		"linux/amd64": true, "linux/amd64/v1": true, "linux/amd64/v3": true, "linux/arm64": true, "linux/arm64/v8": true, "linux/arm": true, "linux/arm/v7": true,
		"linux/x86_64": false, "linux/aarch64": false, "linux/ARM64": false, "Linux/amd64": false, "linux/arm64/8": false, "linux/arm/7": false, "linux/armhf": false, "macos/arm64": false,
	} {
		words := append(strings.Split(text, "/"), "")
		p := ocispec.Platform{OS: words[0], Architecture: words[1], Variant: words[2]}
		if got := platform.Written(p); (got == "") != want || !want && got != text {
			t.Errorf("%s: written %q, canonical: %t", text, got, want)
		}
	}
}

// Normalize does not fill in os and architecture of the host.
func TestNormalizeDoesNotUseTheHost(t *testing.T) {
	for _, p := range []ocispec.Platform{{}, {Architecture: "arm64"}, {OS: "linux"}} {
		if n := platform.Normalize(p); n.OS != p.OS || n.Architecture != p.Architecture {
			t.Errorf("Normalize(%+v) = %+v", p, n)
		}
	}
}

func parse(t *testing.T, text string) ocispec.Platform {
	t.Helper()
	p, err := platform.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
