package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// aged makes a layout with an image that was created at t.
func aged(t *testing.T, at time.Time) string {
	t.Helper()
	img, err := mutate.CreatedAt(empty.Image, v1.Time{Time: at})
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, configFor(t, img, "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	place := "oci:" + t.TempDir() + ":v1"
	if err := (places.Store{}).Put(t.Context(), place, img); err != nil {
		t.Fatal(err)
	}
	return place
}

func configFor(t *testing.T, img v1.Image, arch string) *v1.ConfigFile {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch
	return file
}

// clocked returns a runner whose time the test sets.
func clocked(t *testing.T, cacheDir string, now *time.Time) *mirror.Runner {
	t.Helper()
	a := &app{log: slog.New(slog.NewTextHandler(io.Discard, nil)), cache: cacheDir, config: &config.Config{}}
	r := (&mirrorOptions{}).runner(a, places.Store{Registry: &registry.Client{}})
	r.Now = func() time.Time { return *now }
	return r
}

func oneResult(t *testing.T, report *mirror.Report) mirror.Result {
	t.Helper()
	if len(report.Entries) != 1 || len(report.Entries[0].Images) != 1 {
		t.Fatalf("%+v", report)
	}
	return report.Entries[0].Images[0]
}

// An image is copied when it is old enough, by the time in its config, or by the time of
// the first sight if the config has none.
func TestMinAge(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		created time.Time
		waits   time.Duration
	}{
		"created says":  {start.Add(-70 * time.Hour), 2 * time.Hour},
		"created long":  {start.Add(-72 * time.Hour), 0},
		"no time":       {time.Time{}, 72 * time.Hour},
		"1970":          {time.Unix(0, 0), 72 * time.Hour},
		"1980":          {time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), 72 * time.Hour},
		"in the future": {start.Add(time.Hour), 73 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			now, cache := start, t.TempDir()
			e := &mirror.Entry{Name: "e", Image: aged(t, c.created), Targets: []string{"oci:" + filepath.Join(t.TempDir(), "to")}, MinAge: 72 * time.Hour}
			run := func() string {
				return oneResult(t, clocked(t, cache, &now).Run(context.WithoutCancel(t.Context()), []*mirror.Entry{e})).Status
			}
			if c.waits > 0 {
				if got := run(); got != mirror.Skipped {
					t.Fatalf("at once: %s", got)
				}
				now = start.Add(c.waits - time.Minute)
				if got := run(); got != mirror.Skipped {
					t.Fatalf("too early: %s", got)
				}
			}
			now = start.Add(c.waits)
			if got := run(); got != mirror.Copied {
				t.Fatalf("in time: %s", got)
			}
			if got := run(); got != mirror.Unchanged {
				t.Fatalf("again: %s", got)
			}
		})
	}
}

// The replaced image is kept under a backup tag, which never replaces another image.
func TestBackup(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	to := "oci:" + filepath.Join(t.TempDir(), "to") + ":v1"
	run := func(source string) mirror.Result {
		e := &mirror.Entry{Name: "e", Image: source, Targets: []string{to}, Backup: "{{.SourceTag}}old-{{.Date}}"}
		return oneResult(t, clocked(t, t.TempDir(), &now).Run(t.Context(), []*mirror.Entry{e}))
	}
	first := run(aged(t, now))
	if first.Status != mirror.Copied || first.Backup != "" {
		t.Fatalf("%+v", first)
	}
	var kept []string
	before := first.Digest
	for n := range 2 {
		r := run(aged(t, now.Add(time.Duration(n+1)*time.Hour)))
		if r.Status != mirror.Copied || r.Was != before {
			t.Fatalf("%+v", r)
		}
		d, err := places.Store{}.Resolve(t.Context(), r.Backup)
		if err != nil || d.Digest.String() != before {
			t.Fatalf("%s is %v, %v; want %s", r.Backup, d.Digest, err, before)
		}
		before, kept = r.Digest, append(kept, r.Backup)
	}
	if kept[0] == kept[1] {
		t.Errorf("both are kept as %s", kept[0])
	}
}

// The age of an index is that of its youngest image, since single images may change.
func TestMinAgeOfIndex(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	now := start
	var items []manifest.Item
	for n, age := range []time.Duration{time.Hour, 1000 * time.Hour} {
		items = append(items, manifest.Item{Ref: aged(t, start.Add(-age)), Platform: ocispec.Platform{OS: "linux", Architecture: []string{"arm64", "amd64"}[n]}})
	}
	idx, err := manifest.Assembly{Items: items, AllowMismatch: true}.Create(t.Context(), places.Store{})
	if err != nil {
		t.Fatal(err)
	}
	source := "oci:" + t.TempDir() + ":v1"
	if err := (places.Store{}).Put(t.Context(), source, idx); err != nil {
		t.Fatal(err)
	}
	e := &mirror.Entry{Name: "e", Image: source, Targets: []string{"oci:" + filepath.Join(t.TempDir(), "to")}, MinAge: 72 * time.Hour}
	cache := t.TempDir()
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{0, mirror.Skipped}, {70 * time.Hour, mirror.Skipped}, {71 * time.Hour, mirror.Copied}} {
		now = start.Add(c.at)
		if got := oneResult(t, clocked(t, cache, &now).Run(t.Context(), []*mirror.Entry{e})).Status; got != c.want {
			t.Errorf("after %v: %s, want %s", c.at, got, c.want)
		}
	}
}

// If several images need the same backup tag, all are kept.
func TestBackupsUnderOneTag(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	place := "oci:" + filepath.Join(t.TempDir(), "to")
	var entries []*mirror.Entry
	want := map[string]bool{}
	for n := range 4 {
		e := &mirror.Entry{Name: fmt.Sprint(n), Image: aged(t, now.Add(time.Duration(n)*time.Hour)), Targets: []string{fmt.Sprintf("%s:v%d", place, n)}, Backup: "before"}
		want[oneResult(t, clocked(t, t.TempDir(), &now).Run(t.Context(), []*mirror.Entry{e})).Digest] = true
		e.Image = aged(t, now.Add(time.Duration(n+10)*time.Hour))
		entries = append(entries, e)
	}
	for _, e := range clocked(t, t.TempDir(), &now).Run(t.Context(), entries).Entries {
		d, err := places.Store{}.Resolve(t.Context(), e.Images[0].Backup)
		if err != nil || !want[d.Digest.String()] {
			t.Errorf("%s: %v, %v", e.Images[0].Backup, d.Digest, err)
		}
		delete(want, d.Digest.String())
	}
	if len(want) > 0 {
		t.Errorf("lost: %v", want)
	}
}

// What is there is verified as often as the entry says, no more.
func TestVerifyEvery(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	e := &mirror.Entry{Name: "e", Image: aged(t, now), Targets: []string{"oci:" + filepath.Join(t.TempDir(), "to")}, VerifyEvery: 24 * time.Hour}
	cache := t.TempDir()
	for _, c := range []struct {
		after time.Duration
		why   string
	}{{0, "new at the target"}, {23 * time.Hour, ""}, {24 * time.Hour, "all of its images are present"}, {25 * time.Hour, ""}, {48 * time.Hour, "all of its images are present"}} {
		now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).Add(c.after)
		if got := oneResult(t, clocked(t, cache, &now).Run(t.Context(), []*mirror.Entry{e})); got.Why != c.why {
			t.Errorf("after %v: %q, want %q", c.after, got.Why, c.why)
		}
	}
}
