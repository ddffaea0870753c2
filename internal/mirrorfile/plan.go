package mirrorfile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/robfig/cron/v3"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// maxShared is the maximum number of platforms, and of excluded tags, at the top level.
// Each entry gets a copy, so the size of the plan is their product with the number of
// entries.
const maxShared = 100

// entries makes the plan. The order of the steps matters: tags and targets depend on what
// source found out.
func (p *planner) entries() {
	for key, n := range map[string]int{"platforms": strings.Count(strings.Join(p.m.Platforms, ","), ",") + 1, "exclude": len(p.m.Exclude)} {
		if n > maxShared {
			p.complain(key, "has %d items, but all entries together can have at most %d", n, maxShared)
			return
		}
	}
	if len(p.m.Entries) == 0 {
		p.complain("entries", "%w", errNoEntries)
	}
	p.schedule(&p.m.Settings, "", nil)
	for i := range p.m.Entries {
		if p.broken[fmt.Sprintf("entries[%d]", i)] {
			continue
		}
		e := entryPlanner{planner: p, in: &p.m.Entries[i], at: fmt.Sprintf("entries[%d]", i), out: &mirror.Entry{}}
		e.inherit()
		e.source()
		e.platforms()
		e.tags()
		e.targets()
		e.rename()
		e.rest()
		p.m.plan = append(p.m.plan, e.out)
	}
}

// An entryPlanner turns an entry of the file into one of the plan.
type entryPlanner struct {
	*planner
	in  *Entry
	at  string // its path, such as entries[0]
	out *mirror.Entry

	fixed    string // why the source is one image, for errors; "" if tags select
	untagged bool   // the source has no tag for the target to use
	globbed  bool   // the source is several repositories
}

// says reports whether the entry itself sets the key.
func (e *entryPlanner) says(key string) bool {
	_, ok := e.m.lines[e.at+"."+key]
	return ok
}

// refuse complains about a key of the entry.
func (e *entryPlanner) refuse(key, format string, args ...any) {
	e.complain(e.at+"."+key, format, args...)
}

// inherit copies the settings of the top level that the entry does not set. The keys
// every and cron exclude each other, so an entry with one of them inherits neither.
func (e *entryPlanner) inherit() {
	timed := e.says("every") || e.says("cron")
	settingsTable.Copy(&e.in.Settings, &e.m.Settings, func(f *yamlconf.Field) bool {
		return !e.says(f.Key) && (!timed || f.Key != "every" && f.Key != "cron")
	})
}

// platforms reads the platforms to keep or, for a template, to look for.
func (e *entryPlanner) platforms() {
	at := "platforms"
	if e.says("platforms") {
		at = e.at + ".platforms"
	}
	for i, item := range e.in.Platforms {
		for one := range strings.SplitSeq(item, ",") {
			typed := strings.TrimSpace(one)
			wanted, err := platform.Parse(typed)
			if err != nil { // other errors were found on reading
				e.complain(fmt.Sprintf("%s[%d]", at, i), "all is not a platform; omit platforms to keep all")
				continue
			}
			declared, _ := platform.Declared(typed)
			p := mirror.Platform{Declared: declared, Wanted: wanted, Typed: typed}
			if e.out.Template != "" {
				p.Arch = e.in.Arch[platform.Key(wanted)]
			}
			e.out.Platforms = append(e.out.Platforms, p)
		}
	}
	switch {
	case len(e.out.Images) > 0 && e.says("platforms"):
		e.refuse("platforms", "must be set for each image")
	case len(e.out.Images) > 0:
		e.out.Platforms = nil
	case e.out.Template != "" && len(e.in.Platforms) == 0:
		e.refuse("template", "requires platforms")
	}
	if e.says("arch") {
		e.words()
	}
	e.out.Optional = e.in.Optional
	e.distinct()
}

// words checks the replacements of ARCH in a template, by platform.
func (e *entryPlanner) words() {
	if e.in.Template == "" {
		e.refuse("arch", "requires a template")
		return
	}
	there := map[string]bool{}
	for _, p := range e.out.Platforms {
		there[platform.Key(p.Wanted)] = true
	}
	for key := range e.in.Arch {
		if !there[key] {
			e.refuse("arch["+key+"]", "is not one of the platforms")
		}
	}
}

// distinct rejects a template that gives the same name for several platforms.
func (e *entryPlanner) distinct() {
	first := map[string]string{}
	for _, p := range e.out.Platforms {
		if e.out.Template == "" || p.Arch != "" {
			continue
		}
		full := platform.Fill(e.out.Template, p.Typed)
		if other, ok := first[full]; ok {
			e.refuse("template", "gives the same image for %s and %s", other, p.Typed)
		}
		first[full] = p.Typed
	}
}

// tags reads the rules for tags. They are required for a source with tags: to copy all
// tags of a repository, an entry has to say so.
func (e *entryPlanner) tags() {
	t := e.in.Tags
	said := len(t.Exact)+len(t.Glob)+len(t.Regex)+len(t.Exclude) > 0 || t.Semver != "" || t.Newest > 0
	switch {
	case e.fixed != "" && e.says("tags"):
		e.refuse("tags", "cannot be used: %s", e.fixed)
		return
	case e.fixed != "":
		return
	case e.says("tags") && !said:
		e.refuse("tags", "the rules select nothing")
	case !said && e.in.Go == "":
		e.refuse("tags", "the entry selects no tags; write tags: [v1] or tags: {newest: 3}")
	}
	e.out.Tags = mirror.Tags{Exact: t.Exact, Glob: t.Glob, Newest: t.Newest, Exclude: slices.Concat(t.Exclude, e.m.Exclude)}
	for _, text := range t.Regex {
		r, _ := whole(text) // valid, as is the range below
		e.out.Tags.Regex = append(e.out.Tags.Regex, r)
	}
	if t.Semver != "" {
		e.out.Tags.Semver, _ = semver.NewConstraint(t.Semver)
	}
	if len(t.Exclude) > 0 && !e.patterned() && len(t.Exact) == 0 && e.in.Go == "" {
		e.out.Tags.Glob = []string{"*"} // exclude alone selects all other tags
	}
}

