package mirror

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file plans indexes that are assembled from images of single platforms, as
// publishers without multi-platform tags offer them.

// planAssembled lists the images that are assembled from several. If no reference depends
// on the tag, there is one job, with the tag that all references have in common or none.
func (r *round) planAssembled(ctx context.Context, e *Entry) (jobs []job, lost []Result, err error) {
	items := e.items()
	tags := []string{""}
	if slices.ContainsFunc(items, func(i manifest.Item) bool { return tagged(i.Ref) }) {
		if tags, err = r.tagsOf(ctx, e, items); err != nil {
			return nil, nil, err
		}
	} else if tag := cutTag(items[0]); !slices.ContainsFunc(items, func(i manifest.Item) bool { return cutTag(i) != tag }) {
		tags = []string{tag}
	}
	first := imageref.Cut(items[0].Ref)
	if local.Is(items[0].Ref) {
		first = imageref.Parts{}
	}
	jobs, err = r.jobs(e, imageref.Parts{Repository: first.Repository}, tags, func(tag string) job {
		j := job{source: e.describe(tag), name: e.describe(tag), items: slices.Clone(items)}
		for i := range j.items {
			j.items[i].Ref = fillTag(j.items[i].Ref, tag)
		}
		return j
	})
	return jobs, nil, err
}

// cutTag returns the tag of an item, of a registry or a local place.
func cutTag(i manifest.Item) string {
	at, err := places.Parse(i.Ref)
	if err != nil {
		return ""
	}
	return at.Tag()
}

// describe returns the references of an assembled image for messages.
func (e *Entry) describe(tag string) string {
	if e.Template != "" {
		return fillTag(e.Template, tag)
	}
	refs := make([]string, len(e.Images))
	for i, image := range e.Images {
		refs[i] = fillTag(image.Ref, tag)
	}
	return strings.Join(refs, " + ")
}

// fillTag fills in the tag of a source. The template was checked before, so an error is
// not expected and leaves the text as it is.
func fillTag(text, tag string) string {
	full, err := Names{Tag: tag, SourceTag: tag}.Expand(text)
	if err != nil {
		return text
	}
	return full
}

// items returns the items of an entry, in which {{.Tag}} is not filled in yet.
func (e *Entry) items() []manifest.Item {
	if e.Template == "" {
		return e.Images
	}
	var out []manifest.Item
	for _, p := range e.Platforms {
		out = append(out, manifest.Item{Ref: p.fill(e.Template), Platform: p.Declared, Optional: e.Optional})
	}
	return out
}

// fill puts the words of the platform into a template. The publisher's own word replaces
// ARCHVARIANT, or else ARCH. {{.Tag}} contains none of these words and stays.
func (p Platform) fill(template string) string {
	if p.Arch != "" {
		template = strings.ReplaceAll(template, "ARCHVARIANT", "ARCH")
		return strings.ReplaceAll(strings.ReplaceAll(template, "ARCH", p.Arch), "OS", platform.Fill("OS", p.Typed))
	}
	return platform.Fill(template, p.Typed)
}

// tagsOf finds the tags of assembled images from the lists of tags of their items. A tag
// counts if any item has it. If all were required, an image that lost a platform would
// silently not be copied any more; so the missing item is reported.
func (r *round) tagsOf(ctx context.Context, e *Entry, items []manifest.Item) ([]string, error) {
	if !e.Tags.patterned() {
		return e.Tags.matching(nil), nil
	}
	var there []string
	for _, item := range items {
		// The mark stands for the tag. A NUL byte is in no reference, so it can be found
		// again.
		const mark = "\x00"
		at := imageref.Cut(fillTag(item.Ref, mark))
		if strings.Contains(at.Repository, mark) {
			return nil, invalidTemplate(item.Ref, "{{.Tag}} in the repository's name requires a list of tags")
		}
		before, after, ok := strings.Cut(at.Tag, mark)
		if !ok {
			continue
		}
		tags, err := r.list(ctx, at.Repository)
		if err != nil {
			if (item.Optional || e.Optional) && errors.Is(err, manifest.ErrNotFound) {
				continue
			}
			return nil, err
		}
		for _, tag := range tags {
			if middle, ok := between(tag, before, after); ok && !slices.Contains(there, middle) {
				there = append(there, middle)
			}
		}
	}
	return e.Tags.matching(there), nil
}

// between returns what is between before and after in text; ok is false if that is
// nothing or text does not have them.
func between(text, before, after string) (middle string, ok bool) {
	rest, ok1 := strings.CutPrefix(text, before)
	middle, ok2 := strings.CutSuffix(rest, after)
	return middle, ok1 && ok2 && middle != ""
}
