// Package specerr has the error of a wrong Spec, which several packages of a build return.
package specerr

import "github.com/mabuild/mabuild/internal/hint"

// An Error says what is wrong in a Spec, either by itself or together with the files and
// base images that it names.
type Error struct {
	Field  string // as in .mabuild.yaml
	Reason string
	Way    string
	Want   string // a value that the field can have, may be empty
	Err    error  // the cause, may be nil
}

func (e *Error) Error() string { return e.Field + ": " + e.Reason }
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the kind of the error.
func (*Error) Is(target error) bool { return target == hint.Usage }

// Hint returns what the user can do.
func (e *Error) Hint() string { return e.Way }
