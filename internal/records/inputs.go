package records

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/manifest"
)

// Inputs says what the key of a record is made of, by name. Values that may be long or secret
// are the first digits of their digest: they can be compared, and not read.
type Inputs map[string]string

// plain are the inputs whose values are not replaced by a digest.
var plain = []string{"go", "package", "platform", "compressor"}

// InputsOf returns the inputs of an image.
func InputsOf(in map[string]string) Inputs {
	list := Inputs{}
	for name, value := range in {
		if !slices.Contains(plain, name) {
			value = fmt.Sprintf("%x", sha256.Sum256([]byte(value)))[:8]
		}
		list[name] = value
	}
	return list
}

// Differences returns the names of the inputs that differ from others, sorted.
func (in Inputs) Differences(others Inputs) (names []string) {
	for name, value := range in {
		if others[name] != value {
			names = append(names, name)
		}
	}
	for name := range others {
		if _, ok := in[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// packInputs writes inputs as an annotation, or "". They are not signed, since nothing depends
// on them.
func packInputs(in map[string]string) string {
	text, _ := pack(InputsOf(in)) // cannot fail: there is nothing that JSON cannot hold
	return text
}

// unpackInputs reads such an annotation. It returns nil if it is missing or invalid.
func unpackInputs(text string) (in Inputs) {
	if unpack(text, &in) != nil {
		return nil
	}
	return in
}

// maxNearest bounds the records that are read to find the nearest one, and nearestAtOnce those
// that are read at once.
const (
	maxNearest    = 1000
	nearestAtOnce = 16
)

// Nearest returns the record of the same program and platform whose inputs differ least from
// those of an image, and its inputs. It reads the records one by one, and no more than
// maxNearest of them. ref is "" if there is none.
func (r *Repository) Nearest(ctx context.Context, image map[string]string) (ref string, inputs Inputs, err error) {
	tags, err := r.Client.Tags(ctx, r.Name)
	if errors.Is(err, manifest.ErrNotFound) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { return !strings.HasPrefix(tag, "b1-") })
	slices.Sort(tags)
	mine, least := InputsOf(image), 0
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(nearestAtOnce)
	for _, tag := range tags[:min(len(tags), maxNearest)] {
		group.Go(func() error {
			others := r.inputs(ctx, r.Name+":"+tag)
			if others["package"] != mine["package"] || others["platform"] != mine["platform"] {
				return ctx.Err()
			}
			n := len(mine.Differences(others))
			mu.Lock()
			defer mu.Unlock()
			if ref == "" || n < least || n == least && r.Name+":"+tag < ref {
				ref, inputs, least = r.Name+":"+tag, others, n
			}
			return nil
		})
	}
	return ref, inputs, group.Wait()
}

// inputs returns the inputs of a record, or nil.
func (r *Repository) inputs(ctx context.Context, ref string) Inputs {
	content, err := r.Client.Get(ctx, ref)
	if err != nil {
		return nil
	}
	raw, err := content.RawManifest()
	var m ocispec.Manifest
	if err != nil || json.Unmarshal(raw, &m) != nil || m.ArtifactType != ArtifactType {
		return nil
	}
	return unpackInputs(m.Annotations[annotationInputs])
}
