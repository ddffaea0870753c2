package build

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A goTask is a program that waits to be compiled for a platform. Tasks that need the same go
// command are done together: the first that gets a permit does those that wait, and the go
// command reads the packages that they share once. Their Builds are different ones.
type goTask struct {
	maker    *goMaker // after the package was found, the one of this package
	ctx      context.Context
	platform ocispec.Platform
	how      Compile
	begin    func()

	done   chan struct{} // closed when the fields below are final
	binary crosscompile.Binary
	unlock func() // of its path
	took   time.Duration
	err    error
}

// errAlone is the error of a task that has to be done alone.
var errAlone = errors.New("not compiled together with others")

// maxTogether bounds the programs of one go command: no layer is written before all are
// linked.
const maxTogether = 64

// together returns what tasks of one go command have in common, or "". The go command names
// the programs by their packages. Profiles and counters of coverage depend on which packages
// it is given.
func (t *goTask) together() string {
	main := t.maker.spec.goPackage().Main
	if t.how.Cgo || t.how.Cover || t.how.profiled() || main.Version != "" || t.maker.spec.goPackage().Debug {
		return ""
	}
	if t.how.Pgo != "off" {
		if !localPackage(main.ImportPath) {
			return ""
		}
		if _, err := os.Lstat(filepath.Join(main.Dir, main.ImportPath, "default.pgo")); !errors.Is(err, os.ErrNotExist) {
			return ""
		}
	}
	words := slices.Concat([]string{main.Dir, main.Module, platform.Key(target(t.platform))}, t.how.flags(), []string{""}, t.how.Env)
	return strings.Join(words, "\x00")
}

// localPackage reports whether a package is named by its directory.
func localPackage(name string) bool { return name == "." || strings.HasPrefix(name, "./") }

// run does the task, alone or together with others, and returns its error.
func (t *goTask) run(permit *permits.Permit) error {
	b := t.maker.Builder
	t.maker.goCache(t.ctx, t.platform, t.how) // fills it, before a permit is held
	if key := t.together(); key != "" {
		permit.Join(key, t.maker.spec.goPackage().Main.Name, t)
	}
	if err := permit.Wait(t.ctx); err != nil {
		// From now on no other task takes this one.
		if permit.Release(); !permit.Taken() {
			return err
		}
	}
	if !permit.Taken() {
		tasks := []*goTask{t}
		for _, other := range permit.Others(maxTogether - 1) {
			tasks = append(tasks, other.(*goTask))
		}
		if len(tasks) == 1 {
			t.begin()
			return t.alone()
		}
		compileTogether(t.ctx, tasks)
	}
	// Its path is locked until the go command has ended, even if its context ends before.
	<-t.done
	if !errors.Is(t.err, errAlone) {
		return t.err
	}
	if permit.Taken() {
		permit = b.permits.Reserve(t.maker.expected(t.platform))[0]
		defer permit.Release()
		if err := permit.Wait(t.ctx); err != nil {
			return err
		}
	}
	return t.alone()
}

// alone compiles with a go command of its own.
func (t *goTask) alone() (err error) {
	if t.maker.foreseen() {
		if done, err := t.ahead(); done {
			return err
		}
	}
	found, err := t.maker.finding(t.ctx)
	if err != nil {
		return err
	}
	t.maker = found
	found.list(t.how).stable()
	start := time.Now()
	t.binary, t.unlock, err = found.compile(t.ctx, t.platform, t.how)
	t.took = time.Since(start)
	return err
}

// errForeseen is the error of a package, or of settings, that are not those that were foreseen.
var errForeseen = errors.New("the go command has found another package or other settings than before")

// confirm asks for the package and the settings, and returns an error if they are not those of the
// maker.
func (t *goTask) confirm(ctx context.Context) error {
	main := t.maker.spec.goPackage().Main
	found, err := t.maker.finding(ctx)
	if err == nil && found.spec.goPackage().Main != main {
		err = errForeseen
	}
	if expected := t.maker.sources.settings; err == nil && expected != nil {
		is, serr := t.maker.goc.Settings(ctx, main.Dir)
		if err = serr; err == nil && !maps.Equal(is, expected) {
			err = errForeseen
		}
	}
	return err
}

