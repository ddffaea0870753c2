package mirrorfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/mod/module"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// source reads where the images come from. Exactly one of four keys says so.
func (e *entryPlanner) source() {
	var said []string
	for _, one := range []struct {
		key   string
		there bool
	}{{"source", e.in.Source != ""}, {"template", e.in.Template != ""}, {"images", len(e.in.Images) > 0}, {"go", e.in.Go != ""}} {
		if one.there {
			said = append(said, one.key)
		}
	}
	switch {
	case len(said) == 0:
		e.complain(e.at, "the source is missing; write source, template, images or go")
		e.fixed = "the source is missing"
		return
	case len(said) > 1:
		e.refuse(said[1], "cannot be combined with %s; use only one of them", said[0])
	}
	if e.in.Base != "" && e.in.Go == "" {
		e.refuse("base", "requires go, a program to build")
	}
	switch said[0] {
	case "source":
		e.image()
	case "template":
		e.template()
	case "images":
		e.images()
	case "go":
		e.program()
	}
}

// image reads the name of an image, a repository, a glob of repositories, or a local
// place.
func (e *entryPlanner) image() {
	text := e.in.Source
	e.out.Image = text
	if strings.Contains(text, "{{") {
		e.refuse("source", "is not a template; write tags, or use template instead of source")
		e.fixed = "the source is not a template"
		return
	}
	// A local place has no list of tags to select from.
	if local.Is(text) {
		e.out.Image = e.local("source", text, func(p local.Place) error { _, err := p.Source(); return err })
		e.fixed, e.untagged = "the source is local and has no list of tags", true
		return
	}
	at := imageref.Cut(text)
	repo, tag, digest := at.Repository, at.Tag, at.Digest
	switch {
	// A digest or tag in the reference selects one image, so rules for tags make no
	// sense.
	case digest != "":
		e.fixed, e.untagged = "the source names a digest", tag == ""
	case !strings.Contains(repo, "/") && strings.Trim(tag, "0123456789") == "" && strings.ContainsAny(repo, ".") && tag != "":
		e.refuse("source", "%q is a registry; name a repository in it", yamlconf.Shorten(text))
	case tag != "":
		e.fixed = "the source has a tag"
	}
	host, path, ok := strings.Cut(repo, "/")
	// Only a plain name can be checked as a reference; a glob is not a valid one.
	if !strings.ContainsAny(repo, "*?[{") {
		if err := examineReference(text); err != nil {
			e.refuse("source", "%w", err)
		}
		return
	}
	if e.globbed = true; !ok || strings.ContainsAny(host, "*?[{") || path == "" || !doublestar.ValidatePattern(path) || digest != "" {
		e.refuse("source", "%q is not a glob of repositories: write registry/path, without a glob in the registry", yamlconf.Shorten(text))
		e.globbed = false
	}
}

// placeholder matches the parts of a template that [platform.Fill] replaces.
var placeholder = regexp.MustCompile(`ARCH|OS|VARIANT`)

// template reads the name of images that differ by platform.
func (e *entryPlanner) template() {
	text := e.in.Template
	e.out.Template = text
	full, ok := e.filled("template", text)
	if !placeholder.MatchString(text) {
		e.refuse("template", "has no ARCH, OS or VARIANT; use source for a single image")
	}
	if !ok {
		return
	}
	if err := examineReference(platform.Fill(full, "linux/amd64")); err != nil {
		e.refuse("template", "%w", err)
	}
	e.assembled([]string{text})
}

// images reads the images that are combined into an index.
func (e *entryPlanner) images() {
	var refs []string
	seen := map[string]string{}
	for i, in := range e.in.Images {
		at := fmt.Sprintf("images[%d]", i)
		out := manifest.Item{Ref: in.Image, Optional: in.Optional || e.in.Optional}
		if in.Image == "" {
			e.refuse(at, "the image is missing")
		}
		// Without a platform, that of the image's config applies, which is only known
		// when it is read.
		if in.Platform != "" {
			p, err := platform.Declared(in.Platform)
			key := platform.Key(platform.Normalize(p))
			if other, ok := seen[key]; ok && err == nil {
				err = fmt.Errorf("%q is the same platform as %q", yamlconf.Shorten(in.Platform), yamlconf.Shorten(other))
			}
			if err != nil {
				e.refuse(at+".platform", "%w", err)
			}
			out.Platform, seen[key] = p, in.Platform
		}
		if local.Is(in.Image) {
			out.Ref = e.local(at+".image", in.Image, func(p local.Place) error { _, err := p.Source(); return err })
		} else if full, ok := e.filled(at+".image", in.Image); ok && in.Image != "" {
			if err := examineReference(full); err != nil {
				e.refuse(at+".image", "%w", err)
			}
			refs = append(refs, in.Image)
		}
		e.out.Images = append(e.out.Images, out)
	}
	e.assembled(refs)
}

// filled expands the template of a source with example values. Only the tag is known
// before the source is read, so other names are errors. ok is false after an error.
func (e *entryPlanner) filled(key, text string) (string, bool) {
	full, err := example.Expand(text)
	switch {
	case err != nil:
		e.refuse(key, "%w", err)
	case depends(text, func(n *mirror.Names) { byPlace(n); n.Date, n.Time = "", "" }):
		e.refuse(key, "supports only .Tag")
	default:
		return full, true
	}
	e.fixed = "the source is not a valid template"
	return "", false
}

