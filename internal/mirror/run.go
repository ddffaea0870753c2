package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Store is all registries and all local places, by reference.
type Store interface {
	manifest.Source
	manifest.Sink
	manifest.ReferrerLister
	// PutAll stores in a local place the images named beside c, and makes ref name c,
	// all or nothing. In a Docker archive these are further names of c.
	PutAll(ctx context.Context, ref string, c manifest.Content, beside []manifest.Named) error
	// Tags lists the tags of a repository.
	Tags(ctx context.Context, repo string) ([]string, error)
	// Repositories lists the repositories of a registry.
	Repositories(ctx context.Context, host string) ([]string, error)
	// Images lists the images in a local place: the one that it names, or all.
	Images(ctx context.Context, place local.Place) ([]local.Holding, error)
}

// Programs builds a Go program: a source whose references are module@version.
type Programs interface {
	manifest.Source
	// Versions lists the versions of the module that has a package, and the one that
	// "latest" stands for.
	Versions(ctx context.Context, pkg string) (latest string, all []string, err error)
}

// A State is what may be forgotten: it spares requests.
type State interface {
	Load(kind, key string, v any) bool
	Store(kind, key string, v any) error
}

// atOnce is how many images are under way from one registry to another. Their
// requests are bounded by the registry's client.
const atOnce = 8

// A Runner carries entries out. It is one run's: its Store remembers what it saw.
type Runner struct {
	Store    Store
	Programs func(*Entry) Programs // nil where there are none
	State    State                 // nil for none
	// Task returns the context in which an image is copied; nil is the given one.
	Task func(ctx context.Context, image string) context.Context
	// DryRun reads what it needs to say what would be done, and sends nothing. Verify looks at the children of what is
	// there and stores those that are gone. Missing leaves alone what there is
	// under a tag.
	DryRun, Verify, Missing bool
	// Claims are who goes to which target, in common with other runs; nil is this
	// one's alone.
	Claims *Claims
	// Now is the time; nil is time.Now.
	Now func() time.Time
	// Log gets what happens; nil is silent.
	Log *slog.Logger
}

// A round is a Runner at work.
type round struct {
	*Runner
	start time.Time

	mu         sync.Mutex
	listings   once.Memo[string, []string] // by repository
	semaphores map[string]chan struct{}    // by the hosts of source and target
	backups    once.Memo[string, v1.Hash]  // what a tag keeps, by its name
	counted    map[string]bool             // what a dry run has counted

	all, done, sent int64 // images to go to their targets, there, and their bytes
}

// levelTransfer is the registry client's level of records about bytes on their way.
const levelTransfer = slog.LevelDebug - 4

// count tells how far the run is.
func (r *round) count(ctx context.Context, all, done int, sent int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.done, r.sent = r.all+int64(all), r.done+int64(done), r.sent+sent
	r.Log.Log(ctx, levelTransfer, "total", "done", r.done, "all", r.all, "bytes", r.sent)
}

// Run carries out the entries, all at once, and returns what became of each image
// in the order of the entries. What fails stops nothing else.
func (r *Runner) Run(ctx context.Context, entries []*Entry) *Report {
	own := *r
	if own.Log == nil {
		own.Log = slog.New(slog.DiscardHandler)
	}
	if own.Now == nil {
		own.Now = time.Now
	}
	if own.Claims == nil {
		own.Claims = &Claims{}
	}
	at := &round{
		Runner: &own, start: own.Now(),
		semaphores: map[string]chan struct{}{},
	}
	report := &Report{Started: at.start.UTC(), DryRun: own.DryRun, Entries: make([]EntryReport, len(entries))}
	own.Claims.first(ctx, at, entries)
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() { report.Entries[i] = at.entry(ctx, e) })
	}
	wg.Wait()
	report.finish(own.Now())
	return report
}

// entry carries out one entry. A panic fails the image that it happened with, or where
// the images are found out the entry, and nothing else.
func (r *round) entry(ctx context.Context, e *Entry) EntryReport {
	out := EntryReport{Name: e.Name, Started: r.Now().UTC(), Images: []Result{}}
	var moves []*move
	var lost []Result
	err := guard.Report(ctx, r.Log, e.Name, func() error {
		jobs, some, err := r.plan(ctx, e)
		if lost = some; err == nil {
			moves = r.moves(ctx, jobs)
		}
		return err
	})
	switch {
	case err != nil:
		lost = append(lost, failed(e.source(), "", e.planned(err)))
	case len(moves) == 0 && len(lost) == 0:
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

// planned says what went wrong before the images of e were known. A panic says nothing
// of itself about where it was.
func (e *Entry) planned(err error) error {
	if p := (*guard.Panic)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	return sourced(err)
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

// source names what an entry copies.
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

// semaphore bounds the images that are under way between two hosts, so that a slow one
// holds up nobody else.
func (r *round) semaphore(source, target string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := source + " " + target
	if r.semaphores[key] == nil {
		r.semaphores[key] = make(chan struct{}, atOnce)
	}
	return r.semaphores[key]
}

func (r *round) programs(e *Entry) Programs {
	if r.Programs == nil {
		return noPrograms{}
	}
	return r.Programs(e)
}

// noPrograms is the source of programs where nothing is built.
type noPrograms struct{}

var errNoPrograms = errors.New("building programs is not supported here")

func (noPrograms) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{}, errNoPrograms
}

func (noPrograms) Get(context.Context, string) (manifest.Content, error) { return nil, errNoPrograms }

func (noPrograms) Versions(context.Context, string) (string, []string, error) {
	return "", nil, errNoPrograms
}