// ahead compiles the package that is foreseen, and asks for it meanwhile. If it is another one,
// it reports false, and nothing is compiled.
func (t *goTask) ahead() (done bool, err error) {
	asked := make(chan error, 1)
	go func() { asked <- guard.Do(func() error { return t.confirm(t.ctx) }) }()
	t.maker.list(t.how).stable()
	start := time.Now()
	ahead := *t.maker
	ahead.earlier = t.maker.sources.settings
	binary, unlock, err := ahead.compile(t.ctx, t.platform, t.how)
	took := time.Since(start)
	refused := <-asked
	if err == nil && refused != nil {
		unlock()
	}
	if errors.Is(refused, errForeseen) {
		return false, nil
	}
	if err := cmp.Or(refused, err); err != nil {
		return true, err
	}
	t.binary, t.unlock, t.took = binary, unlock, took
	return true, nil
}

// compileTogether compiles several tasks by one go command. It goes on while the context of
// one of them has not ended. If it fails, each is compiled alone, which tells which ones
// fail. values has the values of the context, and not its end.
func compileTogether(values context.Context, tasks []*goTask) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(values))
	defer stop(nil)
	left := atomic.Int32{}
	left.Store(int32(len(tasks))) //nolint:gosec // bounded by maxTogether
	for _, t := range tasks {
		t.begin()
		t.err = errAlone
		defer close(t.done)
		defer context.AfterFunc(t.ctx, func() {
			if left.Add(-1) == 0 {
				stop(context.Cause(t.ctx))
			}
		})()
	}
	err := guard.Do(func() error { return tryTogether(ctx, tasks) })
	if err != nil {
		tasks[0].maker.log.DebugContext(ctx, "compiling each program alone: "+err.Error())
	}
	for _, t := range tasks {
		switch {
		case t.ctx.Err() != nil && t.err == nil:
			t.unlock()
			t.err = context.Cause(t.ctx)
		case t.ctx.Err() != nil:
			t.err = context.Cause(t.ctx)
		case err != nil && t.err == nil:
			t.unlock()
			t.err = errAlone
		}
	}
}

// tryTogether is compileTogether without what follows an error. A task that succeeds has a
// path that is locked, and no error.
func tryTogether(ctx context.Context, tasks []*goTask) error {
	b := tasks[0].maker.Builder
	var group, beside errgroup.Group
	beside.SetLimit(permits.Processes(b.permits.AtOnce()))
	group.SetLimit(permits.Processes(b.permits.AtOnce()))
	var foreseen []*goTask
	for _, t := range tasks {
		if t.maker.foreseen() {
			foreseen = append(foreseen, t)
			t.maker.list(t.how).stable()
			continue
		}
		group.Go(func() error {
			found, err := t.maker.finding(ctx)
			if err == nil {
				t.maker = found
				found.list(t.how).stable()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// All who take several locks take them in this order.
	slices.SortFunc(tasks, func(a, b *goTask) int { return cmp.Compare(a.outKey(), b.outKey()) })
	requests, sources := make([]crosscompile.Request, len(tasks)), false
	for i, t := range tasks {
		out, unlock, err := t.maker.out(ctx, t.platform, t.how)
		if err != nil {
			return err
		}
		t.unlock, t.err = unlock, nil
		requests[i] = t.maker.request(ctx, t.platform, t.how, out, b.permits.Share())
		if slices.Contains(foreseen, t) {
			requests[i].Expected = t.maker.sources.settings
		}
		sources = sources || requests[i].Sources
	}
	requests[0].Sources = sources
	start := time.Now()
	asked := make(chan error, 1)
	go func() {
		for _, t := range foreseen {
			beside.Go(func() error { return guard.Do(func() error { return t.confirm(ctx) }) })
		}
		asked <- beside.Wait()
	}()
	list, err := b.goc.CompileAll(ctx, requests)
	err = cmp.Or(<-asked, err)
	for i, t := range tasks {
		if err == nil {
			t.binary, t.took = list[i], time.Since(start)/time.Duration(len(tasks))
		}
	}
	return err
}

// outKey is that of the maker, or "".
func (t *goTask) outKey() string {
	key, _ := t.maker.outKey(t.platform, t.how) // without a key, out fails
	return key
}
