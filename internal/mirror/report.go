package mirror

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/mabuild/mabuild/manifest/platform"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What becomes of an image at one target.
const (
	Copied    = "copied"    // the target was made to name it; of a dry run: it would be
	Unchanged = "unchanged" // the target names it already
	Skipped   = "skipped"   // left alone on purpose
	Failed    = "failed"    // the target is as it was
)

// A Report says what became of each image. Its JSON is stable.
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

// An EntryReport says what became of the images of an entry, in their order.
type EntryReport struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Images  []Result  `json:"images"`
}

// A Result says what became of one image at one target.
type Result struct {
	Source string `json:"source"`
	Target string `json:"target,omitempty"` // empty where it did not come so far
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`
	// Digest is what the target names or was to name, Was what it named before.
	Digest string `json:"digest,omitempty"`
	Was    string `json:"was,omitempty"`
	// Absent are the platforms that the image was to have and has not.
	Absent []string `json:"absent,omitempty"`
	Backup string   `json:"backup,omitempty"` // the tag that keeps what there was
	// Bytes were sent; of a dry run: at most so many would be.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	// Err is why it failed; its text is in Why.
	Err error `json:"-"`
}

// failed is the result of what ended in err.
func failed(source, target string, err error) Result {
	return Result{Source: source, Target: target, Status: Failed, Why: err.Error(), Err: err}
}

// finish counts what there is at the end of a run.
func (r *Report) finish(now time.Time) {
	r.Seconds = seconds(now.Sub(r.Started))
	r.Count()
}

// Count sums up the entries.
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

// Err joins what failed, nil for nothing. partly is whether something did not.
func (r *Report) Err() (err error, partial bool) {
	var errs []error
	for _, e := range r.Entries {
		for _, i := range e.Images {
			if i.Err != nil {
				errs = append(errs, i.Err)
			}
		}
	}
	return errors.Join(errs...), r.Copied+r.Same+r.Skipped > 0
}

// RetryAt is the latest time before which a registry does not want to be asked
// again, as those of the failed that know of one say.
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

// retryAt is the latest time that any error in the tree of err tells.
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

func keys(list []ocispec.Platform) []string {
	var out []string
	for _, p := range list {
		out = append(out, platform.Key(p))
	}
	return out
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
