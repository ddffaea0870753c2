package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Store reaches all registries and local places by reference. It must be safe for
// concurrent use.
type Store interface {
	manifest.Source
	// PutAll stores all contents, in their order. Those of one local place are stored in
	// one step, all or nothing. In a Docker archive they are one image with several names.
	manifest.BatchPutter
	manifest.ReferrerLister
	// List returns the names of what a repository, a registry or a local place holds: the
	// tags of a repository, the repositories of a registry (its host with a slash at the
	// end), or the images of a local place, which also have a digest: the one that it
	// names, or all.
	List(ctx context.Context, of string) ([]local.Holding, error)
}

// Programs builds Go programs. It is a source whose references are module@version.
type Programs interface {
	manifest.Source
	// Versions lists the versions of the module that contains a package. latest is the
	// version that the go command takes for "latest".
	Versions(ctx context.Context, pkg string) (latest string, all []string, err error)
}

// A State stores records between runs. Every record may be lost: that costs requests or,
// for images without a time of creation, a new beginning of their age. A State must be
// safe for concurrent use.
type State interface {
	// Load fills in v, a pointer, and reports whether there was a record.
	Load(kind, key string, v any) bool
	// Store replaces the record of this kind and key by v.
	Store(kind, key string, v any) error
}

// atOnce is the number of images that are copied concurrently between two hosts, and of
// referrers and HEADs of one image. The registry client limits their requests.
const atOnce = 8

// A Runner executes entries. Its Store remembers what it has seen, so a Runner is for one
// run: a second run needs a new Store to see changes.
type Runner struct {
	Store    Store
	Programs func(*Entry) Programs // nil: building is not supported
	State    State                 // nil: nothing is remembered between runs
	// Task returns the context for the copy of an image, for example with a progress bar;
	// nil uses the given one.
	Task func(ctx context.Context, image string) context.Context
	// DryRun reads what is needed to say what would be done, and writes nothing. Verify
	// checks the children of images that are unchanged and stores missing ones. Missing
	// skips every tag that exists at its target.
	DryRun, Verify, Missing bool
	// Signed returns an error unless a source is signed by the key of its entry; empty
	// platforms are all. It must not be nil if an entry has a key.
	Signed func(ctx context.Context, s Store, key, ref string, platforms []ocispec.Platform) error
	// Skip reports whether another machine has a target, a repository or the file of a local
	// place; nil: no other has any. Collisions of all targets are found nevertheless.
	Skip func(place string) bool
	// Claims has the targets of entries, shared with other runs; nil means those of this
	// run alone.
	Claims *Claims
	// Now returns the time; nil means time.Now.
	Now func() time.Time
	// Log gets messages and progress; nil discards them.
	Log *slog.Logger
}

// A round is one run of a Runner. mu guards counted, the three sums, and the
// results of moves while referrers are copied. No request is made while it is held.
type round struct {
	*Runner
	start time.Time

	mu         sync.Mutex
	listings   once.Memo[string, []string] // by repository
	semaphores sync.Map                    // of channels, by the hosts of source and target
	backups    once.Memo[string, v1.Hash]  // the digest that a backup tag has or will have
	counted    map[string]bool             // blobs that were counted, by host and digest

	all, done, sent int64 // numbers of moves, of finished ones, and of their bytes
}

// levelTransfer is the level at which the registry client logs the progress of transfers.
const levelTransfer = slog.LevelDebug - 4

// count adds to the progress of the run and logs it. It logs under the lock so that the
// records are in order.
func (r *round) count(ctx context.Context, all, done int, sent int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.done, r.sent = r.all+int64(all), r.done+int64(done), r.sent+sent
	r.Log.Log(ctx, levelTransfer, "total", "done", r.done, "all", r.all, "bytes", r.sent)
}

