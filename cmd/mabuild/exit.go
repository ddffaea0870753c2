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

// The exit codes are part of the interface of the command line (docs/cli.md). A script
// can rely on them, so a new error type gets one of these.
const (
	exitBuild       = 1 // the build failed, or an image lacks a platform of --require
	exitUsage       = 2 // usage or configuration
	exitCredentials = 3
	exitRegistry    = 4 // registry or network, after retries
	exitContent     = 5 // content contradicts its digest or descriptor
	exitPartly      = 6 // some targets are complete, others failed
)

// A usageError is a mistake in the command line or the configuration. way is the hint; it
// may be empty.
type usageError struct {
	err error
	way string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) Hint() string  { return e.way }

// usage returns a usageError with a hint. The message names what is wrong, the hint what
// to do.
func usage(way, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), way: way}
}

// A partialError is returned if some targets are complete and others failed. A script
// that retries can tell this from a run that changed nothing.
type partialError struct{ error }

// Unwrap returns the joined errors of the targets that failed.
func (e partialError) Unwrap() error { return e.error }

// exitCode returns the exit code of an error. If several errors are joined, it is that of
// the first, which does not depend on timing since errors are joined in the order of
// arguments.
func exitCode(err error) int {
	if as[partialError](err) {
		return exitPartly
	}
	if _, ok := err.(*usageError); ok { //nolint:errorlint // whatever it holds
		return exitUsage
	}
	return exitCodeOf(parts(err)[0])
}

// exitCodeOf maps the type of a single error to an exit code. An error chain may match
// several cases, so the order is that of usefulness: content that contradicts its digest,
// for example, comes before the registry that sent it.
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
		// A base image that does not exist is a mistake in the configuration.
		if as[*build.BaseError](err) && errors.Is(err, manifest.ErrNotFound) {
			return exitUsage
		}
		return exitRegistry
	case as[*build.BaseError](err):
		return exitUsage
	}
	return exitBuild
}

// isMissingSource reports whether an image to be copied does not exist. This is a mistake
// in the command line, while other answers of the registry are not.
func isMissingSource(err error) bool {
	return as[*mirror.SourceError](err) && errors.Is(err, manifest.ErrNotFound)
}

// isCredentials reports whether an error is about credentials: rejected by a registry,
// just entered, or stored in a file or helper that cannot be read.
func isCredentials(err error) bool {
	return errors.Is(err, registry.ErrCredentials) || as[*credentialError](err) || as[*authfile.FileError](err) || as[*authfile.HelperError](err)
}

// as reports whether the chain of err has an error of type T.
func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// report prints an error and its hint to w. Joined errors are printed one below the
// other, each with its own hint. Control characters are escaped, since parts of the text
// may come from a registry.
func report(w io.Writer, err error) {
	for _, e := range parts(err) {
		fmt.Fprintf(w, "mabuild: %s\n", plainLines(strings.TrimRight(e.Error(), "\n"))) //nolint:errcheck // last resort
		if way := hint(e); way != "" {
			fmt.Fprintf(w, "hint: %s\n", plainLines(way)) //nolint:errcheck // as above
		}
	}
}

// hint returns the first non-empty hint in the chain of err, from the outside in, or "".
// The outermost error is closest to the command and so has the most specific hint.
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

// parts returns the errors that are joined in err, or err alone. It also splits joins
// within joins, within a usageError and within a partialError.
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

// isJoin reports whether err is the result of errors.Join and not an error that wraps
// several with its own message. The type of errors.Join is not exported, so its message
// is compared.
func isJoin(err error, inner []error) bool {
	lines := make([]string, len(inner))
	for i, e := range inner {
		lines[i] = e.Error()
	}
	return err.Error() == strings.Join(lines, "\n")
}
