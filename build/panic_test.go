package build

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
)

// A panic in a hook fails only the platform of the call, at the step of the hook.
func TestPanicOfAHookFailsOnePlatform(t *testing.T) {
	both := []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	for step, fault := range map[string]Hooks{
		"push":        {OnImage: func(context.Context, Image) error { panic("boom") }},
		"base layers": {OnBase: func(context.Context, ocispec.Platform, v1.Image) error { panic("boom") }},
	} {
		var images atomic.Int32
		h := Hooks{
			OnBase: func(ctx context.Context, p ocispec.Platform, base v1.Image) error {
				if fault.OnBase == nil {
					return nil
				}
				return fault.OnBase(ctx, p, base)
			},
			OnImage: func(ctx context.Context, i Image) error {
				if images.Add(1); fault.OnImage == nil || i.Platform.Architecture != "amd64" {
					return nil
				}
				return fault.OnImage(ctx, i)
			},
		}
		b := &Builder{Work: t.TempDir(), Bases: newBase(t)}
		s := Spec{Dir: program(t, "package main\n\nfunc main() {}\n"), Program: GoPackage{Package: "."}, Base: Scratch, Bases: map[string]string{"linux/amd64": "base"}, Platforms: both}
		_, err := b.Build(t.Context(), s, h)
		var pe *PlatformError
		var p *guard.Panic
		if !errors.As(err, &pe) || !errors.As(err, &p) || pe.Step != step || pe.Error() != "linux/amd64: "+step+": internal error: boom" {
			t.Errorf("%s: %v", step, err)
		}
		if strings.Contains(err.Error(), "arm64") || images.Load() == 0 {
			t.Errorf("%s: the other platform failed, too: %v", step, err)
		}
	}
}

// A panic in a source of base images becomes an error of the build.
func TestPanicOfASourceIsAnError(t *testing.T) {
	b := &Builder{Work: t.TempDir(), Bases: boom{}}
	s := Spec{Dir: program(t, "package main\n\nfunc main() {}\n"), Program: GoPackage{Package: "."}, Base: "base", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}
	var p *guard.Panic
	if _, err := b.Build(t.Context(), s, Hooks{}); !errors.As(err, &p) {
		t.Errorf("%v", err)
	}
}

type boom struct{ manifest.Source }

func (boom) Get(context.Context, string) (manifest.Content, error) { panic("boom") }
