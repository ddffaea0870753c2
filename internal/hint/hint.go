// Package hint has the error of mabuild that carries what the user can do about it, and
// the kinds of errors that give a command its exit code.
//
// An error that a caller asks for by type keeps a type of its own. It may have a method
// Hint() string, and its method Is names its kind.
package hint

import (
	"errors"
	"fmt"
	"io"
	"reflect"
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

// A PartialError is returned if some targets are complete and others failed. A script
// that retries can tell this from a run that changed nothing.
type PartialError struct{ Err error }

func (e PartialError) Error() string { return e.Err.Error() }

// Unwrap returns the joined errors of the targets that failed.
func (e PartialError) Unwrap() error { return e.Err }

// Parts takes joined errors apart.
func Parts(err error) []error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // the outermost alone
		if list := Parts(e.Err); len(list) > 1 && e.Hint == "" {
			return list
		}
		return []error{err}
	}
	if p, ok := err.(PartialError); ok { //nolint:errorlint // its own outermost layer
		return Parts(p.Err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || reflect.TypeOf(err) != joinType {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, Parts(e)...)
	}
	return list
}

// joinType is the type of what [errors.Join] returns. Its errors stand side by side, while
// another error that wraps several has a text of its own.
var joinType = reflect.TypeOf(errors.Join(io.EOF))

// Named adds a name to each of the errors joined in err, so that each is
// printed with it.
func Named(name string, err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for _, e := range Parts(err) {
		errs = append(errs, fmt.Errorf("%s: %w", name, e))
	}
	return errors.Join(errs...)
}
