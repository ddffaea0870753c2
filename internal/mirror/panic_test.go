package mirror

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// faulty panics when a source with its name is used.
type faulty struct{ Store }

func (faulty) Resolve(_ context.Context, ref string) (v1.Descriptor, error) {
	if strings.HasPrefix(ref, "r/boom") {
		panic("boom")
	}
	return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "1"}}, nil // the target has the image, too
}

func (faulty) Get(context.Context, string) (manifest.Content, error) { panic("boom") }

func (faulty) List(context.Context, string) ([]local.Holding, error) { panic("boom") }

// A panic fails only its image or entry. The error names it and asks for a report, and the
// debug log has the stack.
func TestPanicFailsOneEntry(t *testing.T) {
	var log strings.Builder
	entries := []*Entry{
		{Name: "image", Image: "r/boom:v1", Targets: []string{"m/one:v1"}},
		{Name: "good", Image: "r/app:v1", Targets: []string{"m/app:v1"}},
		{Name: "place", Image: "oci:boom", Targets: []string{"m/place:v1"}},
		{Name: "tags", Image: "r/app", Tags: Tags{Newest: 1}, Targets: []string{"m/tags"}},
	}
	r := &Runner{Store: faulty{}, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	report := r.Run(t.Context(), entries)
	for i, want := range []struct{ status, why string }{
		{Failed, "m/one:v1: internal error: boom"},
		{Unchanged, ""},
		{Failed, "place: internal error: boom"},
		{Failed, "r/app: source: internal error: boom"},
	} {
		got := report.Entries[i].Images[0]
		if got.Status != want.status || got.Why != want.why {
			t.Errorf("%s: %s, %q; want %s, %q", entries[i].Name, got.Status, got.Why, want.status, want.why)
		}
		var p *guard.Panic
		if errors.As(got.Err, &p) != (want.status == Failed) {
			t.Errorf("%s: %v", entries[i].Name, got.Err)
		}
	}
	if !strings.Contains(log.String(), "panic_test.go") || !strings.Contains(log.String(), "at=m/one:v1") {
		t.Errorf("no stack in the log: %s", &log)
	}
}
