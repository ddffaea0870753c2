// Package smoke starts the program of an image on this machine, to see that it runs at all.
//
// A program that was never started can be for another machine, lack its loader, need a newer
// processor or panic in an init function. A test starts it once, in the file system of the
// image, without a network and without anything of the host, and compares how it ends.
//
// The program is untrusted, as far as its image is. On Linux it runs in namespaces of its own
// (user, mount, process, network, IPC, host name), with the files of the image as its root, as
// the user of the image and with limits. When the test ends, all of its processes end.
// Elsewhere, or where namespaces are not permitted, Docker or podman runs it.
package smoke

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The values of Runner.Mode.
const (
	Auto      = "auto"      // namespaces, else Docker or podman, else direct
	Namespace = "namespace" // Linux only
	Docker    = "docker"
	Podman    = "podman"
	Direct    = "direct" // without isolation, for static programs
)

// DefaultTimeout is the time within which a program must end.
const DefaultTimeout = 20 * time.Second

// A Test says what a program must do to pass. The zero Test starts it without further
// arguments, and wants it to end with exit code 0 within DefaultTimeout.
type Test struct {
	Args    []string      `json:"args,omitempty"`   // after those of the entrypoint, in place of cmd
	Expect  string        `json:"expect,omitempty"` // regular expression that the output must match
	Exit    int           `json:"exit,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Alive   time.Duration `json:"alive,omitempty"` // a program that still runs then passes: a server
}

// Check returns an error unless the test can be made.
func (t Test) Check() error {
	if _, err := regexp.Compile(t.Expect); err != nil {
		return hint.New(hint.Usage, "for example ^app v", "smoke: expect: %s", err)
	}
	if t.Alive > 0 && t.Timeout > 0 && t.Alive > t.Timeout {
		return hint.New(hint.Usage, "raise timeout, or lower alive", "smoke: alive %s is longer than timeout %s", t.Alive, t.Timeout)
	}
	return nil
}

// What became of a test.
const (
	Passed  = "passed"
	Skipped = "skipped" // the platform is in Runner.Skip
)

// A Result is the outcome of a test that did not fail.
type Result struct {
	Status string
	Took   time.Duration // of the run, 0 if it is remembered
}

// A Runner runs the tests of a run. The fields must not change after the first call. It is
// safe for concurrent use.
type Runner struct {
	Mode string
	// Dir returns an existing directory for the files of images, which the caller removes.
	Dir  func(context.Context) (string, error)
	Skip []ocispec.Platform
	// Cache remembers which images have passed; nil remembers none.
	Cache *cache.Cache
	Log   *slog.Logger

	once sync.Once
	mode string // how tests are run, never Auto
	ids  bool   // namespaces can have all ids, so that files have their owners
	err  error
}

// choose sets mode.
func (r *Runner) choose(ctx context.Context) (string, error) {
	r.once.Do(func() {
		r.mode = r.Mode
		switch r.Mode {
		case Direct:
			return
		case Docker, Podman:
			r.err = runtimeIs(ctx, r.Mode)
			return
		}
		dir, err := r.Dir(ctx)
		if err == nil {
			r.ids = os.Geteuid() == 0
			if err = probe(ctx, dir, r.ids); err != nil && r.ids {
				r.ids = false // root of a container with few ids
				err = probe(ctx, dir, false)
			}
		}
		switch {
		case err == nil:
			r.mode = Namespace
		case r.Mode == Namespace:
			r.err = &hint.Error{Kind: hint.Usage, Err: fmt.Errorf("smoke: namespaces cannot be used here: %w", err), Hint: "use --smoke=docker, --smoke=podman or --smoke=direct"}
		default:
			r.mode = Direct
			for _, mode := range []string{Docker, Podman} {
				if runtimeIs(ctx, mode) == nil {
					r.mode = mode
				}
			}
			r.Log.InfoContext(ctx, "smoke tests run with "+r.mode, "namespaces", err.Error())
		}
	})
	return r.mode, r.err
}

// How says where programs are started. It is called after Check.
func (r *Runner) How(ctx context.Context) string {
	mode, _ := r.choose(ctx) // Check has returned the error
	switch mode {
	case Namespace:
		return "in namespaces"
	case Direct:
		return "without isolation"
	}
	return "in " + mode
}

// runtimeIs returns an error unless Docker or podman is what runs containers here.
func runtimeIs(ctx context.Context, mode string) error {
	command, err := (local.Place{Form: local.FormDockerDaemon}).Command(ctx)
	if err != nil {
		return &hint.Error{Kind: hint.Usage, Err: fmt.Errorf("smoke: %w", err), Hint: "start Docker, or use --smoke=namespace or --smoke=direct"}
	}
	if command != mode {
		return hint.New(hint.Usage, "use --smoke="+command, "smoke: %s does not answer, %s does", mode, command)
	}
	return nil
}

// Check returns an error if this machine cannot run the programs of a platform that is not in
// Skip. It is called before anything is compiled.
func (r *Runner) Check(ctx context.Context, platforms []ocispec.Platform) error {
	var keys, left []string
	for _, p := range platforms {
		if r.skips(p) || slices.Contains(keys, platform.Key(p)) {
			continue
		}
		if why := unable(p); why != "" {
			keys, left = append(keys, platform.Key(p)), append(left, platform.Key(p)+" ("+why+")")
		}
	}
	if len(left) > 0 {
		way := "add --smoke-skip " + strings.Join(keys, ",")
		if strings.Contains(strings.Join(left, " "), notEmulated) {
			way = "install qemu-user-static and binfmt-support, or " + way
		}
		return hint.New(hint.Usage, way,
			"smoke: this machine cannot run %s", strings.Join(left, ", "))
	}
	_, err := r.choose(ctx)
	return err
}

// skips reports whether a platform is named in Skip.
func (r *Runner) skips(p ocispec.Platform) bool {
	return slices.ContainsFunc(r.Skip, func(s ocispec.Platform) bool { return platform.Key(s) == platform.Key(p) })
}

// kind is the kind of the records of tests that were passed.
const kind = "smoke"

// Run tests an image. A test that an image with this digest has passed before is not run
// again. If the program fails, the error has the last lines of its output.
func (r *Runner) Run(ctx context.Context, img v1.Image, p ocispec.Platform, t Test) (Result, error) {
	if r.skips(p) {
		r.Log.WarnContext(ctx, "the program is not started", "reason", "--smoke-skip")
		return Result{Status: Skipped}, nil
	}
	mode, err := r.choose(ctx)
	if err != nil {
		return Result{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Result{}, err
	}
	key := fmt.Sprintf("1 %s %s %q %q %d %s %s", digest, mode, t.Args, t.Expect, t.Exit, t.Timeout, t.Alive)
	var passed bool
	if r.Cache != nil && r.Cache.Load(kind, key, &passed) && passed {
		return Result{Status: Passed}, nil
	}
	began := time.Now()
	if err := r.run(ctx, mode, img, p, t); err != nil {
		return Result{}, err
	}
	took := time.Since(began)
	if r.Cache != nil {
		_ = r.Cache.Store(kind, key, true) // else it is run again
	}
	r.Log.InfoContext(ctx, "started and passed", "duration", took.Round(time.Millisecond))
	return Result{Status: Passed, Took: took}, nil
}

// run runs one test.
func (r *Runner) run(ctx context.Context, mode string, img v1.Image, p ocispec.Platform, t Test) error {
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	argv := slices.Concat(c.Config.Entrypoint, t.Args)
	if len(t.Args) == 0 {
		argv = slices.Concat(c.Config.Entrypoint, c.Config.Cmd)
	}
	if len(argv) == 0 {
		return errors.New("smoke: the image has no entrypoint")
	}
	if mode == Docker || mode == Podman {
		return judge(ctx, t, func(ctx context.Context, out *output) (ending, error) { return contain(ctx, mode, img, p, t, out) })
	}
	parent, err := r.Dir(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "smoke-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the caller removes parent
	root, err := unpack(ctx, img, dir, mode == Namespace && r.ids)
	if err != nil {
		return fmt.Errorf("smoke: files of the image: %w", err)
	}
	defer root.Close() //nolint:errcheck // was opened to read
	start, err := commandOf(root, c.Config, argv)
	if err != nil {
		return err
	}
	if err := matches(root, start.Argv[0], p); err != nil {
		return err
	}
	start.Root = dir
	return judge(ctx, t, func(ctx context.Context, out *output) (ending, error) {
		if mode == Direct {
			return direct(ctx, start, out)
		}
		return isolated(ctx, start, r.ids, out)
	})
}

// An ending is how a program ended.
type ending struct {
	Exit   int    `json:"exit"`
	Signal string `json:"signal,omitempty"`
	// Start is why the program did not start, and Setup why it could not be tried.
	Start string `json:"start,omitempty"`
	Setup string `json:"setup,omitempty"`
}

// judge runs a program and compares its end and its output with a test.
func judge(ctx context.Context, t Test, run func(context.Context, *output) (ending, error)) error {
	timeout := t.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	limit := timeout
	if t.Alive > 0 {
		limit = t.Alive
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := newOutput()
	end, err := run(inner, out)
	why, way := "", ""
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case inner.Err() != nil && t.Alive > 0: // it lives
	case inner.Err() != nil:
		why, way = fmt.Sprintf("it still ran after %s", timeout), "a server passes with --smoke-alive 2s"
	case err != nil:
		return fmt.Errorf("smoke: %w", err)
	case end.Setup != "":
		why, way = end.Setup, "try --smoke=docker or --smoke=direct"
	case end.Start != "":
		why, way = end.Start, "the program, or the loader that it names, is missing or cannot be executed"
	case end.Signal != "":
		why = "signal: " + end.Signal
		if strings.Contains(end.Signal, "illegal instruction") {
			way = "the program needs a newer processor than this machine or its emulator has: lower the variant of the platform"
		}
	case t.Alive > 0:
		why = fmt.Sprintf("exit code %d, before %s had passed", end.Exit, t.Alive)
	case end.Exit != t.Exit:
		why = fmt.Sprintf("exit code %d, want %d", end.Exit, t.Exit)
	}
	if why == "" && t.Expect != "" && !regexp.MustCompile(t.Expect).MatchString(out.first()) {
		why = fmt.Sprintf("the output does not match %q", t.Expect)
	}
	if why == "" {
		return nil
	}
	err = errors.New("smoke: " + why)
	if said := out.shown(); said != "" {
		err = fmt.Errorf("smoke: %s; its output:\n%s", why, said)
	}
	return &hint.Error{Err: err, Hint: way}
}

// The bounds of the output that is kept.
const (
	maxOutput = 64 << 10 // bytes that are compared with Test.Expect
	maxTail   = 4 << 10  // bytes at the end
	maxFirst  = 4        // lines at the beginning that an error shows, such as that of a panic
	maxLast   = 16       // lines at the end
	maxLine   = 200      // bytes of a line that an error shows
)

// An output keeps the beginning and the end of what a program prints, and drops the rest.
type output struct {
	mu   sync.Mutex
	head stream.Head
	tail stream.Tail
}

// newOutput returns an empty one.
func newOutput() *output {
	return &output{head: stream.Head{Max: maxOutput}, tail: stream.Tail{Max: maxTail}}
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.head.Write(p)
	return o.tail.Write(p)
}

func (o *output) first() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.head.String()
}

// shown returns the first and the last lines, indented and safe to print.
func (o *output) shown() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := strings.Split(strings.TrimSpace(o.head.String()), "\n")
	if o.head.Cut() { // the rest is longer, or dropped
		all = append(all[:min(len(all), maxFirst)], strings.Split(strings.TrimSpace(o.tail.String()), "\n")[1:]...)
	}
	if len(all) > maxFirst+maxLast {
		all = slices.Concat(all[:maxFirst], []string{"…"}, all[len(all)-maxLast:])
	}
	for i, line := range all {
		all[i] = strings.TrimRight("  "+text.Line(strings.TrimRight(line, "\r"), maxLine), " ")
	}
	return strings.TrimRight(strings.Join(all, "\n"), " \n")
}
