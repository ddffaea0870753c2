package serve

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"
)

// An Error is an answer of the distribution specification, "Error Codes". Its message
// is for the client: it has nothing of this machine.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func nameInvalid(name string) *Error {
	return refuse(http.StatusBadRequest, "NAME_INVALID", "%.300q is not a repository name", name)
}

func nameUnknown(name string) *Error {
	return refuse(http.StatusNotFound, "NAME_UNKNOWN", "there is no repository %s", name)
}

func manifestUnknown(repository, reference string) *Error {
	return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s has no manifest %s", repository, reference)
}

func manifestInvalid(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "MANIFEST_INVALID", format, args...)
}

func uploadInvalid(status int, format string, args ...any) *Error {
	return refuse(status, "BLOB_UPLOAD_INVALID", format, args...)
}

func tooMany(format string, args ...any) *Error {
	return refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", format, args...)
}

// answerTo returns what a client is told of err. What is not an [Error] is a fault of
// this machine: the client learns the kind alone, and the log has the cause.
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

// A readError is a body that did not arrive whole.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// cutOff is what a client is told of a body that did not arrive whole: code says of what.
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
