package build

import (
	"context"
	"debug/buildinfo"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// A Program says what the program of an image is. It is a [GoPackage] or a [Prebuilt], or a
// pointer to one, of which [Spec.Validate] makes a value.
type Program interface {
	// validate checks the fields and joins all errors.
	validate() error
	// overridden returns the keys of the platforms that have settings of their own.
	overridden() []string
	// templates joins the errors of the templates in the settings.
	templates(v Vars) error
	// maker returns what makes the program of s for b. The program of s is the receiver.
	maker(b *Builder, s Spec) maker
}

// plainProgram returns a program as a value: nil is the Go package in [Spec.Dir], and a
// pointer becomes what it points to.
func plainProgram(p Program) Program {
	switch p := p.(type) {
	case nil:
		return GoPackage{}
	case *GoPackage:
		if p == nil {
			return GoPackage{}
		}
		return *p
	case *Prebuilt:
		if p != nil {
			return *p
		}
		return Prebuilt{}
	}
	return p
}

// A maker makes the program of one Spec. Each kind of program has its own maker, and only
// the maker knows how programs of this kind are found and made.
//
// The methods up to prepare are called one after another, find first. The others are called
// after that, by several goroutines at once.
type maker interface {
	// find looks for the program, and returns the Spec with what it found.
	find(ctx context.Context) (Spec, error)
	// remember keeps what find has found. The maker of the Spec that find returned uses it.
	remember()
	// supports returns an error if the program cannot be made for p. p is not built.
	supports(ctx context.Context, p ocispec.Platform) error
	// name returns what decides which platforms there are, for errors.
	name() string
	// verb names the step that makes a program, and the state of a platform during it.
	verb() (step, state string)
	// platforms returns those of list that the program can be made for. The log names the
	// others. With nil it returns all platforms that there are.
	platforms(ctx context.Context, list []ocispec.Platform) ([]ocispec.Platform, error)
	// check returns an error if the Spec contradicts itself, or if the program cannot be
	// made for one of list.
	check(ctx context.Context, list []ocispec.Platform) error
	// prepare finds what the program is made with for list, such as compilers.
	prepare(ctx context.Context, list []ocispec.Platform) error

	// key identifies the program for p. Platforms with the same key have the same program.
	key(p ocispec.Platform) (string, error)
	// linked reports whether the program for p may require libraries of its base.
	linked(p ocispec.Platform) bool
	// expected returns how long it probably takes to make the program for p.
	expected(p ocispec.Platform) time.Duration
	// recorded returns the program for p if it is known without making it.
	recorded(p ocispec.Platform) (unchanged.Program, bool)
	// make waits for the permit, calls begin, makes the program for p, and sets the fields of s
	// that describe it.
	make(ctx context.Context, p ocispec.Platform, permit *permits.Permit, begin func(), s *shared) error
	// remake makes a recorded program, and calls use if it has the recorded content. The
	// file does not change while use runs. It waits for a permit, so the caller must hold
	// none.
	remake(ctx context.Context, p ocispec.Platform, known unchanged.Program, use func(crosscompile.Binary, layerfile.Entry) error) error
	// source names what the program for p is made from, the same on all machines. It is ""
	// if there is no such name.
	source(p ocispec.Platform) string
	// inputs describes what source is made of, by name, or says why there is none.
	inputs(p ocispec.Platform) (list map[string]string, reason string)
	// ready does what find, check and prepare have put off, once. Only making a program
	// needs it.
	ready(ctx context.Context) error
	// checkProgram checks that a file is the program for p, as far as the file shows it.
	checkProgram(p ocispec.Platform, file string) (*buildinfo.BuildInfo, error)
	// proved reports whether it is certain that the program that was just made for p is
	// made from what source names. It is called after all programs were made.
	proved(p ocispec.Platform) bool
	// prove returns what source returns, if it is certain that the recorded program for p is made
	// from it, and remembers that. It may run the go command, for which it waits for a permit,
	// and compiles nothing. It is called after all programs were made.
	prove(ctx context.Context, p ocispec.Platform) string
	// extras makes what the image for p has beside the program, and sets step if there is
	// any. Its files can be read until unlock.
	extras(ctx context.Context, p ocispec.Platform, step *string) (list []placement.Part, unlock func(), err error)
	// config returns c with what the program for p requires of the configuration.
	config(p ocispec.Platform, c Config) Config
	// finish is called once, after all platforms. It stores what helps the next build.
	finish(succeeded bool)
}

// A shared is a program that is made once for all images that contain it. Only images
// for several versions of Windows share a program; all others are the only user of
// theirs.
//
// The image that sets claimed makes the program and writes the fields; the others read
// them after done is closed. The file is locked until the last user has written its layer.
type shared struct {
	claimed atomic.Bool   // set by the image that makes it
	done    chan struct{} // closed when the fields below are final
	binary  crosscompile.Binary
	lent    bool // see Image
	took    time.Duration
	entry   layerfile.Entry
	linkage elf.Linkage // what the program needs from its base
	static  string      // the setting by which it must need nothing; "": none
	err     error

	unlock func()       // of the file; nil: not locked
	users  atomic.Int32 // images that may still need the file
}

// share finds the images that contain the same program.
func (r *buildRun) share(list []PlannedBase) {
	r.programs = map[string]*shared{}
	for _, base := range list {
		key, err := r.maker.key(base.Platform)
		if err != nil {
			continue // its platform reports the error
		}
		if r.programs[key] == nil {
			r.programs[key] = &shared{done: make(chan struct{})}
		}
		r.programs[key].users.Add(1)
	}
}

// release is called once by each user, when its layer is written or it has failed. The
// last call unlocks the path.
func (s *shared) release() {
	if s.users.Add(-1) == 0 && s.unlock != nil {
		s.unlock()
	}
}

// programEntry returns the entry of a program that is in a file, and hashes the file.
func programEntry(s Spec, p ocispec.Platform, file string) (layerfile.Entry, error) {
	return layerfile.File(entryName(s, p), programMode, file)
}

// programMode is the mode of every program in an image.
const programMode = 0o755

// entryName returns the name of the program in its layer, which has slashes and no drive
// letter, also for Windows.
func entryName(s Spec, p ocispec.Platform) string {
	at := programPath(s, p)
	if p.OS == "windows" {
		at = strings.ReplaceAll(strings.TrimPrefix(at, "C:"), `\`, "/")
	}
	return rootfs.Clean(at)
}
