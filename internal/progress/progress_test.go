package progress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
)

// tell logs the records of a run with two platforms, one of which fails.
func tell(ctx context.Context, log *slog.Logger) {
	arm := WithTask(ctx, Task{Platform: "linux/arm/v7"})
	log.InfoContext(ctx, "base", "ref", "alpine:3", "digest", "sha256:ba5e")
	log.InfoContext(arm, "compiling")
	log.InfoContext(ctx, "compiling", "platform", "linux/s390x")
	log.DebugContext(arm, "go build", "args", []string{"-trimpath", "./cmd/a\x1b[31mpp"})
	log.InfoContext(arm, "layering")
	log.InfoContext(arm, "pushing")
	log.Log(arm, LevelTransfer, "transfer", "op", "upload", "host", "ghcr.io", "repository", "acme/app",
		"digest", "sha256:1a", "bytes", int64(8_100_000), "size", int64(12_300_000))
	log.WarnContext(ctx, "vet\r complains", "platform", "linux/s390x", "output", "./main.go:3:8: no\x1b]0;x\a such\n\tthing\n")
	log.ErrorContext(ctx, "failed", "platform", "linux/s390x", "err", errors.New("exit 1\nand more"))
	log.InfoContext(arm, "done", "digest", "sha256:d0", "duration", 3240*time.Millisecond)
}

