// Package mirror copies images from where others publish them to a user's registries and
// local places, once or on a schedule.
//
// A plan is a list of entries ([Entry]). Each has a source, rules that choose tags, and
// targets. [Runner.Run] executes entries once; a [Watcher] repeats them on their
// schedules. The step for one image at one target is a [manifest.Selection], or a
// [manifest.Assembly] if an index is made of single images first.
//
// What a target names changes only after all content is stored there. Nothing is deleted
// at a target, except that a Docker archive holds one image, which is replaced. A failure
// of one image does not stop the others; the [Report] has the result of each. If the
// target has the digest of a whole image already, a HEAD at each end is all that is sent.
//
// The package has no network code and no formats: a [Store] reaches registries and local
// places, [Programs] builds, and a [State] remembers facts between runs, which only save
// requests. It does not read configuration files and does not serve metrics.
package mirror

import (
	"regexp"
	"time"

	"github.com/Masterminds/semver/v3"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/robfig/cron/v3"

	"github.com/mabuild/mabuild/manifest"
)

// An Entry is one rule of a plan. Exactly one of Image, Template, Images and Program is
// its source. An Entry is not changed after it was passed to a Runner.
type Entry struct {
	// Name is the name in reports and messages. It is unique in a plan.
	Name string

	// Image is an image or a repository of a registry, or a local place. The path of a
	// repository may be a glob. If it has a tag, only that tag is copied.
	Image string
	// Template is the reference of images that differ by platform: OS, ARCH and VARIANT
	// stand for the words of the platform, {{.Tag}} for the tag.
	Template string
	// Images are the images of an index to be made; {{.Tag}} in them stands for the tag.
	Images []manifest.Item
	// Program is a Go program, module/path@version or @latest, which is built and not
	// copied.
	Program string
	// Base is the base image of the program.
	Base string

	// Targets are templates of repositories or local places, with or without a tag
	// ([Names]).
	Targets []string
	Tags    Tags
	// Rename changes tags between source and target. The first rule that matches is
	// applied.
	Rename []Rename

	// Platforms are the platforms to keep or, with Template, to look for. Optional
	// permits some to be missing as long as one exists.
	Platforms []Platform
	Optional  bool

	// Referrers also copies the referrers of an image: signatures, SBOMs, provenance.
	Referrers bool
	// Key is the file of the public key that must have signed the source; "" for none. A
	// Runner has it checked by [Runner.Signed].
	Key string
	// Missing copies only tags that the target lacks. Tags that exist are not compared.
	Missing bool
	// MinAge skips images that are younger.
	MinAge time.Duration
	// Backup is a template of the tag under which the replaced image is kept; "" keeps
	// none.
	Backup string

	// Schedule says when a Watcher runs the entry; nil means once.
	Schedule cron.Schedule
	// Jitter is the largest random delay that is added to each scheduled time, so that
	// many mirrors do not ask a registry in the same second.
	Jitter time.Duration
	// VerifyEvery is how often the children of unchanged images are checked; 0 means
	// never.
	VerifyEvery time.Duration
}

// A Platform is a platform that an entry names.
type Platform struct {
	// Declared is the platform in the form of platform.Declared, which leaves open what
	// was not written, and Wanted in that of platform.Parse.
	Declared, Wanted ocispec.Platform
	// Typed is the platform as it was written. Arch is the word that the publisher uses
	// for it in place of ARCHVARIANT or ARCH in a Template; "" if it is the platform's
	// own.
	Typed, Arch string
}

// Tags choose among the tags of a repository. Exact tags are always taken. Of the others
// those are taken that pass every kind of rule that is given.
type Tags struct {
	Exact  []string
	Glob   []string         // one of them matches
	Regex  []*regexp.Regexp // one of them matches; they are anchored to match the whole tag
	Semver *semver.Constraints
	// Newest is the number of tags to take, the highest versions first, after all other
	// rules; 0 means all.
	Newest  int
	Exclude []string // globs of tags that are not taken, unless exact
}

// A Rename changes the tags that match.
type Rename struct {
	Match *regexp.Regexp // anchored to match the whole tag
	To    string         // $1 stands for the first group
}