// Run executes all entries concurrently and returns the results in the order of the
// entries. A failure stops nothing else. If ctx ends, moves that wait fail with its cause
// and running ones end soon. Run does not change r, and returns when all its work has
// ended.
func (r *Runner) Run(ctx context.Context, entries []*Entry) *Report {
	own := *r
	// The defaults go into a copy, since the Runner belongs to the caller.
	if own.Log == nil {
		own.Log = slog.New(slog.DiscardHandler)
	}
	if own.Now == nil {
		own.Now = time.Now
	}
	if own.Claims == nil {
		own.Claims = &Claims{}
	}
	at := &round{Runner: &own, start: own.Now()}
	report := &Report{Started: at.start.UTC(), DryRun: own.DryRun, Entries: make([]EntryReport, len(entries))}
	// The entries run concurrently below. Claiming first makes the order of the plan, and
	// not that of the replies, decide about collisions.
	own.Claims.first(ctx, at, entries)
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() { report.Entries[i] = at.entry(ctx, e) })
	}
	wg.Wait()
	report.finish(own.Now())
	return report
}

// entry executes one entry. A panic fails its image, or the entry if it happened while
// the images were planned.
func (r *round) entry(ctx context.Context, e *Entry) EntryReport {
	out := EntryReport{Name: e.Name, Started: r.Now().UTC(), Images: []Result{}}
	var moves []*move
	var lost []Result
	planned := 0
	err := guard.Report(ctx, r.Log, e.Name, func() error {
		jobs, some, err := r.jobsOf(ctx, e)
		if lost = some; err == nil {
			moves, planned = r.moves(ctx, jobs), len(jobs)
		}
		return err
	})
	switch {
	case err != nil:
		lost = append(lost, failed(e.source(), "", e.planned(err)))
	case planned == 0 && len(lost) == 0:
		lost = append(lost, Result{Source: e.source(), Status: Skipped, Why: "no tag is selected"})
		r.Log.WarnContext(ctx, "no tag is selected", "entry", e.Name, "source", e.source())
	}
	r.count(ctx, len(moves), 0, 0)
	results := make([]Result, len(moves))
	var wg sync.WaitGroup
	for i, m := range moves {
		wg.Go(func() { results[i] = m.queue(ctx) })
	}
	wg.Wait()
	out.Images = append(append(out.Images, lost...), results...)
	out.Seconds = seconds(r.Now().Sub(out.Started))
	return out
}

// planned returns the error of an entry that could not be planned. A panic gets the name
// of the entry, because its text does not say where it happened.
func (e *Entry) planned(err error) error {
	if p := (*guard.Panic)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	return sourced(err)
}

// named adds the source to an error about its platforms. The errors of a registry name it.
func (j *job) named(err error) error {
	if e := (*manifest.AssemblyError)(nil); errors.As(err, &e) && !errors.Is(err, manifest.ErrNotFound) {
		return fmt.Errorf("%s: %w", j.source, err)
	}
	return err
}

// sourced says that err is the source's, and a usage error if the source does not exist.
func sourced(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, manifest.ErrNotFound):
		return hint.New(hint.Usage, "check the name and the tag", "source: %w", err)
	}
	return fmt.Errorf("source: %w", err)
}

// source returns the source of an entry for messages.
func (e *Entry) source() string {
	switch {
	case e.Template != "":
		return e.Template
	case len(e.Images) > 0:
		return e.describe("{{.Tag}}")
	case e.Program != "":
		return e.Program
	}
	return e.Image
}

// semaphore returns the permits for images between two hosts. Each pair has its own, so
// that a slow host does not delay the copies between others.
func (r *round) semaphore(source, target string) chan struct{} {
	permits, _ := r.semaphores.LoadOrStore(source+" "+target, make(chan struct{}, atOnce))
	return permits.(chan struct{})
}

// programs returns the source of the program of e. It fails if building is not supported.
func (r *round) programs(e *Entry) (Programs, error) {
	if r.Programs == nil {
		return nil, errors.New("building programs is not supported here")
	}
	return r.Programs(e), nil
}
