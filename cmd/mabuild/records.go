package main

import (
	"cmp"
	"os"
	"strings"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/manifest/local"
)

// records returns the repository of build records that the configuration names, or nil. With
// alone there is none, and with require it must have every program. work is the work directory
// of the run.
func (a *app) records(alone, require bool, work string) (*records.Repository, error) {
	c := a.config.Cache
	if alone || c.Mode == "off" || c.Repo == "" {
		if require {
			return nil, usage("add --cache-repo REPOSITORY", "--require-cache requires a repository of build records")
		}
		if c.Compile && !alone && c.Repo == "" {
			return nil, usage("add --cache-repo REPOSITORY", "--cache-compile requires a repository of build records")
		}
		return nil, nil
	}
	if form, ref, ok := strings.Cut(c.Repo, "ref="); ok || strings.Contains(form, "type=") { // as buildx has it
		ref, _, _ = strings.Cut(ref, ",")
		return nil, usage("write --cache-repo "+cmp.Or(ref, "HOST/PATH"), "--cache-repo %s is not the name of a repository", c.Repo)
	}
	if local.Is(c.Repo) {
		return nil, usage("use a repository such as ghcr.io/acme/build-cache", "--cache-repo %s is not in a registry", c.Repo)
	}
	at := imageref.Cut(c.Repo)
	switch err := places.CheckReference(c.Repo); {
	case err != nil:
		return nil, usage(hint.Of(err), "--cache-repo %s: %s", c.Repo, err)
	case at.Tag != "" || at.Digest != "":
		return nil, usage("--cache-repo "+at.Repository, "--cache-repo %s is an image, not a repository", c.Repo)
	case !at.Named():
		return nil, usage("write HOST/PATH, for example ghcr.io/acme/build-cache", "--cache-repo %s names no registry", c.Repo)
	}
	r := &records.Repository{Name: c.Repo, Client: a.client, Write: c.Mode == "rw", Require: require, Check: c.Check, Compile: c.Compile, Cache: a.ownCache(), Work: work, Log: a.log}
	for _, text := range c.Trust {
		key, err := records.ParsePublicKey(text)
		if err != nil {
			return nil, usage("mabuild cache key prints the key of a machine", "--cache-trust: %s", err)
		}
		r.Trust = append(r.Trust, key)
	}
	if secret := os.Getenv(cacheKeyEnv); secret != "" && r.Write {
		key, err := records.KeyOf(secret)
		if err != nil {
			a.log.Warn("build records are not signed: " + cacheKeyEnv + ": " + err.Error())
		}
		r.Key = key
	}
	return r, nil
}

// ownCache returns the cache if only the user can write to it, and else nil: one in the source
// tree may come with the checkout.
func (a *app) ownCache() *cache.Cache {
	if tree := a.config.Tree(); a.cache == "" || tree != "" && intree.Below(tree, a.cache) {
		return nil
	}
	c, err := cache.Open(a.cache)
	if err != nil {
		return nil // usableCache has warned
	}
	return c
}
