package mirror

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

const (
	recordCreated = "mirror-created" // what a config says, by the manifest's digest
	recordSeen    = "mirror-seen"    // when a digest was seen first
)

// notYet is the first time that is believed: tools that build reproducibly write
// 1970, or the first moment of 1980.
var notYet = time.Date(1981, 1, 1, 0, 0, 0, 0, time.UTC)

// young reports whether the image is not old enough to be copied: of an index the
// youngest of its images, since one of them may have moved alone. The age is counted
// from the time that a config says it was created, or from when the image was seen
// first where it says nothing.
func (m *move) young(ctx context.Context) (bool, error) {
	least := m.job.entry.MinAge
	if least == 0 {
		return false, nil
	}
	c, err := m.chosen.Open()
	if err != nil {
		return false, err
	}
	born, err := m.born(ctx, c)
	if err != nil {
		return false, err
	}
	is := m.Now().Sub(born)
	if is >= least {
		return false, nil
	}
	m.ends(Skipped, "%s old, min-age is %s", inDays(max(is, 0)), inDays(least))
	return true, nil
}

// inDays shows a time as people say it, in two units at most: 3d, 1d4h, 5m, 30s.
func inDays(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		size, next time.Duration
		name, less string
	}{{day, time.Hour, "d", "h"}, {time.Hour, time.Minute, "h", "m"}, {time.Minute, time.Second, "m", "s"}} {
		if d < u.size {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.size, u.name)
		if rest := d % u.size / u.next; rest > 0 {
			text += fmt.Sprintf("%d%s", rest, u.less)
		}
		return text
	}
	return d.Round(time.Second).String()
}

// born returns when the youngest image of c came to be. What is known of an image by
// its digest is not read again.
func (m *move) born(ctx context.Context, c manifest.Content) (youngest time.Time, err error) {
	entries, err := entriesOf(c)
	if err != nil {
		return youngest, err
	}
	for _, e := range entries {
		at, err := m.created(ctx, e)
		if err != nil {
			return youngest, err
		}
		if at.After(youngest) {
			youngest = at
		}
	}
	return youngest, nil
}

// entriesOf lists what may be images of c, unread.
func entriesOf(c manifest.Content) ([]manifest.Entry, error) {
	if idx, ok := c.(v1.ImageIndex); ok {
		return manifest.Entries(idx)
	}
	return manifest.Identified(c)
}

// created returns when an image was created, or seen first; the zero time for what is
// not an image.
func (m *move) created(ctx context.Context, e manifest.Entry) (at time.Time, err error) {
	key := e.Descriptor.Digest.String()
	if e.Kind != manifest.KindImage && e.Kind != manifest.KindUnread || m.recall(recordCreated, key, &at) {
		return at, nil
	}
	if err := e.Read(); err != nil || e.Kind != manifest.KindImage {
		return at, err
	}
	img, err := e.Image()
	if err != nil {
		return at, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return at, err
	}
	if at = config.Created.Time; at.After(notYet) {
		m.remember(ctx, recordCreated, key, at)
		return at, nil
	}
	if m.recall(recordSeen, key, &at) {
		return at, nil
	}
	if m.State == nil {
		m.Log.WarnContext(ctx, "the age is unknown: the config has no time, and without a cache the first sight is not recorded; the image is always skipped", "source", m.job.source)
	}
	at = m.Now()
	m.remember(ctx, recordSeen, key, at)
	return at, nil
}
