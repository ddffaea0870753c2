package manifest

import "context"

// Named is content and the reference that is to name it.
type Named struct {
	Ref     string
	Content Content
}

// A BatchPutter is a Sink that stores several contents as one: an image with what refers
// to it in one archive.
type BatchPutter interface {
	// PutAll does what a Put of each would do, but at once: on an error every
	// reference is as it was.
	PutAll(ctx context.Context, all ...Named) error
}
