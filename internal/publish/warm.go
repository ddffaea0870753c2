package publish

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Pair is a program and a platform, which can be compiled on a machine of their own.
type Pair struct {
	Spec     build.Spec // with the platform alone
	Platform ocispec.Platform
	Inputs   func() map[string]string // as of build.Image
	Source   string                   // as of build.PlannedBase
	NoKey    string                   // why it has no key; "": it has one
}

// name identifies the pair among those of all runs.
func (p Pair) name() string {
	g, _ := p.Spec.Program.(build.GoPackage)
	return p.Spec.Name + " " + g.Main.PkgPath + " " + platform.Key(p.Platform)
}

// Division has what divides pairs among shards: how long they took in earlier runs.
type Division struct {
	pub       *Publisher
	name, run string
	began     map[string]int64
}

// Divide returns the division of pairs, which is the same for all shards of a run, and the
// weight of each pair; it is -1 if it is not known. A pair that has no key weighs nothing.
func (pub *Publisher) Divide(ctx context.Context, pairs []Pair) (d Division, weights []float64) {
	modules, run := map[string]bool{}, sha256.New()
	for _, p := range pairs {
		g, _ := p.Spec.Program.(build.GoPackage)
		modules[g.Main.Module] = true
		fmt.Fprintf(run, "%q %q\n", p.name(), p.Source)
	}
	d = Division{pub: pub, name: strings.Join(slices.Sorted(maps.Keys(modules)), " "), run: fmt.Sprintf("%x", run.Sum(nil))}
	d.began = pub.Records.ReadTimes(ctx, d.name, d.run)
	weights = make([]float64, len(pairs))
	for i, p := range pairs {
		took, ok := d.began[p.name()]
		switch {
		case p.NoKey != "":
		case ok:
			weights[i] = float64(min(max(took, 1), maxWeight.Milliseconds()))
		default:
			weights[i] = -1
		}
	}
	return d, weights
}

// maxWeight bounds the time that counts for a pair: anyone who can write to the repository can
// change it.
const maxWeight = time.Hour

// Store stores how long the pairs took that were compiled.
func (d Division) Store(ctx context.Context, done []Warmed) {
	took := map[string]int64{}
	for _, w := range done {
		if w.Image.Took > 0 {
			took[w.name()] = w.Image.Took.Milliseconds()
		}
	}
	d.pub.Records.StoreTimes(ctx, d.name, d.run, d.began, took)
}

// Pairs returns the pairs of the plans, by platform and then by program, so that a run of them
// compiles the standard library for few platforms. The order depends on the plans alone.
func (pub *Publisher) Pairs(ctx context.Context, plans []Plan) ([]Pair, error) {
	var pairs []Pair
	for _, p := range plans {
		planned, err := pub.Builder.Plan(ctx, p.Spec)
		if err != nil {
			return nil, err
		}
		for _, base := range planned.Bases {
			one := planned.Spec
			one.All, one.Platforms = false, []ocispec.Platform{base.Platform}
			source, noKey := base.Source()
			pairs = append(pairs, Pair{one, base.Platform, base.Inputs, source, noKey})
		}
	}
	slices.SortStableFunc(pairs, func(a, b Pair) int {
		return cmp.Or(platform.Compare(a.Platform, b.Platform), cmp.Compare(a.Spec.Name, b.Spec.Name))
	})
	return pairs, nil
}

// A Warmed is what became of a pair.
type Warmed struct {
	Pair
	Image    build.Image
	Recorded v1.Layer // that the repository has for the key; nil: none
}

// Same reports whether the layer that was compiled is the recorded one: compressed and
// uncompressed.
func (w Warmed) Same() (bool, error) {
	layers, err := w.Image.Layers()
	if err != nil {
		return false, err
	}
	return records.SameLayer(layers[len(layers)-1], w.Recorded)
}