// assembled finds out which tags the combined images have. If one of their names depends
// on the tag, the rules for tags apply. Otherwise the source is fixed, and it has a tag
// only if all names have the same one.
func (e *entryPlanner) assembled(refs []string) {
	// The rules for tags select the tag that is filled in.
	if slices.ContainsFunc(refs, func(text string) bool { return depends(text, byTag) }) {
		return
	}
	e.fixed, e.untagged = "no image has {{.Tag}} in its name", len(refs) == 0
	first := ""
	for i, text := range refs {
		at := imageref.Cut(text)
		tag := at.Tag
		if tag == "" && at.Digest == "" {
			key := "template"
			if e.in.Template == "" {
				key = "images"
			}
			e.refuse(key, "%q has no tag; write :{{.Tag}}, or the tag", yamlconf.Shorten(text))
		}
		if i == 0 {
			first = tag
		}
		if tag != first || tag == "" || placeholder.MatchString(tag) {
			e.untagged = true
		}
	}
}

// program reads the Go module to build. A version makes the source fixed; otherwise its
// tags are the versions of the module.
func (e *entryPlanner) program() {
	e.out.Program, e.out.Base = e.in.Go, e.in.Base
	if local.Is(e.in.Base) {
		e.out.Base = e.local("base", e.in.Base, func(p local.Place) error { _, err := p.Source(); return err })
	}
	path, version, _ := strings.Cut(e.in.Go, "@")
	host, _, _ := strings.Cut(path, "/")
	if err := module.CheckImportPath(path); err != nil || !strings.Contains(host, ".") || strings.HasPrefix(path, ".") {
		e.refuse("go", "%q must be module/path@version or module/path@latest", yamlconf.Shorten(e.in.Go))
	}
	// Without a version, the rules for tags select versions; latest is the newest.
	if version != "" && version != "latest" {
		e.fixed = "the program has a version"
	}
}

// targets reads where the images go. Each target is expanded with example values to check
// it, but stays a template in the plan.
func (e *entryPlanner) targets() {
	if len(e.in.Target) == 0 {
		e.complain(e.at, "the target is missing")
	}
	seen := map[string]bool{}
	for i, text := range e.in.Target {
		key := fmt.Sprintf("target[%d]", i)
		if seen[text] {
			e.refuse(key, "%q is a duplicate", yamlconf.Shorten(text))
			continue
		}
		seen[text] = true
		full, err := example.Expand(text)
		if err != nil {
			e.refuse(key, "%w", err)
			continue
		}
		named := false // whether the target itself has a tag or name
		if local.Is(full) {
			p, _ := local.Parse(full)
			text, named = e.local(key, text, func(p local.Place) error { _, err := p.Sink(); return err }), p.Name != ""
		} else {
			named = e.repository(key, text, full)
		}
		e.apart(key, text, named, local.Is(full))
		e.out.Targets = append(e.out.Targets, text)
	}
}

// repository checks a target in a registry, and reports whether it has a tag. text is the
// template and full its expansion.
func (e *entryPlanner) repository(key, text, full string) bool {
	at := imageref.Cut(full)
	tag := at.Tag
	switch err := examineReference(full); {
	case at.Digest != "" || strings.Contains(full, "@"):
		e.refuse(key, "cannot have a digest; write a repository, with or without a tag")
	case err != nil && text != full:
		e.refuse(key, "%q gives %q, which is not an image reference", yamlconf.Shorten(text), yamlconf.Shorten(full))
	case err != nil:
		e.refuse(key, "%w", err)
	case e.untagged && tag == "" && (e.out.Template != "" || len(e.out.Images) > 0):
		e.refuse(key, "requires a tag, because the images have no common tag")
	}
	return tag != ""
}

// apart rejects a target that would be the same for several images: a later one would
// replace an earlier one without notice.
func (e *entryPlanner) apart(key, text string, named, isLocal bool) {
	switch {
	case e.untagged && depends(text, byTag):
		e.refuse(key, "uses the tag, but the source has none")
	case named && e.in.Go != "" && !depends(text, byTag):
		e.refuse(key, "is the same for every version, so later versions would not be built; write :{{.Tag}}, or no tag")
	case named && e.several() && !depends(text, byTag):
		e.refuse(key, "is the same for every tag; write :{{.Tag}}, or no tag")
	case placeholder.MatchString(e.out.Template) && depends(text, byRepository):
		if placeholder.MatchString(imageref.Cut(e.out.Template).Repository) {
			e.refuse(key, "uses the name of the template, which differs by platform")
		}
	case e.globbed && !depends(text, byRepository) && (named || !isLocal):
		e.refuse(key, "is the same for every repository; write {{.Repository}} or {{.Name}}")
	}
}

// local checks a local place with suits, and returns it with its path relative to the
// working directory. After an error it returns text.
func (e *entryPlanner) local(key, text string, suits func(local.Place) error) string {
	p, err := local.Parse(text)
	if err == nil {
		err = suits(p)
	}
	if err != nil {
		e.refuse(key, "%w", err)
		return text
	}
	return config.AnchorPlace(filepath.Dir(e.m.file), text)
}

// errNoEntries is the error for a file without entries.
var errNoEntries = errors.New("missing; it lists the images to copy")
