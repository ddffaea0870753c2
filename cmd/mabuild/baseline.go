package main

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
)

// A baseline remembers on which base the image of a repository stood last. Where a tag
// names something already, the layers of its base are most likely there, and asking
// would cost a push of nothing new its requests; those of a new base are not, and can
// travel beside the compiler. The zero value remembers nothing.
type baseline struct{ cache *cache.Cache }

// baselineIn remembers in the cache at dir, if that is one.
func baselineIn(dir string) baseline {
	store, err := cache.Open(dir)
	if err != nil {
		return baseline{}
	}
	return baseline{store}
}

// changed reports whether the image for a platform is known to stand on another base.
func (b baseline) changed(repo, platform string, base v1.Hash) bool {
	was := b.of(repo, platform)
	return was != v1.Hash{} && was != base
}

// add says on which base the image stands that was just put.
func (b baseline) add(repo, platform string, base v1.Hash) {
	if base != (v1.Hash{}) && b.of(repo, platform) != base {
		_ = b.cache.Store("baseline", repo+" "+platform, base) // else its layers travel later
	}
}

func (b baseline) of(repo, platform string) (base v1.Hash) {
	if !b.cache.Load("baseline", repo+" "+platform, &base) {
		return v1.Hash{}
	}
	return base
}
