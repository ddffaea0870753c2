package publish

import (
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/regtest"
)

// A record that this machine has seen is not asked for again for seven days. Then it is, since
// the registry may have deleted it.
func TestSeenRecordIsAskedForLater(t *testing.T) {
	t.Parallel()
	r, dir, keep := startRegistry(t), t.TempDir(), t.TempDir()
	regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/one\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"})
	time.Sleep(60 * time.Millisecond) // past the clock's granularity
	publish := func() (machine, build.Image) {
		t.Helper()
		m := newMachine(t, &records.Repository{Name: r.Host + "/records", Write: true})
		m.Builder.Cache = keep
		var err error
		m.Cache, err = cache.Open(keep)
		check(t, err)
		return m, m.must(t, dir, "amd64", r.Host+"/app:v1").Images[0]
	}
	asked := func() (n int) {
		for _, one := range r.Requests() {
			if strings.Contains(one.Path, "/records/") {
				n++
			}
		}
		return n
	}
	m, img := publish()
	if img.Key == "" || asked() == 0 {
		t.Fatalf("the key is %q after %d requests", img.Key, asked())
	}
	r.Reset()
	if _, again := publish(); again.Key != img.Key || again.Binary.Path != "" || asked() != 0 {
		t.Errorf("the key is %q, want %q; %d requests, want none", again.Key, img.Key, asked())
	}
	check(t, m.Cache.Store(recordedKind, m.Records.ID(img.Key), time.Now().Add(-seenFor)))
	r.Reset()
	if publish(); asked() != 1 {
		t.Errorf("%d requests after seven days, want 1", asked())
	}
	r.Reset()
	if publish(); asked() != 0 {
		t.Errorf("%d requests after that, want none", asked())
	}
}
