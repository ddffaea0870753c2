package mirror

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The status of an image at one target.
const (
	Copied    = "copied"    // the target names it now; in a dry run, it would
	Unchanged = "unchanged" // the target named it already
	Skipped   = "skipped"   // not copied, by a rule of the entry
	Failed    = "failed"    // not copied because of an error
)

// A Report has the result of each image. Its JSON is stable. Bytes were sent, Seconds
// have three decimal places, and Started is in UTC.
type Report struct {
	Started time.Time     `json:"started"`
	Seconds float64       `json:"seconds"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Copied  int           `json:"copied"`
	Same    int           `json:"unchanged"`
	Skipped int           `json:"skipped"`
	Failed  int           `json:"failed"`
	Bytes   int64         `json:"bytes"`
	Entries []EntryReport `json:"entries"`
}

// An EntryReport has the results of the images of an entry: first those that could not be
// planned, then the others in the order of the plan.
type EntryReport struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Images  []Result  `json:"images"`
}

// A Result is what happened to one image at one target.
type Result struct {
	Source string `json:"source"`
	Target string `json:"target,omitempty"` // empty if the image could not be planned
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`
	// Digest is what the target names or should name. Was is what it named before.
	Digest string `json:"digest,omitempty"`
	Was    string `json:"was,omitempty"`
	// Platforms are those of the image, as far as they were read: an image that is unchanged
	// is not read for them.
	Platforms []string `json:"platforms,omitempty"`
	// Absent are the wanted platforms that the source lacks.
	Absent []string `json:"absent,omitempty"`
	Backup string   `json:"backup,omitempty"` // the reference that keeps the replaced image
	// Bytes were sent. In a dry run they are an upper bound of what would be sent.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	// Err is why it failed. Its text is in Why.
	Err error `json:"-"`
}

// failed returns the result for an error.
func failed(source, target string, err error) Result {
	return Result{Source: source, Target: target, Status: Failed, Why: err.Error(), Err: err}
}

// finish sets the duration and the sums at the end of a run.
func (r *Report) finish(now time.Time) {
	r.Seconds = seconds(now.Sub(r.Started))
	r.Count()
}

// Count adds the results of the entries to the sums. Run has called it for the report
// that it returns; a second call would count everything twice.
func (r *Report) Count() {
	for _, e := range r.Entries {
		for _, i := range e.Images {
			r.Bytes += i.Bytes
			switch i.Status {
			case Copied:
				r.Copied++
			case Unchanged:
				r.Same++
			case Skipped:
				r.Skipped++
			case Failed:
				r.Failed++
			}
		}
	}
}

// Err returns the errors of all failed images joined, nil if none failed. If there are
// several entries, each error begins with the name of its entry. partial reports
// whether another image did not fail.
func (r *Report) Err() (err error, partial bool) {
	var errs []error
	for _, e := range r.Entries {
		for _, i := range e.Images {
			switch {
			case i.Err != nil && e.Name != "" && len(r.Entries) > 1:
				errs = append(errs, hint.Named("entry "+e.Name, i.Err))
			case i.Err != nil:
				errs = append(errs, i.Err)
			}
		}
	}
	return errors.Join(errs...), r.Copied+r.Same+r.Skipped > 0
}

// RetryAt returns the latest time before which a registry asks not to be contacted again,
// from the errors of failed images. It is the zero time if none of them has one.
func (r *Report) RetryAt() (latest time.Time) {
	for _, e := range r.Entries {
		for _, i := range e.Images {
			if at := retryAt(i.Err); at.After(latest) {
				latest = at
			}
		}
	}
	return latest
}

// retryAt returns the latest time of all errors in the tree of err. errors.As would find
// only the first.
func retryAt(err error) (latest time.Time) {
	if later, ok := err.(interface{ RetryAt() (time.Time, bool) }); ok {
		if at, ok := later.RetryAt(); ok {
			latest = at
		}
	}
	var inner []error
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	}
	for _, one := range inner {
		if at := retryAt(one); at.After(latest) {
			latest = at
		}
	}
	return latest
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// keys returns the platforms in the spelling of platform.Key.
func keys(list []ocispec.Platform) []string {
	var out []string
	for _, p := range list {
		out = append(out, platform.Key(p))
	}
	return out
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
