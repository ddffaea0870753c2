package mirror

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// This file applies MinAge. A delay gives scanners and publishers time to find a bad
// image before it is mirrored.

// Kinds of the records about age in a [State]. Neither record changes once it is made.
const (
	recordCreated = "mirror-created" // time in a config, by the manifest's digest
	recordSeen    = "mirror-seen"    // time at which a digest was first seen
)

// notYet is the first time of creation that is taken as true. Tools with reproducible
// output write 1970 or the first moment of 1980 in place of the time.
var notYet = time.Date(1981, 1, 1, 0, 0, 0, 0, time.UTC)

// young reports whether the image is younger than MinAge, and sets the result if it is.
// An index is as old as its youngest image, because a publisher may have replaced one
// image alone. The age begins at the time of creation in the config or, without one, when
// the image was first seen. A publisher can write any time into a config: MinAge delays a
// copy, it proves nothing.
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

// inDays formats a duration with at most two units: 3d, 1d4h, 5m, 30s.
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

// born returns the time of creation of the youngest image of c. An image whose time is
// recorded is not read.
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

// entriesOf lists the entries of c that may be images. No image of an index is read.
func entriesOf(c manifest.Content) ([]manifest.Entry, error) {
	if idx, ok := c.(v1.ImageIndex); ok {
		return manifest.Entries(idx)
	}
	return manifest.Identified(c)
}

// created returns when an image was created or first seen. It returns the zero time for
// an entry that is not an image, so that it never counts as the youngest.
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
	// A time in the config belongs to the digest, so it is recorded for all runs and
	// targets.
	if at = config.Created.Time; at.After(notYet) {
		m.remember(ctx, recordCreated, key, at)
		return at, nil
	}
	if m.recall(recordSeen, key, &at) {
		return at, nil
	}
	// Without a State the first sight is this run in every run.
	if m.State == nil {
		m.Log.WarnContext(ctx, "the age is unknown: the config has no time, and without a cache the first sight is not recorded; the image is always skipped", "source", m.job.source)
	}
	at = m.Now()
	m.remember(ctx, recordSeen, key, at)
	return at, nil
}
