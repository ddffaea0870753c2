package authfile

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// patience bounds the call of a helper in [File.Holds] and [File.Forget].
const patience = 30 * time.Second

// ErrHostsAlone is returned for a namespace if only hosts are possible: in Docker's files
// and with credential helpers.
var ErrHostsAlone = errors.New("supports only hosts")

// split returns the host of a host or host/namespace, and whether there is a namespace.
func split(name string) (host string, namespaced bool) {
	host, _, namespaced = strings.Cut(name, "/")
	return host, namespaced
}

// helperKey returns the key of a host for credential helpers, which is Docker's.
func helperKey(host string) string {
	if host == hub {
		return hubKey
	}
	return host
}

// Keep stores a user and a password for a host, or for host/namespace in a file of
// Podman's: with the helper that the file names, else in the file. It returns where, for
// a message to the user. With a helper the file gets an empty entry, as Docker writes it.
// The helper is called first, so that a failure leaves the file as it was. A namespace
// that is not possible is an error with [ErrHostsAlone].
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

// Takes returns nil if the file, or its helper, can store credentials for this host or
// host/namespace, else an error with [ErrHostsAlone]. A caller can thus fail before it
// asks the user for a password.
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
// this host or host/namespace.
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

// Forget deletes the credentials for a host or host/namespace from the file and from the
// helpers that have them. The helpers come first: if one fails, the entry stays and a
// later Forget can repeat it. A helper without credentials for the host is not asked to
// erase, since some fail then.
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
