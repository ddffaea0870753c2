package mirror

import (
	"testing"
	"time"
)

// The status follows an entry from its first run to the next one, and forgets an entry
// that the plan no longer has.
func TestStatus(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	o := NewObserver(func(*Report) error { return nil })
	o.Expect([]*Entry{{Name: "b", Image: "up.example/b", Targets: []string{"reg.example/b"}}, {Name: "a", Template: "up.example/a-ARCH"}})
	first := func() EntryStatus { t.Helper(); return o.Status(now).Entries[0] }
	if s := o.Status(now); len(s.Entries) != 2 || s.Entries[1].Source != "up.example/a-ARCH" || s.Entries[0].State != Waiting || s.Failing() != 0 || s.Quotas == nil {
		t.Errorf("%+v", s)
	}
	o.Begin("b", now)
	if e := first(); e.State != Running || !e.Since.Equal(now) || e.Last != nil || o.Status(now).Running() != 1 {
		t.Errorf("%+v", e)
	}
	run := func(failed int) {
		t.Helper()
		r := &Report{Started: now, Seconds: 1.5, Copied: 1, Failed: failed, Bytes: 7, Entries: []EntryReport{{Name: "b", Images: []Result{{Target: "reg.example/b:v1", Status: Copied, Platforms: []string{"linux/arm64"}}}}}}
		if err := o.Observe("b", r, []Problem{{"lost", "try again"}}[:failed], []Quota{{Registry: "up.example", Remaining: 5, Limit: 100, Seconds: 21600}}); err != nil {
			t.Fatal(err)
		}
	}
	run(0)
	o.Schedule("b", now.Add(time.Hour))
	e := first()
	if e.State != Scheduled || !e.Next.Equal(now.Add(time.Hour)) || e.Since != nil || !e.Success.Equal(now.Add(1500*time.Millisecond)) || e.Last.Bytes != 7 || e.Last.Images[0].Platforms[0] != "linux/arm64" {
		t.Errorf("%+v", e)
	}
	success := *e.Success
	o.Begin("b", now.Add(time.Hour))
	run(1)
	if s := o.Status(now); s.Failing() != 1 || s.Entries[0].State != Ended || s.Entries[0].Last.Errors[0].Hint != "try again" || !s.Entries[0].Success.Equal(success) || s.Quotas[0].Window() != "6 h" {
		t.Errorf("%+v", s)
	}
	if e.Last.Failed != 0 || e.State != Scheduled {
		t.Error("a status changes after it was returned")
	}
	o.Expect([]*Entry{{Name: "a"}})
	o.Begin("b", now)
	o.Expect([]*Entry{{Name: "b"}})
	if e := first(); e.State != Waiting || e.Last != nil {
		t.Errorf("an entry that was removed is known: %+v", e)
	}
}