// Without a terminal each record is one plain line, on request with a time stamp.
func TestPlain(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Options
		want []string
	}{
		{"info", Options{Mode: "plain"}, []string{
			"base ref=alpine:3 digest=sha256:ba5e",
			"linux/arm/v7: compiling",
			"linux/s390x: compiling",
			"linux/arm/v7: layering",
			"linux/arm/v7: pushing",
			"warning: linux/s390x: vet complains",
			"./main.go:3:8: no]0;x such",
			"\tthing",
			"error: linux/s390x: failed: exit 1 and more",
			"linux/arm/v7: done digest=sha256:d0 in 3.2s",
		}},
		{"none", Options{Mode: "none", Verbosity: 2}, []string{
			"warning: linux/s390x: vet complains",
			"./main.go:3:8: no]0;x such",
			"\tthing",
			"error: linux/s390x: failed: exit 1 and more",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			log, stop, err := New(&b, test.o)
			if err != nil {
				t.Fatal(err)
			}
			tell(t.Context(), log)
			stop()
			stop()
			stamp := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ `)
			if stamped := stamp.MatchString(b.String()); stamped != (test.o.Mode == "plain") {
				t.Errorf("stamped %v:\n%s", stamped, &b)
			}
			got := stamp.ReplaceAllString(b.String(), "")
			if want := strings.Join(test.want, "\n") + "\n"; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// Verbosity selects which debug records, transfers and requests are shown.
func TestVerbosity(t *testing.T) {
	for verbosity, want := range []struct{ debug, transfer bool }{{false, false}, {true, false}, {true, true}} {
		var b bytes.Buffer
		log, stop, err := New(&b, Options{Verbosity: verbosity})
		if err != nil {
			t.Fatal(err)
		}
		tell(t.Context(), log)
		stop()
		if got := strings.Contains(b.String(), "go build args=-trimpath,./cmd/a[31mpp\n"); got != want.debug {
			t.Errorf("verbosity %d shows debug: %v\n%s", verbosity, got, &b)
		}
		if got := strings.Contains(b.String(), "transfer op=upload"); got != want.transfer {
			t.Errorf("verbosity %d shows transfers: %v", verbosity, got)
		}
	}
}

// The JSON format has one object for each record.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	log, stop, err := New(&b, Options{Mode: "json", Verbosity: 2})
	if err != nil {
		t.Fatal(err)
	}
	api := WithTask(t.Context(), Task{Program: "api", Platform: "linux/386"})
	log.With("run", "r1").WithGroup("g").InfoContext(api, "x", slog.Group("h", "k", "v\u009b2J"))
	tell(t.Context(), log)
	stop()
	var got []map[string]any
	for line := range strings.Lines(b.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, m)
	}
	if len(got) != 11 {
		t.Fatalf("%d lines:\n%s", len(got), &b)
	}
	first, transfer, warning, done := got[0], got[7], got[8], got[10]
	if first["program"] != "api" || first["platform"] != "linux/386" || first["run"] != "r1" || first["g.h.k"] != "v2J" {
		t.Errorf("first line: %v", first)
	}
	if transfer["level"] != "TRANSFER" || transfer["platform"] != "linux/arm/v7" || transfer["bytes"] != 8.1e6 {
		t.Errorf("transfer: %v", transfer)
	}
	if warning["level"] != "WARN" || warning["output"] != "./main.go:3:8: no]0;x such\n\tthing" {
		t.Errorf("warning: %v", warning)
	}
	if done["msg"] != "done" || done["duration"] != 3.24 {
		t.Errorf("done: %v", done)
	}
}

// Without a terminal no mode draws bars.
func TestModes(t *testing.T) {
	for _, mode := range []string{"tty", "fancy", "\x1b[2J"} {
		if _, _, err := New(&bytes.Buffer{}, Options{Mode: mode}); hint.Of(err) == "" || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("mode %q without a terminal: %v", mode, err)
		}
	}
}

// Concurrent records are not mixed within a line.
func TestConcurrent(t *testing.T) {
	for _, mode := range []string{"plain", "json"} {
		var b bytes.Buffer
		log, stop, err := New(&b, Options{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					log.InfoContext(t.Context(), "line", "a", 1)
				}
			})
		}
		wg.Wait()
		stop()
		if n := strings.Count(b.String(), "\n"); n != 400 {
			t.Errorf("%s: %d lines", mode, n)
		}
	}
}

// Single requests are logged only at the highest verbosity.
func TestRequests(t *testing.T) {
	for verbosity, want := range []bool{false, false, true} {
		var b bytes.Buffer
		log, stop, err := New(&b, Options{Mode: "plain", Verbosity: verbosity})
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("request", "method", "GET")
		stop()
		if got := strings.Contains(b.String(), "request method=GET"); got != want {
			t.Errorf("verbosity %d shows requests: %v", verbosity, got)
		}
	}
}

// A carriage return in a password does not prevent its redaction.
func TestCleanRedactsWhatIsShown(t *testing.T) {
	for _, s := range []string{"me:hun\x1bter2@ghcr.io/x", "https://me:hun\x00ter2@ghcr.io/x", "me:hun\u202eter2@ghcr.io/x"} {
		if got := clean(s) + cleanLines(s); strings.Contains(got, "ter2") {
			t.Errorf("%q: %s", s, got)
		}
	}
}

// If nothing is shown for half a minute, a line says what is awaited; not after the end.
func TestPlainSaysWhatIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log, stop, err := New(&b, Options{Mode: "plain"})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("a line")
		time.Sleep(40 * time.Second)
		for _, p := range []string{"linux/arm64", "linux/amd64"} {
			log.Info("compiling", "platform", p)
		}
		time.Sleep(29 * time.Second)
		log.Info("pushing", "platform", "linux/amd64")
		time.Sleep(61 * time.Second)
		log.Info("done", "platform", "linux/amd64")
		log.Info("failed", "platform", "linux/arm64")
		time.Sleep(time.Hour)
		log.Info("compiling", "platform", "linux/arm64")
		stop()
		time.Sleep(time.Hour)
		var got []string
		for line := range strings.Lines(b.String()) {
			if _, text, ok := strings.Cut(line, " waiting: "); ok {
				got = append(got, text)
			}
		}
		want := []string{
			"linux/amd64 is pushing for 30.0s, linux/arm64 is compiling for 59.0s\n",
			"linux/amd64 is pushing for 1m0s, linux/arm64 is compiling for 1m29s\n",
		}
		if !slices.Equal(got, want) {
			t.Errorf("waiting %q, want %q", got, want)
		}
	})
}

// One line names a few of many tasks.
func TestPlainNamesFewTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log, stop, err := New(&b, Options{Mode: "plain"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			log.Info("copying", "image", fmt.Sprintf("app:v%d", i))
		}
		time.Sleep(31 * time.Second)
		stop()
		if got := b.String(); !strings.HasSuffix(got, ", and 12 more\n") || strings.Count(got, " is copying for ") != 8 {
			t.Error(got)
		}
	})
}
