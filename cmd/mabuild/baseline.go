package main

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
)

// A baseline records on which base image a repository's image of a platform was built
// last. It decides whether base layers are sent while the program compiles. If the tag
// exists and the base has not changed, its layers are very likely there, and asking for
// them would cost requests in a run that changes nothing. If the base has changed,
// sending them early saves time. A wrong or lost record costs only requests or time,
// never correctness: the image's own push checks all layers. The zero value records
// nothing.
type baseline struct{ cache *cache.Cache }

// baselineIn returns the baseline in the cache at dir, or the zero value if it cannot be
// used.
func baselineIn(dir string) baseline {
	store, err := cache.Open(dir)
	if err != nil {
		return baseline{}
	}
	return baseline{store}
}

// changed reports whether the image for a platform is recorded with another base. Without a
// record it is false.
func (b baseline) changed(repo, platform string, base v1.Hash) bool {
	was := b.of(repo, platform)
	return was != v1.Hash{} && was != base
}

// add records the base of an image that was just pushed.
func (b baseline) add(repo, platform string, base v1.Hash) {
	if base != (v1.Hash{}) && b.of(repo, platform) != base {
		_ = b.cache.Store("baseline", repo+" "+platform, base) // lost: layers are sent later
	}
}

// of returns the recorded base, or the zero Hash.
func (b baseline) of(repo, platform string) (base v1.Hash) {
	if !b.cache.Load("baseline", repo+" "+platform, &base) {
		return v1.Hash{}
	}
	return base
}
