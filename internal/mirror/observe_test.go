package mirror

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The result of a running entry is reported only if the plan still has the entry when it
// ends.
func TestRoundsOfAnOldPlan(t *testing.T) {
	gone, stays := &Entry{Name: "gone"}, &Entry{Name: "stays"}
	var written bytes.Buffer
	o := NewObserver(func(r *Report) error {
		written.Reset()
		return r.Write(&written)
	})
	shown := func() string {
		t.Helper()
		answer := httptest.NewRecorder()
		o.Metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		return answer.Body.String() + written.String()
	}
	observe := func() {
		t.Helper()
		for _, name := range []string{"gone", "stays"} {
			if err := o.Observe(name, &Report{Entries: []EntryReport{{Name: name}}, Failed: 1}, nil, []Quota{{Registry: "r.example", Remaining: 7}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.Expect([]*Entry{gone, stays})
	observe()
	if text := shown(); !strings.Contains(text, "gone") || !strings.Contains(text, "r.example") || !strings.Contains(written.String(), "gone") {
		t.Errorf("an entry of the plan is missing: %s", text)
	}
	o.Expect([]*Entry{stays})
	observe() // both entries were running when the file was reloaded
	if text := shown(); strings.Contains(text, "gone") || !strings.Contains(text, "stays") {
		t.Error(text)
	}
}
