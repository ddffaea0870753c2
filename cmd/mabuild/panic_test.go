package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// faulty is a source of bases that panics.
type faulty struct{ manifest.Source }

func (faulty) Get(context.Context, string) (manifest.Content, error) { panic("boom") }

// A panic in one program of a push fails that program alone. Its error names it and asks
// for a report, and its stack is in the debug log.
func TestPanicFailsOneProgram(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	var log strings.Builder
	pub := &publish.Publisher{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	pub.Builder = &build.Builder{Bases: faulty{}, Work: t.TempDir()}
	var plans []publish.Plan
	for _, base := range []string{"example.com/base", build.Scratch} {
		spec, err := pub.Builder.Resolve(t.Context(), build.Spec{Dir: dir, Program: build.GoPackage{Package: "."}, Base: base, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}})
		must(t, err)
		place := filepath.Join(dir, "out-"+filepath.Base(base))
		spec.Name = filepath.Base(base)
		plans = append(plans, publish.Plan{Spec: spec, Outputs: []publish.Output{{Text: "oci:" + place, Sink: local.Layout(place)}}})
	}
	done, err := publishAll(t.Context(), pub, plans, nil)
	var p *guard.Panic
	if !errors.As(err, &p) || err.Error() != "base: internal error: boom" || exitCode(err) != exitPartly || !strings.Contains(hintOf(hint.Parts(err)[0]), "report it") {
		t.Errorf("%v", err)
	}
	if done[0] != nil || !done[1].Anywhere() {
		t.Errorf("done: %v", done)
	}
	if !strings.Contains(log.String(), "panic_test.go") {
		t.Errorf("no stack in the log: %s", &log)
	}
}
