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
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Pair is a program and a platform, which can be compiled on a machine of their own.
type Pair struct {
	Spec     build.Spec // with the platform alone
	Platform ocispec.Platform
	Inputs   map[string]string // as of build.Image
	NoKey    string            // why it has no key; "": it has one
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
			pairs = append(pairs, Pair{one, base.Platform, base.Inputs, base.NoKey})
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
	var digests [2][2]v1.Hash
	for i, l := range []v1.Layer{layers[len(layers)-1], w.Recorded} {
		for j, digest := range []func() (v1.Hash, error){l.Digest, l.DiffID} {
			if digests[i][j], err = digest(); err != nil {
				return false, err
			}
		}
	}
	return digests[0] == digests[1], nil
}

// Warm makes the images of all pairs, and stores a record of each program that has none as
// soon as it is compiled. With anew all programs are compiled, and no record is stored. What
// this machine remembers does not count. Each pair has its own error.
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
func (pub *Publisher) warm(ctx context.Context, p Pair, anew bool) (Warmed, error) {
	w := Warmed{Pair: p}
	var once sync.Mutex // Recall is called by several goroutines in general
	hooks := build.Hooks{Anew: true, Recall: func(ctx context.Context, of ocispec.Platform, key string) (v1.Layer, error) {
		l, err := pub.Records.Recall(ctx, of, key)
		once.Lock()
		defer once.Unlock()
		if w.Recorded = l; err == nil && anew {
			return nil, fs.ErrNotExist
		}
		return l, err
	}}
	built, err := pub.Builder.Build(ctx, p.Spec, hooks)
	if err != nil {
		return w, err
	}
	if len(built.Images) != 1 {
		return w, errors.New("a pair has several images")
	}
	if w.Image = built.Images[0]; !w.Image.Recalled && !anew {
		pub.Records.Store(ctx, w.Image)
	}
	pub.keepInputs(w.Image)
	return w, nil
}

// errOnlyKey ends the build of [Publisher.Key].
var errOnlyKey = errors.New("only the key was asked for")

// Key returns the key of a pair, and whether there is a record of it. It compiles nothing.
func (pub *Publisher) Key(ctx context.Context, p Pair) (key string, recorded bool, err error) {
	if p.NoKey != "" {
		return "", false, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err = pub.Builder.Build(ctx, p.Spec, build.Hooks{Anew: true, Recall: func(ctx context.Context, of ocispec.Platform, asked string) (v1.Layer, error) {
		_, err := pub.Records.Recall(ctx, of, asked)
		key, recorded = asked, err == nil
		cancel(errOnlyKey)
		return nil, errOnlyKey
	}})
	if errors.Is(err, errOnlyKey) {
		err = nil
	}
	return key, recorded, err
}

// inputsKind is the kind of the records of inputs in the cache, and inputsKey their key.
const inputsKind = "inputs"

func inputsKey(in map[string]string) string { return in["package"] + " " + in["platform"] }

// keepInputs keeps what the key of an image is made of, to say later what has changed.
func (pub *Publisher) keepInputs(img build.Image) {
	if img.Key != "" {
		_ = pub.Cache.Store(inputsKind, inputsKey(img.Inputs), withoutSecrets(img.Inputs)) // lost: less can be said
	}
}

// withoutSecrets returns inputs with the digests of those that may hold a secret.
func withoutSecrets(in map[string]string) map[string]string {
	kept := maps.Clone(in)
	for _, name := range []string{"flags", "env"} {
		kept[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(in[name])))
	}
	return kept
}

// Changed returns the names of the inputs that differ from those of the last program that this
// machine compiled or recalled for the same package and platform, sorted. was has those, with
// digests of flags and variables. ok is false if there was none.
func (pub *Publisher) Changed(in map[string]string) (names []string, was map[string]string, ok bool) {
	if !pub.Cache.Load(inputsKind, inputsKey(in), &was) {
		return nil, nil, false
	}
	in = withoutSecrets(in)
	for name, value := range in {
		if was[name] != value {
			names = append(names, name)
		}
	}
	for name := range was {
		if _, still := in[name]; !still {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, was, true
}
