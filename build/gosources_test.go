package build

import (
	"runtime/debug"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
)

// A program that was recalled is checked: its platform, release of Go, package, build tags and
// modules.
func TestRecalledProgramIsChecked(t *testing.T) {
	p := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	b := &Builder{Work: t.TempDir(), Recalls: true}
	s := Spec{Dir: program(t, "package main\n\nfunc main() {}\n"), Program: GoPackage{Package: ".", Compile: Compile{Tags: []string{"one"}}}, Base: Scratch, Platforms: []ocispec.Platform{p}}
	r, err := b.Build(t.Context(), s, Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	file := r.Images[0].Binary.Path
	for _, c := range []struct {
		what, want string
		p          ocispec.Platform
		change     func(how *Compile, list *sourceList)
	}{
		{"nothing", "", p, nil},
		{"another architecture", "not an executable of the platform", ocispec.Platform{OS: "linux", Architecture: "arm64"}, nil},
		{"another variant", "it was compiled with GOARM=6", ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, nil},
		{"another release", "and this is go1.2", p, func(_ *Compile, l *sourceList) { l.Release.Version = "go1.2" }},
		{"another program", "it is the program", p, func(_ *Compile, l *sourceList) { l.Main.PkgPath += "/other" }},
		{"another module", "it is the program", p, func(_ *Compile, l *sourceList) { l.Main.Module += "/other" }},
		{"another tag", "it was compiled with -tags=one", p, func(how *Compile, _ *sourceList) { how.Tags = []string{"two"} }},
	} {
		b := &Builder{Work: t.TempDir(), Recalls: true}
		spec := s
		how := s.goPackage().Compile
		if c.change != nil {
			c.change(&how, &sourceList{Sources: &unchanged.Sources{}})
		}
		spec.Program = GoPackage{Package: ".", Compile: how}
		_, m, err := b.resolve(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		g := m.(*goMaker)
		if c.change != nil {
			c.change(&how, g.list(how))
		}
		switch _, err := g.checkProgram(c.p, file); {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// A module must have the sum that go.sum has. One in a directory has none.
func TestModulesOfARecalledProgram(t *testing.T) {
	l := &sourceList{Sources: &unchanged.Sources{}}
	l.Sums = map[string]string{"example.com/a v1.0.0": "h1:a"}
	for _, c := range []struct {
		m     debug.Module
		local bool
		ok    bool
	}{
		{debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a"}, false, true},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:b"}, true, false},
		{debug.Module{Path: "example.com/a", Version: "v1.0.1", Sum: "h1:a"}, true, false},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0"}, false, false},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0"}, true, true},
		{debug.Module{Path: "example.com/x", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a"}}, false, true},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a", Replace: &debug.Module{Path: "example.com/x", Version: "v1.0.0", Sum: "h1:x"}}, true, false},
	} {
		l.Local = c.local
		if err := l.holds(&c.m); (err == nil) != c.ok {
			t.Errorf("%+v, local %t: %v", c.m, c.local, err)
		}
	}
}

// A flag or variable that may name a file or a program of the machine prevents a key.
func TestUnportable(t *testing.T) {
	for _, c := range []struct {
		how Compile
		ok  bool
	}{
		{Compile{}, true},
		{Compile{Ldflags: []string{"-X main.version=a/b", "-X=main.at=/srv -buildid="}, Gcflags: []string{"all=-N -l"}, Pgo: "off", Cover: true, Env: []string{"GOEXPERIMENT=none"}}, true},
		{Compile{Ldflags: []string{"-linkmode=external"}}, false},
		{Compile{Ldflags: []string{"-extldflags -static"}}, false},
		{Compile{Ldflags: []string{"-X main.a=b -r /lib"}}, false},
		{Compile{Gcflags: []string{"all=-pgoprofile=x"}}, false},
		{Compile{Gcflags: []string{"-importcfg=/x"}}, false},
		{Compile{Cgo: true}, false},
		{Compile{Cgo: true, Race: true}, false},
		{Compile{Pgo: "/tmp/cpu.pgo"}, false},
		{Compile{Env: []string{"GO_EXTLINK_ENABLED=1"}}, false},
		{Compile{C: crosscompile.Cgo{Toolchain: "zig"}}, true},
	} {
		if reason := c.how.unportable(); (reason == "") != c.ok {
			t.Errorf("%+v: %q", c.how, reason)
		}
	}
}

// The key of a program from a build record is found once. If the go command reads a file that the
// sources lack, there is none, and it is not asked again.
func TestKeyOfWhatIsRemembered(t *testing.T) {
	p := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for _, foreseen := range []bool{true, false} {
		cache, dir, other := t.TempDir(), program(t, "package main\n\nfunc main() {}\n"), program(t, "package main\n\nfunc main() {}\n")
		time.Sleep(60 * time.Millisecond) // past the clock's granularity
		s := Spec{Dir: dir, Base: Scratch, Platforms: []ocispec.Platform{p}}
		if _, err := (&Builder{Work: t.TempDir(), Cache: cache}).Build(t.Context(), s, Hooks{}); err != nil {
			t.Fatal(err)
		}
		recorded := func() (*goMaker, unchanged.Program) {
			t.Helper()
			_, m, err := (&Builder{Work: t.TempDir(), Cache: cache, Recalls: true}).resolve(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			known, ok := m.recorded(p)
			if !ok {
				t.Fatal("nothing is recorded")
			}
			return m.(*goMaker), known
		}
		g, known := recorded()
		if known.Source != "" {
			t.Errorf("the source is %q before anybody asked", known.Source)
		}
		want := g.source(p)
		if !foreseen {
			how, err := g.spec.settings(p)
			if err != nil {
				t.Fatal(err)
			}
			list := g.list(how)
			list.again = func() (*unchanged.Sources, error) { return g.records.Sources(other, ".", nil) }
			list.stable = func() *unchanged.Sources { s, _ := list.again(); return s }
			want = ""
		}
		if is := g.prove(t.Context(), p); is != want || foreseen == (is == "") {
			t.Errorf("foreseen %t: the source is %q, want %q", foreseen, is, want)
		}
		if want == "" {
			want = unchanged.Unforeseen
		}
		if _, known := recorded(); known.Source != want {
			t.Errorf("foreseen %t: the record has %q, want %q", foreseen, known.Source, want)
		}
		r, err := (&Builder{Work: t.TempDir(), Cache: cache, Recalls: true}).Build(t.Context(), s, Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		if img := r.Images[0]; (img.Key != "") != foreseen || img.Keyed(t.Context()).Key != img.Key || img.Binary.Path != "" {
			t.Errorf("foreseen %t: the key is %q, asked %q", foreseen, img.Key, img.Keyed(t.Context()).Key)
		}
	}
}
