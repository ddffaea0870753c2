package authfile

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// patience is how long a helper may take to say what it has when it is asked in passing.
const patience = 30 * time.Second

// ErrHostsAlone says that a namespace was named where only hosts are known: in Docker's
// config, and to credential helpers.
var ErrHostsAlone = errors.New("supports only hosts")

// split returns the host of a name, which may be host/namespace.
func split(name string) (host string, namespaced bool) {
	host, _, namespaced = strings.Cut(name, "/")
	return host, namespaced
}

// helperKey is what helpers call a host.
func helperKey(host string) string {
	if host == hub {
		return hubKey
	}
	return host
}

// Keep keeps a user and a password for a host, or for host/namespace in a file of
// Podman's: with the helper that the file names, or in the file. It returns where.
// [ErrHostsAlone] is in the chain of its refusal of a namespace.
func (f *File) Keep(ctx context.Context, name, user, password string) (where string, err error) {
	if err := f.Takes(name); err != nil {
		return "", err
	}
	host, _ := split(name)
	helpers := f.Helper(host)
	if len(helpers) == 0 {
		return f.Path, f.Set(name, user, password)
	}
	if err := Store(ctx, helpers[0], helperKey(host), user, password); err != nil {
		return "", f.about(err)
	}
	return "credential helper " + helpers[0], f.Set(name, "", "")
}

// Takes says why credentials for a host or host/namespace cannot be kept in the file or
// with its helpers: nil, or an error with [ErrHostsAlone].
func (f *File) Takes(name string) error {
	host, namespaced := split(name)
	switch helpers := f.Helper(host); {
	case !namespaced:
		return nil
	case !f.Podman:
		return unreadable(f.Path, ErrHostsAlone)
	case len(helpers) > 0:
		return &HelperError{Program: program(helpers[0]), Err: ErrHostsAlone, file: f.Path}
	}
	return nil
}

// Holds reports whether the file, or a helper that it names, has credentials for exactly
// a host or host/namespace.
func (f *File) Holds(ctx context.Context, name string) (bool, error) {
	found, err := f.Entry(name)
	if err != nil || found != (authn.AuthConfig{}) {
		return err == nil, err
	}
	host, namespaced := split(name)
	if namespaced {
		return false, nil
	}
	for _, helper := range f.Helper(host) {
		found, err := Get(ctx, patience, helper, helperKey(host))
		if err != nil || found != (authn.AuthConfig{}) {
			return err == nil, f.about(err)
		}
	}
	return false, nil
}

// Forget removes the credentials for a host or host/namespace from the file and from the
// helpers that have them.
func (f *File) Forget(ctx context.Context, name string) error {
	if host, namespaced := split(name); !namespaced {
		for _, helper := range f.Helper(host) {
			found, err := Get(ctx, patience, helper, helperKey(host))
			if err == nil && found != (authn.AuthConfig{}) {
				err = Erase(ctx, helper, helperKey(host))
			}
			if err != nil {
				return f.about(err)
			}
		}
	}
	_, err := f.Remove(name)
	return err
}
