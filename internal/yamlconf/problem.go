package yamlconf

import (
	"errors"
	"fmt"
	"strconv"
)

// An OriginKind is the kind of source that a value came from.
type OriginKind int

// The kinds of sources, in the order of precedence: each beats those before it. The order
// of the constants is relied on (how.Kind >= FromEnv, [Sources]).
const (
	FromDefault OriginKind = iota
	FromUser               // the user's own file
	FromFile               // the file of the source tree
	FromEnv
	FromFlag
)

// An Origin identifies the source of a value.
type Origin struct {
	Kind OriginKind
	Name string // of the file, variable or flag; "" for a default
	Line int    // in the file, from 1; 0 if not known
}

// String returns "default", ".mabuild.yaml:3", "env MABUILD_REPO" or "flag --tag".
func (o Origin) String() string {
	switch {
	case (o.Kind == FromFile || o.Kind == FromUser) && o.Line > 0:
		return o.Name + ":" + strconv.Itoa(o.Line)
	case o.Kind == FromFile || o.Kind == FromUser:
		return o.Name
	case o.Kind == FromEnv:
		return "env " + o.Name
	case o.Kind == FromFlag:
		return "flag --" + o.Name
	}
	return "default"
}

// A Problem is one error in the configuration, with its origin. It implements error.
type Problem struct {
	Origin Origin
	Key    string // dotted path of the key, may be empty
	Err    error
}

// InFile returns the problem of a key in a line of a file. The line may be 0 and the key
// empty, if they are not known.
func InFile(file string, line int, key string, err error) *Problem {
	return &Problem{Origin: Origin{Kind: FromFile, Name: file, Line: line}, Key: key, Err: err}
}

// Error returns "ORIGIN: KEY: error". The key is omitted for flags and variables, whose
// origin already names it. Keys and values of the file are shortened and printable.
func (p *Problem) Error() string {
	where := p.Origin.String()
	if key := Shorten(p.Key); key != "" && (p.Origin.Kind == FromFile || p.Origin.Kind == FromUser) {
		where += ": " + key
	}
	return where + ": " + p.Err.Error()
}

// Unwrap returns the error without its origin.
func (p *Problem) Unwrap() error { return p.Err }

// Join joins the problems of a file. After the first 20 it only counts them. It returns
// nil if there are none.
func Join(file string, problems []error) error {
	if extra := len(problems) - maxProblems; extra > 0 {
		return errors.Join(append(problems[:maxProblems:maxProblems], fmt.Errorf("%s: %d more errors", file, extra))...)
	}
	return errors.Join(problems...)
}