// Warm makes the images of all pairs, and stores a record of each program that has none as
// soon as it is compiled. A program that this machine has compiled from the same sources is
// recorded and not compiled again; programs without a key are left out. With anew all programs
// are compiled, and no record is stored. Each pair has its own error.
func (pub *Publisher) Warm(ctx context.Context, pairs []Pair, anew bool) ([]Warmed, []error) {
	done, errs := make([]Warmed, len(pairs)), make([]error, len(pairs))
	var group errgroup.Group
	group.SetLimit(warmAtOnce)
	for i, p := range pairs {
		group.Go(func() error {
			errs[i] = guard.Report(ctx, pub.Log, p.Spec.Name, func() (err error) { done[i], err = pub.warm(ctx, p, anew); return err })
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	pub.Records.StoreGoCaches(ctx)
	return done, errs
}

// warmAtOnce bounds the pairs that wait for a permit to compile, or for a registry.
const warmAtOnce = 64

// warm is Warm for one pair.
func (pub *Publisher) warm(ctx context.Context, p Pair, anew bool) (w Warmed, err error) {
	w = Warmed{Pair: p}
	if p.NoKey != "" {
		return w, nil
	}
	var once sync.Mutex // Recall is called by several goroutines in general
	hooks := build.Hooks{Anew: true, Kept: !anew, Recall: func(ctx context.Context, of ocispec.Platform, key string) (v1.Layer, error) {
		l, err := pub.Records.Recall(ctx, of, key)
		once.Lock()
		defer once.Unlock()
		if w.Recorded = l; err == nil && anew {
			return nil, fs.ErrNotExist
		}
		return l, err
	}}
	w.Image, err = pub.image(ctx, p.Spec, hooks)
	if err == nil && w.Image.Key == "" && w.Image.Binary.Path == "" && ctx.Err() == nil {
		// What this machine remembers could not be proved. So it is compiled, which proves it.
		w.Image, err = pub.image(ctx, p.Spec, build.Hooks{Anew: true})
	}
	if err != nil {
		return w, err
	}
	if !w.Image.Recalled && !anew {
		err = pub.storeRecord(ctx, w.Image)
	}
	pub.keepInputs(w.Image)
	return w, err
}

// image builds the only image of a spec, with its key.
func (pub *Publisher) image(ctx context.Context, s build.Spec, hooks build.Hooks) (build.Image, error) {
	built, err := pub.Builder.Build(ctx, s, hooks)
	if err != nil {
		return build.Image{}, err
	}
	if len(built.Images) != 1 {
		return build.Image{}, errors.New("a pair has several images")
	}
	return built.Images[0].Keyed(ctx), nil
}

// errOnlyKey ends the build of [Publisher.Key].
var errOnlyKey = errors.New("only the key was asked for")

// Key returns the key of a pair, and in state why its record cannot be used; nil: it can. It
// compiles nothing.
func (pub *Publisher) Key(ctx context.Context, p Pair) (key string, state, err error) {
	if p.NoKey != "" {
		return "", nil, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err = pub.Builder.Build(ctx, p.Spec, build.Hooks{Anew: true, Recall: func(ctx context.Context, of ocispec.Platform, asked string) (v1.Layer, error) {
		_, state = pub.Records.Find(ctx, of, asked)
		key = asked
		cancel(errOnlyKey)
		return nil, errOnlyKey
	}})
	if errors.Is(err, errOnlyKey) {
		err = nil
	}
	return key, state, err
}

// inputsKind is the kind of the records of inputs in the cache, and inputsKey their key.
const inputsKind = "inputs"

func inputsKey(in map[string]string) string { return in["package"] + " " + in["platform"] }

// keepInputs keeps what the key of an image is made of, if that is known, to say later what has
// changed.
func (pub *Publisher) keepInputs(img build.Image) {
	if img.Key != "" && img.Inputs != nil {
		_ = pub.Cache.Store(inputsKind, inputsKey(img.Inputs), records.InputsOf(img.Inputs)) // lost: less can be said
	}
}

// Last returns the inputs of the last program that this machine compiled or recalled for the
// same package and platform. ok is false if there was none.
func (pub *Publisher) Last(in map[string]string) (was records.Inputs, ok bool) {
	return was, pub.Cache.Load(inputsKind, inputsKey(in), &was)
}

// storeRecord stores the record of an image. With Strict it is an error if another layer is recorded,
// and else a warning.
func (pub *Publisher) storeRecord(ctx context.Context, img build.Image) error {
	there, err := pub.Records.Store(ctx, img)
	if there && err == nil {
		_ = pub.Cache.Store(recordedKind, pub.Records.ID(img.Key), time.Now()) // lost: it is asked for again
	}
	if err != nil && !pub.Strict {
		pub.Log.WarnContext(ctx, err.Error())
		return nil
	}
	return err
}

// recordedKind is the kind of the records in the cache that say when a build record was seen in
// its repository. It is not asked for again until seenFor has passed: registries are told to
// delete old records.
const (
	recordedKind = "recorded"
	seenFor      = 7 * 24 * time.Hour
)

// seen reports whether the record of a key was in the repository not long ago.
func (pub *Publisher) seen(key string) bool {
	var at time.Time
	return key != "" && pub.Cache.Load(recordedKind, pub.Records.ID(key), &at) && time.Since(at).Abs() < seenFor
}
