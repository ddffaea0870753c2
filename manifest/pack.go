package manifest

import "context"

// Named is content and the reference that will name it.
type Named struct {
	Ref     string
	Content Content
}

// A BatchPutter is a Sink that stores several contents in one step, such as an image and
// its referrers in one archive. An archive is a single file, so one Put for each would
// write it anew each time.
type BatchPutter interface {
	// PutAll has the effect of one Put for each content, but all at once: after an error
	// every reference is as it was.
	PutAll(ctx context.Context, all ...Named) error
}
