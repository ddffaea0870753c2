package serve

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"
)

// An Error is an error response of the distribution specification ("Error codes"). The
// client gets its message, so the message contains nothing about this machine, such as a
// path. As JSON it is an element of errors in the body of the response; detail is left
// out.
type Error struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns code and message, for the log.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// refuse returns an Error with a formatted message. Callers limit the length of what a
// client sent with a precision such as %.200q.
func refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// The functions below return the errors of one code each. nameInvalid is for a name that
// the specification does not allow.
func nameInvalid(name string) *Error {
	return refuse(http.StatusBadRequest, "NAME_INVALID", "%.300q is not a repository name", name)
}

// nameUnknown is for a repository without manifests, in a listing of its tags.
func nameUnknown(name string) *Error {
	return refuse(http.StatusNotFound, "NAME_UNKNOWN", "there is no repository %s", name)
}

// manifestUnknown is for a tag or digest that the repository does not have.
func manifestUnknown(repository, reference string) *Error {
	return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s has no manifest %s", repository, reference)
}

// manifestInvalid is for a manifest that the registry does not store because of its
// content.
func manifestInvalid(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "MANIFEST_INVALID", format, args...)
}

// uploadInvalid is for a chunk that does not fit its upload session.
func uploadInvalid(status int, format string, args ...any) *Error {
	return refuse(status, "BLOB_UPLOAD_INVALID", format, args...)
}

// tooMany is for a bound of the server that other requests may free again.
func tooMany(format string, args ...any) *Error {
	return refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", format, args...)
}

// answerTo returns the Error for the client. An error that is not an [Error] is a failure
// of this machine: the client gets a general message, and the log has the cause. A full
// disk has status 507, so that a client can report it.
func answerTo(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return refuse(http.StatusInsufficientStorage, "UNKNOWN", "the registry's disk is full")
	}
	return refuse(http.StatusInternalServerError, "UNKNOWN", "the registry failed; its log has the cause")
}

// A readError is returned if a request's body did not arrive completely. It separates
// failures of the client from failures of the disk, which a copy from one to the other
// returns alike.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// cutOff returns the Error for a body that did not arrive completely, with the given
// code.
func cutOff(err error, code string) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, new(*http.MaxBytesError)):
		return refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the body is too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, code, "the body did not arrive in time")
	}
	return refuse(http.StatusBadRequest, code, "the body did not arrive whole")
}
