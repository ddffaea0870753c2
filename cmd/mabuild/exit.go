package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/authfile"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Exit codes, as docs/cli.md promises them.
const (
	exitBuild       = 1 // the build, or a --require, did not hold
	exitUsage       = 2 // usage or configuration
	exitCredentials = 3
	exitRegistry    = 4 // registry or network, after retries
	exitContent     = 5 // content contradicts its digest or claim
	exitPartly      = 6 // at least one target whole and one not
)

// A usageError is a mistake in the command line or the configuration.
type usageError struct {
	err error
	way string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) Hint() string  { return e.way }

// usage words a mistake in the command line, with the way out.
func usage(way, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), way: way}
}

// partialError is returned when some programs were published and others were not.
type partialError struct{ error }

func (e partialError) Unwrap() error { return e.error }

// exitCode gives an error its exit code; where all of several failed, the
// first's.
func exitCode(err error) int {
	if as[partialError](err) {
		return exitPartly
	}
	if _, ok := err.(*usageError); ok { //nolint:errorlint // whatever it holds
		return exitUsage
	}
	return exitCodeOf(parts(err)[0])
}

// exitCodeOf looks first for what says most about the way out.
func exitCodeOf(err error) int {
	var (
		usage    *usageError
		registry *registry.Error
	)
	switch {
	case as[*requirementError](err):
		return exitBuild
	case errors.Is(err, manifest.ErrMismatch), as[*rootfs.LayerError](err):
		return exitContent
	case isCredentials(err):
		return exitCredentials
	case errors.As(err, &usage), as[*crosscompile.CompilerError](err), as[*build.SpecError](err), as[*platform.ParseError](err),
		as[*crosscompile.TargetError](err), as[*build.DebuggerError](err), as[*name.ErrBadName](err), as[*crosscompile.VariantError](err), as[*crosscompile.PackageError](err),
		as[*manifest.AssemblyError](err), as[*local.FormatError](err), as[*local.SeveralError](err), as[*mirror.TemplateError](err), as[*mirror.CollisionError](err), isMissingSource(err):
		return exitUsage
	case errors.Is(err, manifest.ErrObsolete):
		return exitRegistry
	case errors.As(err, &registry):
		if as[*build.BaseError](err) && errors.Is(err, manifest.ErrNotFound) {
			return exitUsage
		}
		return exitRegistry
	case as[*build.BaseError](err):
		return exitUsage
	}
	return exitBuild
}

// isMissingSource reports whether what was to be copied does not exist.
func isMissingSource(err error) bool {
	return as[*mirror.SourceError](err) && errors.Is(err, manifest.ErrNotFound)
}

func isCredentials(err error) bool {
	return errors.Is(err, registry.ErrCredentials) || as[*credentialError](err) || as[*authfile.FileError](err) || as[*authfile.HelperError](err)
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// report prints an error, joined ones one below the other, and the ways out.
func report(w io.Writer, err error) {
	for _, e := range parts(err) {
		fmt.Fprintf(w, "mabuild: %s\n", plainLines(strings.TrimRight(e.Error(), "\n"))) //nolint:errcheck // nobody is left to tell
		if way := hint(e); way != "" {
			fmt.Fprintf(w, "hint: %s\n", plainLines(way)) //nolint:errcheck // as above
		}
	}
}

// hint returns the outermost way out that an error or what it wraps knows.
func hint(err error) string {
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		return h.Hint()
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		return hint(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if way := hint(inner); way != "" {
				return way
			}
		}
	}
	return ""
}

// parts takes joined errors apart.
func parts(err error) []error {
	if usage, ok := err.(*usageError); ok { //nolint:errorlint // the outermost alone
		if list := parts(usage.err); len(list) > 1 {
			return list
		}
		return []error{err}
	}
	if p, ok := err.(partialError); ok { //nolint:errorlint // its own outermost layer
		return parts(p.error)
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok || !isJoin(err, several.Unwrap()) {
		return []error{err}
	}
	var list []error
	for _, e := range several.Unwrap() {
		list = append(list, parts(e)...)
	}
	return list
}

// isJoin tells the errors of errors.Join, which stand side by side, from one that
// wraps several and has words of its own.
func isJoin(err error, inner []error) bool {
	lines := make([]string, len(inner))
	for i, e := range inner {
		lines[i] = e.Error()
	}
	return err.Error() == strings.Join(lines, "\n")
}
