package mirror

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The states of an entry of a [Status].
const (
	Running   = "running"   // a run is in progress
	Scheduled = "scheduled" // it waits for its next run
	Waiting   = "waiting"   // its first run waits for a run of the same name of an older plan
	Ended     = "ended"     // it has no schedule and has run
)

// A Status is what a [Watcher] does and has done since it began. Its JSON is stable:
// docs/status.schema.json describes it.
type Status struct {
	Time    time.Time     `json:"time"`
	Entries []EntryStatus `json:"entries"` // in the order of the plan
	Quotas  []Quota       `json:"quotas"`  // by the name of the registry
}

// An EntryStatus is the status of an entry.
type EntryStatus struct {
	Name    string     `json:"name"`
	Source  string     `json:"source"`
	Targets []string   `json:"targets"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`       // when the run in progress began
	Next    *time.Time `json:"next,omitempty"`        // of an entry that is scheduled
	Success *time.Time `json:"lastSuccess,omitempty"` // end of the last run without a failure
	Last    *LastRun   `json:"last,omitempty"`
}

// A LastRun is the last run of an entry that has ended.
type LastRun struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Copied  int       `json:"copied"`
	Same    int       `json:"unchanged"`
	Skipped int       `json:"skipped"`
	Failed  int       `json:"failed"`
	Bytes   int64     `json:"bytes"`
	Errors  []Problem `json:"errors"`
	Images  []Result  `json:"images"`
}

// A Problem is an error of a run, and what the user can do about it.
type Problem struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// A Quota is what a registry said about the pulls that it permits.
type Quota struct {
	Registry  string `json:"registry"`
	Remaining int    `json:"remaining"`
	Limit     int    `json:"limit,omitempty"`   // pulls in the window; 0 if the registry does not say
	Seconds   int    `json:"seconds,omitempty"` // of the window; 0 if the registry does not say
}

// Status returns the state at a time. The caller may keep it, and does not change it.
func (o *Observer) Status(now time.Time) Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := Status{Time: now.UTC(), Entries: []EntryStatus{}, Quotas: []Quota{}}
	for _, e := range o.plan {
		one := EntryStatus{Name: e.Name, Source: e.source(), Targets: append([]string{}, e.Targets...), State: Waiting}
		if known := o.entries[e.Name]; known != nil {
			one.State, one.Since, one.Next, one.Success, one.Last = known.State, known.Since, known.Next, known.Success, known.Last
		}
		s.Entries = append(s.Entries, one)
	}
	for _, host := range slices.Sorted(maps.Keys(o.quotas)) {
		s.Quotas = append(s.Quotas, o.quotas[host])
	}
	return s
}

// Begin records that a run of an entry begins.
func (o *Observer) Begin(entry string, now time.Time) {
	o.change(entry, func(e *EntryStatus) {
		now := now.UTC()
		e.State, e.Since, e.Next = Running, &now, nil
	})
}

// Schedule records when an entry runs next.
func (o *Observer) Schedule(entry string, at time.Time) {
	o.change(entry, func(e *EntryStatus) {
		at := at.UTC()
		e.State, e.Next = Scheduled, &at
	})
}

// change changes the status of an entry of the plan. An entry that the plan no longer has
// is ignored.
func (o *Observer) change(entry string, change func(*EntryStatus)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.planned(entry) {
		change(o.entry(entry))
	}
}

// entry returns the status of an entry to change. mu is held.
func (o *Observer) entry(name string) *EntryStatus {
	if o.entries[name] == nil {
		o.entries[name] = &EntryStatus{State: Waiting}
	}
	return o.entries[name]
}

// finish records the end of a run. mu is held.
func (o *Observer) finish(entry string, r *Report, problems []Problem) {
	e := o.entry(entry)
	e.State, e.Since = Ended, nil
	last := &LastRun{
		Started: r.Started, Seconds: r.Seconds, Copied: r.Copied, Same: r.Same, Skipped: r.Skipped, Failed: r.Failed, Bytes: r.Bytes,
		Errors: append([]Problem{}, problems...), Images: []Result{},
	}
	for _, one := range r.Entries {
		last.Images = append(last.Images, one.Images...)
	}
	e.Last = last
	if r.Failed == 0 {
		end := r.Started.Add(time.Duration(r.Seconds * float64(time.Second))).UTC().Truncate(time.Millisecond)
		e.Success = &end
	}
}

// Failing counts the entries whose last run failed in part.
func (s Status) Failing() int {
	return s.count(func(e EntryStatus) bool { return e.Last != nil && e.Last.Failed > 0 })
}

// Running counts the entries that run.
func (s Status) Running() int {
	return s.count(func(e EntryStatus) bool { return e.State == Running })
}

func (s Status) count(is func(EntryStatus) bool) (n int) {
	for _, e := range s.Entries {
		if is(e) {
			n++
		}
	}
	return n
}

// Window returns the window of the quota for people: 6 h; "" if it is not known.
func (q Quota) Window() string {
	switch d := time.Duration(q.Seconds) * time.Second; {
	case d == 0:
		return ""
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return d.String()
	}
}
