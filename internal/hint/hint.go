// Package hint has the error of mabuild that carries what the user can do about it, and
// the kinds of errors that give a command its exit code.
//
// An error that a caller asks for by type keeps a type of its own. It may have a method
// Hint() string, and its method Is names its kind.
package hint

import (
	"errors"
	"fmt"
)

// A Kind says whose error it is. It is an error itself, so that [errors.Is] finds it in
// the chain of another one.
type Kind int

// The kinds. Build is the kind of every error that has no other one.
const (
	Build       Kind = iota
	Usage            // the command line, the configuration, or what they name
	Content          // content contradicts its digest or claim
	Credentials      // missing, wrong or unreadable credentials
	Registry         // a registry or the network
)

func (k Kind) Error() string {
	return [...]string{"build error", "usage error", "content error", "credentials error", "registry error"}[k]
}

// An Error is an error that no caller needs to find by its type.
type Error struct {
	Kind Kind
	Err  error
	Hint string // what the user can do, may be empty
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// New formats an error with a hint, which may be empty.
func New(kind Kind, hint, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
}

// Of returns the outermost hint in err's tree, or "". For an error without a hint of its
// own, the functions in words are asked.
func Of(err error, words ...func(error) string) string {
	if err == nil {
		return ""
	}
	if text := own(err); text != "" {
		return text
	}
	for _, word := range words {
		if text := word(err); text != "" {
			return text
		}
	}
	switch e := err.(type) { //nolint:errorlint // one layer after the other
	case interface{ Unwrap() error }:
		return Of(e.Unwrap(), words...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if text := Of(inner, words...); text != "" {
				return text
			}
		}
	}
	return ""
}

// own returns the hint of err alone.
func own(err error) string {
	switch e := err.(type) { //nolint:errorlint // this layer
	case *Error:
		return e.Hint
	case interface{ Hint() string }:
		return e.Hint()
	}
	return ""
}

// KindOf returns the kind of err. If several kinds are in its tree, content comes before
// credentials, usage and registry.
func KindOf(err error) Kind {
	for _, kind := range []Kind{Content, Credentials, Usage, Registry} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return Build
}