// patterned reports whether rules select tags.
func (e *entryPlanner) patterned() bool {
	t := e.in.Tags
	return len(t.Glob)+len(t.Regex) > 0 || t.Semver != "" || t.Newest > 0
}

// several reports whether the entry may select more than one tag.
func (e *entryPlanner) several() bool {
	exact := len(e.in.Tags.Exact)
	switch {
	case e.fixed != "":
		return false
	case e.patterned():
		return exact > 0 || e.in.Tags.Newest != 1
	}
	return exact > 1 || exact == 0 && e.in.Go == ""
}

// rename reads the rules that rename tags.
func (e *entryPlanner) rename() {
	for i, r := range e.in.Rename {
		at := fmt.Sprintf("rename[%d]", i)
		if r.Match == "" || r.To == "" {
			e.refuse(at, "requires match and to")
			continue
		}
		match, _ := whole(r.Match) // has been examined
		if err := examineReplacement(r.To, match); err != nil {
			e.refuse(at+".to", "%w", err)
		}
		e.out.Rename = append(e.out.Rename, mirror.Rename{Match: match, To: r.To})
	}
}

// rest reads the keys that do not depend on the source, and names the entry. Names must
// be unique, since reports, metrics and --only use them.
func (e *entryPlanner) rest() {
	s := e.in.Settings
	e.out.Referrers, e.out.Missing = s.Referrers, s.Missing
	e.out.MinAge, e.out.Jitter, e.out.VerifyEvery = time.Duration(s.MinAge), time.Duration(s.Jitter), time.Duration(s.VerifyEvery)
	e.schedule(&s, e.at+".", &e.out.Schedule)
	e.backup(s.Backup)
	if e.in.Go != "" {
		e.out.Referrers, e.out.MinAge = false, 0 // a built image has neither
		for _, key := range []string{"referrers", "min_age"} {
			if e.says(key) {
				e.refuse(key, "does not apply to programs")
			}
		}
	}
	e.out.Key = e.in.Verify.Key
	if e.in.Source == "" && e.out.Key != "" {
		e.refuse("verify.key", "applies to a source alone, not to images that are combined or built")
	}
	e.out.Name = e.in.Name
	if e.out.Name == "" {
		e.out.Name = e.madeName()
	}
	line, again := e.names[e.out.Name]
	switch {
	case again && e.in.Name != "":
		e.refuse("name", "%q is a duplicate of line %d", yamlconf.Shorten(e.in.Name), line)
	case again:
		e.complain(e.at, "has the same name %s as the entry in line %d; set name for one of them", yamlconf.Shorten(e.out.Name), line)
	default:
		e.names[e.out.Name] = e.line(e.at + ".name")
	}
}

// backup checks the template of the tag for the target's previous image. It must give a
// valid tag that differs from the tag itself, or the backup would be overwritten at once.
func (e *entryPlanner) backup(text string) {
	if text == "" {
		return
	}
	at := "backup"
	if e.says("backup") {
		at = e.at + ".backup"
	}
	full, err := example.Expand(text)
	switch {
	case err != nil:
		e.complain(at, "%w", err)
	case depends(text, byPlace):
		e.complain(at, "supports only .Tag, .SourceTag, .Date and .Time")
	case !tagName.MatchString(full):
		e.complain(at, "%q does not give a valid tag", yamlconf.Shorten(text))
	case full == example.Tag:
		e.complain(at, "is the same as the tag; write, for example, {{.Tag}}-{{.Date}}")
	}
	e.out.Backup = text
}

// schedule reads every or cron into s. s is nil for the top level, which is only checked.
func (p *planner) schedule(in *Settings, prefix string, s *cron.Schedule) {
	_, every := p.m.lines[prefix+"every"]
	_, line := p.m.lines[prefix+"cron"]
	switch d := time.Duration(in.Every); {
	case every && line:
		p.complain(prefix+"cron", "cannot be combined with every")
	case every && d > 0 && d < time.Second:
		p.complain(prefix+"every", "must be at least 1s")
	case s == nil:
	case d > 0:
		*s = cron.Every(d)
	case in.Cron != "":
		*s, _ = schedule(in.Cron) // has been examined
	}
}

// madeName returns the default name of an entry: the path of its first target or, if that
// depends on the image, of its source; as a last resort its path in the file.
func (e *entryPlanner) madeName() string {
	texts := append(slices.Clone(e.in.Target), e.in.Source, e.in.Template, e.in.Go)
	for _, image := range e.in.Images {
		texts = append(texts, image.Image)
	}
	for _, text := range texts {
		fixed, _, templated := strings.Cut(text, "{{")
		inTag := strings.LastIndex(fixed, ":") > strings.LastIndex(fixed, "/")
		if templated && (!inTag || local.Is(text)) {
			continue
		}
		if p, err := local.Parse(fixed); err == nil && p.Path != "" {
			return p.Path
		}
		repo := imageref.Cut(fixed).Repository
		if _, path, ok := strings.Cut(repo, "/"); ok && path != "" {
			return path
		} else if repo != "" {
			return repo
		}
	}
	return e.at
}
