package build

import (
	"archive/tar"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/archive"
	"github.com/mabuild/mabuild/build/internal/filelist"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/build/internal/templates"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Prebuilt is a program that exists already, in a file for each platform. It may be
// written in any language. Its mode in the image is 0755, whatever that of the file.
//
// Each file must be an executable for its platform. A program that needs a loader or
// libraries must find them in its base image or among the files of the Spec.
type Prebuilt struct {
	// Path is the file of a platform, relative to Spec.Dir: a template that may use
	// {{.OS}}, {{.Arch}} and {{.Variant}}, in addition to [Vars]. For Windows, a file that
	// does not exist is looked for with .exe, too.
	Path string
	// Downloads has a URL for each platform, by [platform.Key], in place of Path, and SHA256
	// the content of each download, in hexadecimal digits.
	Downloads, SHA256 map[string]string
	// Program is the program in the file, if that is an archive or compressed: a glob such as
	// */app. With "" it is the only file. An archive is found by content, not by name.
	Program string
	// Files has the paths in the image of further files of the archive, by globs.
	Files map[string]string
	// OS and Arch replace Go's names of an operating system and an architecture in Path for
	// single platforms, by [platform.Key].
	OS, Arch map[string]string
	// Within is the directory that the files must be in, after links are followed; "":
	// they may be anywhere.
	Within string
}

// validate checks that there is a path, and those of the files.
func (p Prebuilt) validate() error {
	var errs []error
	if p.Path == "" && p.Downloads == nil {
		errs = append(errs, &SpecError{Field: "prebuilt", Reason: "has no path", Way: "for example path: dist/{{.OS}}_{{.Arch}}/app"})
	}
	for _, glob := range slices.Sorted(maps.Keys(p.Files)) {
		if err := filelist.Check(File{From: glob, To: p.Files[glob]}); err != nil {
			errs = append(errs, fmt.Errorf("prebuilt: %w", err))
		}
	}
	return errors.Join(errs...)
}

// overridden returns the keys of OS and Arch.
func (p Prebuilt) overridden() []string {
	return slices.AppendSeq(slices.Collect(maps.Keys(p.OS)), maps.Keys(p.Arch))
}

// templates tests the path with the values of one platform.
func (p Prebuilt) templates(v Vars) error {
	_, err := p.file(v, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	return err
}

// file returns the path of the file for a platform, with its template filled in.
func (p Prebuilt) file(v Vars, of ocispec.Platform) (string, error) {
	os, arch := of.OS, of.Architecture
	for _, key := range slices.Backward(keys(of)) { // the most specific last
		if name, ok := p.OS[key]; ok {
			os = name
		}
		if name, ok := p.Arch[key]; ok {
			arch = name
		}
	}
	file, err := templates.Path(templates.For(v, os, arch, of.Variant), p.Path)
	if err != nil {
		return "", fmt.Errorf("prebuilt: %w", err)
	}
	return file, nil
}

// A prebuiltMaker is the maker of a [Prebuilt]. It makes nothing: it finds the file, and
// checks that it fits.
type prebuiltMaker struct {
	*Builder
	spec Spec
	of   Prebuilt

	loaded sync.Map // functions that load a program once, by its platform
}

// A prebuiltProgram is what the file of a platform has.
type prebuiltProgram struct {
	path    string               // absolute
	shown   string               // the path in errors
	info    *buildinfo.BuildInfo // nil: not written in Go
	linkage elf.Linkage
	entry   layerfile.Entry
	files   []layerfile.Entry // of Prebuilt.Files
}

// maker returns a prebuiltMaker.
func (p Prebuilt) maker(b *Builder, s Spec) maker { return &prebuiltMaker{Builder: b, spec: s, of: p} }

// find has nothing to look for, but the program needs a name.
func (m *prebuiltMaker) find(context.Context) (Spec, error) {
	if m.spec.Name == "" {
		return m.spec, &SpecError{Field: "id", Reason: "a prebuilt program has no name of its own", Way: "set it"}
	}
	return m.spec, nil
}

// remember keeps nothing: a file is looked at again, since it may have changed.
func (*prebuiltMaker) remember() {}

// supports accepts every platform: whether there is a program is decided for those that are
// built.
func (*prebuiltMaker) supports(context.Context, ocispec.Platform) error { return nil }

// name is not used, since platforms lists none.
func (*prebuiltMaker) name() string { return "the prebuilt program" }

// verb returns what is done with a file.
func (*prebuiltMaker) verb() (step, state string) { return "read", "reading" }

// platforms fails: which programs there should be is not known.
func (*prebuiltMaker) platforms(context.Context, []ocispec.Platform) ([]ocispec.Platform, error) {
	return nil, &SpecError{Field: "platforms", Reason: "all cannot be used with a prebuilt program: a missing file would not be noticed", Way: "list the platforms"}
}

// check reads the programs of all platforms, and joins what is wrong with any of them.
// Downloads run at the same time.
func (m *prebuiltMaker) check(ctx context.Context, list []ocispec.Platform) error {
	if m.spec.All {
		_, err := m.platforms(ctx, nil)
		return err
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() {
			_, errs[i] = m.load(p, func() (*prebuiltProgram, error) { return m.readFor(ctx, p) })
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// prepare has nothing to do.
func (*prebuiltMaker) prepare(context.Context, []ocispec.Platform) error { return nil }

// key is the platform: a file that serves several platforms must fit each of them.
func (m *prebuiltMaker) key(p ocispec.Platform) (string, error) { return platform.Key(target(p)), nil }

// linked reports whether the program requires a loader.
func (m *prebuiltMaker) linked(p ocispec.Platform) bool {
	program, err := m.program(p)
	return err == nil && program.linkage.Interpreter != ""
}

// expected returns no time: nothing is compiled.
func (*prebuiltMaker) expected(ocispec.Platform) time.Duration { return 0 }

// recorded returns the program by the content of its file. One that requires a loader is
// compared with its base in every build, and a record has the program alone, so these are
// made instead.
func (m *prebuiltMaker) recorded(p ocispec.Platform) (unchanged.Program, bool) {
	program, err := m.program(p)
	if err != nil || program.linkage.Interpreter != "" || len(program.files) > 0 {
		return unchanged.Program{}, false
	}
	return unchanged.Program{Content: program.entry.Content, Size: program.entry.Size}, true
}

// make reads the program.
func (m *prebuiltMaker) make(ctx context.Context, p ocispec.Platform, permit *permits.Permit, begin func(), s *shared) error {
	if err := permit.Wait(ctx); err != nil {
		return err
	}
	begin()
	program, err := m.program(p)
	if err != nil {
		return err
	}
	s.binary = crosscompile.Binary{Path: program.path, Info: program.info}
	s.entry, s.linkage = program.entry, program.linkage
	return nil
}

// remake uses the file again. Its content is compared while it is read.
func (m *prebuiltMaker) remake(_ context.Context, p ocispec.Platform, _ unchanged.Program, use func(crosscompile.Binary, layerfile.Entry) error) error {
	program, err := m.program(p)
	if err != nil {
		return err
	}
	return use(crosscompile.Binary{Path: program.path, Info: program.info}, program.entry)
}

// source has no name: a file comes from nowhere.
func (*prebuiltMaker) source(ocispec.Platform) string { return "" }

// inputs says so.
func (*prebuiltMaker) inputs(ocispec.Platform) (list map[string]string, reason string) {
	return nil, "the program is prebuilt"
}

// ready has nothing to do.
func (*prebuiltMaker) ready(context.Context) error { return nil }

// checkProgram is not called, since source has no name.
func (*prebuiltMaker) checkProgram(ocispec.Platform, string) (*buildinfo.BuildInfo, error) {
	return nil, errors.ErrUnsupported
}

// proved is false, since source has no name.
func (*prebuiltMaker) proved(ocispec.Platform) bool { return false }

// prove has nothing to prove either.
func (*prebuiltMaker) prove(context.Context, ocispec.Platform) string { return "" }

// extras adds the further files of an archive.
func (m *prebuiltMaker) extras(_ context.Context, p ocispec.Platform, _ *string) (list []placement.Part, unlock func(), err error) {
	program, err := m.program(p)
	if err != nil {
		return nil, nil, err
	}
	return []placement.Part{{Comment: "files of the archive", Entries: program.files}}, func() {}, nil
}

// config changes nothing.
func (*prebuiltMaker) config(_ ocispec.Platform, c Config) Config { return c }

// finish has nothing to store.
func (*prebuiltMaker) finish(bool) {}

// load returns what read returns for p, and calls it once.
func (m *prebuiltMaker) load(p ocispec.Platform, read func() (*prebuiltProgram, error)) (*prebuiltProgram, error) {
	once, _ := m.loaded.LoadOrStore(platform.Key(target(p)), sync.OnceValues(read))
	return once.(func() (*prebuiltProgram, error))() //nolint:forcetypeassert // see above
}

// program returns the program for p, which check has read.
func (m *prebuiltMaker) program(p ocispec.Platform) (*prebuiltProgram, error) {
	return m.load(p, func() (*prebuiltProgram, error) {
		return nil, fmt.Errorf("%s was not checked", platform.Key(p)) // cannot happen
	})
}

// readFor reads the program for p. Its errors name the platform and the file.
func (m *prebuiltMaker) readFor(ctx context.Context, p ocispec.Platform) (*prebuiltProgram, error) {
	if m.of.Downloads != nil {
		return m.downloaded(ctx, p)
	}
	program, f, err := m.open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if archive.Is(f) || m.of.Program != "" || len(m.of.Files) > 0 {
		err = m.unpackFile(f, p, program)
	} else if err = program.read(f, p); err == nil {
		err = m.hash(f, p, program)
	}
	err = prebuiltError(p, program.shown, err)
	if e := (*SpecError)(nil); errors.As(err, &e) && e.Way == "" && !strings.Contains(m.of.Path+m.of.Program, "{{") {
		e.Way = "a path with {{.OS}} and {{.Arch}} names a file for each platform; platforms selects those that there are"
	}
	return program, err
}

// read reads the header of the program. The file may be anything, and the parsers of Go's
// library are not made for that, so a panic of theirs is an error.
func (program *prebuiltProgram) read(f io.ReaderAt, p ocispec.Platform) error {
	return guard.Do(func() (err error) {
		if program.info, err = crosscompile.Verify(f, p); err == nil {
			program.linkage, err = elf.ReadLinkage(f)
		}
		return err
	})
}

// hash makes the entry of the program. The layer opens the file again, and fails if its
// content is another one by then.
func (m *prebuiltMaker) hash(f *os.File, p ocispec.Platform, program *prebuiltProgram) error {
	is, err := m.records.Content(program.path, f)
	path := program.path
	program.entry = programFile(m.spec, p, is, func() (io.ReadCloser, error) { return m.of.open(path) })
	return err
}

// programFile returns the entry of a program that open opens.
func programFile(s Spec, p ocispec.Platform, is unchanged.Program, open func() (io.ReadCloser, error)) layerfile.Entry {
	return layerfile.Entry{Name: entryName(s, p), Kind: tar.TypeReg, Mode: programMode, Size: is.Size, Content: is.Content, Open: open}
}

// open opens the file for p.
func (m *prebuiltMaker) open(p ocispec.Platform) (*prebuiltProgram, *os.File, error) {
	name, err := m.of.file(m.spec.Vars, p)
	if err != nil {
		return nil, nil, err
	}
	shown := name // in errors
	if !filepath.IsAbs(name) {
		shown = filepath.Join(m.spec.Dir, filepath.FromSlash(name))
	}
	path, err := filepath.Abs(shown)
	if err != nil {
		return nil, nil, err
	}
	f, err := m.of.open(path)
	if errors.Is(err, fs.ErrNotExist) && p.OS == "windows" {
		if exe, err := m.of.open(path + ".exe"); err == nil {
			return &prebuiltProgram{path: path + ".exe", shown: shown + ".exe"}, exe, nil
		}
	}
	if err != nil {
		return nil, nil, prebuiltError(p, shown, err)
	}
	return &prebuiltProgram{path: path, shown: shown}, f, nil
}

// open opens a regular file that is not empty, and none outside of Within.
func (p Prebuilt) open(path string) (*os.File, error) {
	f, err := p.openAny(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err == nil && !info.Mode().IsRegular():
		err = intree.ErrIrregular
	case err == nil && info.Size() == 0:
		err = hint.New(hint.Usage, "the build that should have written it has probably failed", "is empty")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openAny opens a file or directory, and does not wait for the writer of a pipe.
func (p Prebuilt) openAny(path string) (*os.File, error) {
	if p.Within == "" {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return nil, intree.ErrIrregular
		}
		return os.Open(path)
	}
	tree, err := intree.New(p.Within)
	if err != nil {
		return nil, err
	}
	defer tree.Close() //nolint:errcheck // was opened to read
	return tree.Open(path)
}

// prebuiltError returns the error of a program that cannot be used, with a hint if the
// cause is known.
func prebuiltError(p ocispec.Platform, path string, err error) error {
	if err == nil {
		return nil
	}
	e := &SpecError{Field: "prebuilt", Err: err, Way: hint.Of(err)}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // its path is that of the message
		err = pe.Err
	}
	says := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		says, e.Way = "does not exist", "build the program first, or correct the path"
	case errors.Is(err, intree.ErrOutside):
		e.Way = "copy the file into the build's directory, or use --prebuilt"
	}
	e.Reason = fmt.Sprintf("%s: %s: %s", platform.Key(p), path, says)
	return e
}
