// Package mirror copies images that others publish to places of one's own, once
// or on a schedule: single- and multi-arch images elsewhere, one index here.
//
// A plan is a list of entries. Each says where its images come from, which tags
// of them, and where they go. [Runner.Run] carries entries out; [Watcher] does
// that again and again. The one step of either is a [manifest.Selection], or an
// [manifest.Assembly] where an index has to be made first.
//
// Nothing is ever deleted at a target, and a tag moves only to what is whole.
package mirror

import (
	"regexp"
	"time"

	"github.com/Masterminds/semver/v3"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/robfig/cron/v3"
)

// An Entry is one line of a plan. Exactly one of Image, Template, Images and
// Program says where its images come from.
type Entry struct {
	// Name is what people call it; unique in a plan.
	Name string

	// Image is an image or a repository of a registry, whose path may be a glob,
	// or a local place. A tag in it is the only one that is copied.
	Image string
	// Template names images that differ by platform: OS, ARCH and VARIANT in it
	// stand for the platform, {{.Tag}} for the tag.
	Template string
	// Images are the images of an index, one for each platform; {{.Tag}} in them
	// stands for the tag.
	Images []Image
	// Program is module/path@version or @latest: built, not copied.
	Program string
	// Base is what a program is laid onto.
	Base string

	// Targets are templates of repositories, with or without a tag.
	Targets []string
	Tags    Tags
	// Rename changes tags on their way; the first that matches is applied.
	Rename []Rename

	// Platforms are those to keep or to look for, as they were typed. Optional
	// permits them to be missing, as long as one is there.
	Platforms []Platform
	Optional  bool

	// Referrers are copied, too: signatures, SBOMs, provenance.
	Referrers bool
	// Missing copies only tags that the target does not have.
	Missing bool
	// MinAge is how old an image has to be.
	MinAge time.Duration
	// Backup is a template of the tag that keeps what the target named before.
	Backup string

	// Schedule says when; nil is once.
	Schedule cron.Schedule
	// Jitter is the most that a run is put off, at random.
	Jitter time.Duration
	// VerifyEvery is how often children are looked at as well; 0 is never.
	VerifyEvery time.Duration
}

// A Platform is one that an entry names.
type Platform struct {
	// Declared is as platform.Declared reads it, Wanted as platform.Parse.
	Declared, Wanted ocispec.Platform
	// Typed is how it was written, and Arch the word for ARCHVARIANT or ARCH that
	// upstream uses in its place; "" is its own.
	Typed, Arch string
}

// An Image is one of those that an index is made of.
type Image struct {
	Ref      string
	Platform ocispec.Platform // without an OS: what its config says
	Optional bool
}

// Tags choose among the tags of a repository. Exact ones are taken in any case;
// of the others those that pass each of the rules that are given.
type Tags struct {
	Exact  []string
	Glob   []string         // one of them matches
	Regex  []*regexp.Regexp // one of them matches the whole tag
	Semver *semver.Constraints
	// Newest is how many of those that are left, by their versions, are taken;
	// 0 is all of them.
	Newest  int
	Exclude []string // globs, of those that are not taken
}

// A Rename makes one tag of another.
type Rename struct {
	Match *regexp.Regexp // the whole tag
	To    string         // with $1 for what the first group matched
}
