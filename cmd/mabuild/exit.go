package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/manifest/platform"
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

// usage makes an error about a mistake in the command line or the configuration. way is the hint; it
// may be empty.
func usage(way, format string, args ...any) error { return hint.New(hint.Usage, way, format, args...) }

// invalid makes err one about a mistake in the command line or the configuration.
func invalid(err error) error { return &hint.Error{Kind: hint.Usage, Err: err} }

// noFile is [invalid] for the error of reading a file that the command line names: way is
// the hint if there is no such file.
func noFile(file, way string, err error) error {
	if _, absent := os.Stat(file); file != "" && errors.Is(err, fs.ErrNotExist) && errors.Is(absent, fs.ErrNotExist) {
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: way}
	}
	return invalid(err)
}

// exitCode gives an error its exit code. If several failed and none succeeded, the code is
// that of the first.
func exitCode(err error) int {
	if p := (*programError)(nil); errors.As(err, &p) {
		return p.code
	}
	if as[hint.PartialError](err) {
		return exitPartly
	}
	if e, ok := err.(*hint.Error); ok && e.Kind == hint.Usage { //nolint:errorlint // whatever it holds
		return exitUsage
	}
	switch kindOf(hint.Parts(err)[0]) {
	case hint.Usage:
		return exitUsage
	case hint.Content:
		return exitContent
	case hint.Credentials:
		return exitCredentials
	case hint.Registry:
		return exitRegistry
	default:
		return exitBuild
	}
}

// kindOf is [hint.KindOf], which does not know the names of go-containerregistry.
func kindOf(err error) hint.Kind {
	kind := hint.KindOf(err)
	if (kind == hint.Build || kind == hint.Registry) && as[*name.ErrBadName](err) {
		return hint.Usage
	}
	return kind
}

// as reports whether the chain of err has an error of type T.
func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// report prints an error and its hint to w. Joined errors are printed one below the
// other, each with its own hint; what several platforms have in common is printed once.
// Control characters are escaped, since parts of the text may come from a registry. typed
// has what the user wrote, for a hint about a name without a registry.
func report(w io.Writer, err error, typed ...string) {
	type message struct{ before, after, way string } // before and after the platform
	var all []message
	platforms := map[message][]string{}
	for _, e := range hint.Parts(err) {
		m := message{after: strings.TrimRight(e.Error(), "\n"), way: hintOf(e)}
		if hub := unqualified(e, typed); hub != "" {
			m.way = strings.TrimSuffix(hub+"\n"+m.way, "\n")
		}
		var of []string
		if one := (*build.PlatformError)(nil); errors.As(e, &one) {
			key := platform.Key(one.Platform)
			if before, after, ok := strings.Cut(m.after, key); ok {
				m.before, m.after, of = before, after, []string{key}
			}
		}
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
		platforms[m] = append(platforms[m], of...)
	}
	for _, m := range all {
		said := m.before + strings.Join(platforms[m], ", ") + m.after
		fmt.Fprintf(w, "%s %s\n", progress.Alarm(w, os.Getenv, "mabuild:"), plainLines(said)) //nolint:errcheck // last resort
		if m.way != "" {
			fmt.Fprintf(w, "hint: %s\n", plainLines(strings.ReplaceAll(m.way, "\n", "\nhint: "))) //nolint:errcheck // as above
		}
	}
}
