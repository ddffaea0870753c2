package main

import (
	"context"
	"errors"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// images returns what the commands for Kubernetes know about images, which are read with the
// pull secrets in the files as well.
func (a *app) images(files []*kube.File) *kube.Images {
	var logins []kube.Login
	for _, f := range files {
		logins = append(logins, f.Logins()...)
	}
	source, fresh := a.withSecrets(a.client, logins), a.newClient()
	fresh.CacheDir, fresh.Limits = "", a.client.Limits
	return &kube.Images{Source: source, Fresh: a.withSecrets(fresh, logins), Records: a.recordCache()}
}

// A secretSource reads images with pull secrets and then with the user's own credentials. As
// the kubelet does, it tries all that match.
type secretSource struct {
	own       *registry.Client
	logins    []kube.Login
	newClient func() *registry.Client
	clients   once.Memo[kube.Login, *registry.Client]
}

// withSecrets returns a source that reads with the logins and then with own, all within the
// limits of own, which must not have been used if it has none.
func (a *app) withSecrets(own *registry.Client, logins []kube.Login) manifest.Source {
	if len(logins) == 0 {
		return own
	}
	if own.Limits == nil {
		own.Limits = new(registry.Limits)
	}
	return &secretSource{own: own, logins: logins, newClient: a.newClient}
}

// Resolve returns the descriptor of ref.
func (s *secretSource) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	return tryEach(ctx, s, ref, (*registry.Client).Resolve)
}

// Get returns what ref names.
func (s *secretSource) Get(ctx context.Context, ref string) (manifest.Content, error) {
	return tryEach(ctx, s, ref, (*registry.Client).Get)
}

// tryEach calls read with one client after the other until one is not refused. An answer that
// the image does not exist says more than a refusal.
func tryEach[T any](ctx context.Context, s *secretSource, ref string, read func(*registry.Client, context.Context, string) (T, error)) (T, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return read(s.own, ctx, ref) // which says what is wrong
	}
	var absent error
	for _, login := range kube.MatchLogins(s.logins, parsed.Context().Name()) {
		client, err := s.clients.Do(ctx, login, func() (*registry.Client, error) {
			c := s.newClient()
			c.CacheDir, c.Limits, c.Keychain = s.own.CacheDir, s.own.Limits, secretLogin(login)
			return c, nil
		})
		if err != nil {
			return *new(T), err
		}
		result, err := read(client, ctx, ref)
		if err == nil || !refusal(err) {
			return result, err
		}
		if kube.IsNotFound(err) {
			absent = err
		}
	}
	result, err := read(s.own, ctx, ref)
	if err != nil && absent != nil && refusal(err) {
		err = absent
	}
	return result, err
}

// A secretLogin is the keychain of one pull secret, for the repositories that it matches.
type secretLogin kube.Login

// Resolve returns the credentials of a repository, or anonymous ones.
func (l secretLogin) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if len(kube.MatchLogins([]kube.Login{kube.Login(l)}, r.String())) == 0 {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: l.Username, Password: l.Password}, nil
}

// refusal reports whether other credentials may be answered differently. Some registries say
// of what a user may not see that it is not there.
func refusal(err error) bool {
	var e *registry.Error
	return kube.IsNotFound(err) || errors.As(err, &e) && e.Kind() == registry.KindUnauthorized
}
