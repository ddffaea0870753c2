package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/publish"
)

// strategies are ko's flags for the path below repo, with the value of the key naming to
// which each corresponds.
var strategies = []struct{ flag, short, naming, doc string }{
	{"bare", "", "bare", "Push to the repository itself"},
	{"preserve-import-paths", "P", "import-path", "Use the import path (repo/example.com/cmd/app)"},
	{"base-import-paths", "B", "base-import-path", "Use the last element of the import path (repo/app)"},
}

// bindNames adds ko's flags for names of images and lists of references.
func (o *pushOptions) bindNames(flags *pflag.FlagSet) {
	for _, s := range strategies {
		flags.BoolP(s.flag, s.short, false, s.doc)
	}
	flags.BoolVar(&o.tagOnly, "tag-only", false, "Print repository:tag instead of repository@digest")
	flags.StringVar(&o.refsFile, "image-refs", "", "Write the references of all indexes and images to `FILE`, one per line")
}

// named applies ko's flags for names to the configuration, for all builds. They have no
// key themselves, so config.Load does not see them.
func (a *app) named(flags *pflag.FlagSet) error {
	var given []string
	naming := ""
	for _, s := range strategies {
		if on, err := flags.GetBool(s.flag); err == nil && on {
			given, naming = append(given, "--"+s.flag), s.naming
		}
	}
	if len(given) > 0 && flags.Changed("naming") {
		given = append(given, "--naming")
	}
	if len(given) > 1 {
		return usage("use only one of them", "%s cannot be used together", strings.Join(given, " and "))
	}
	if naming == "" {
		return nil
	}
	a.config.Naming = naming
	for i := range a.config.Builds {
		a.config.Builds[i].Naming = naming
	}
	return nil
}

// bindKo adds flags that have another name in ko. In ko, items of labels and annotations
// are separated by commas. The flags are hidden from completion but not from the help.
func bindKo(flags *pflag.FlagSet) {
	for _, f := range []struct{ theirs, ours string }{{"image-label", "label"}, {"image-annotation", "annotation"}, {"image-user", "user"}, {"tags", "tag"}} {
		flags.Var(&koFlag{flags, f.ours}, f.theirs, "Same as --"+f.ours)
		flags.Lookup(f.theirs).Hidden = true
	}
}

// A koFlag sets another flag of the command. It implements [pflag.Value].
type koFlag struct {
	flags *pflag.FlagSet
	ours  string
}

// Set splits text like ko, as a line of CSV, and sets each item; a user is not a list. A
// text without a comma is passed on as it is, since CSV would reject quotes in it.
func (f *koFlag) Set(text string) error {
	items := []string{text}
	if strings.Contains(text, ",") && f.ours != "user" {
		var err error
		if items, err = csv.NewReader(strings.NewReader(text)).Read(); err != nil {
			return err
		}
	}
	for _, item := range items {
		if err := f.flags.Set(f.ours, item); err != nil {
			return err
		}
	}
	return nil
}

// String is empty: the flag has no value itself.
func (f *koFlag) String() string { return "" }
func (f *koFlag) Type() string   { return "list" }

// repository returns the repository of a program whose tags do not name one. It is below
// repo or, if that is not set, below KO_DOCKER_REPO; naming gives the rest of the path.
// Import paths are in lower case, as repository names must be.
func (a *app) repository(ctx context.Context, spec build.Spec, c config.Build) (string, error) {
	repo := c.Repo
	if theirs := os.Getenv("KO_DOCKER_REPO"); repo == "" && theirs != "" {
		// These are ko's names for local daemons.
		if theirs == "ko.local" || theirs == "kind.local" {
			return "", usage("use mabuild build to write to the Docker daemon", "KO_DOCKER_REPO=%s is not a registry", theirs)
		}
		a.adopted.Do(func() { // programs are resolved concurrently
			a.log.InfoContext(ctx, "pushing to KO_DOCKER_REPO, "+theirs+", because no other destination is set")
		})
		repo = theirs
	}
	if repo == "" {
		return "", usage("-t ghcr.io/acme/"+spec.Name+":v1, --repo ghcr.io/acme, or MABUILD_REPO", "no destination for %q", spec.Name)
	}
	repo = strings.TrimSuffix(repo, "/")
	switch c.Naming {
	case "bare":
		return repo, nil
	case "import-path":
		return repo + "/" + strings.ToLower(packageOf(spec).Main.PkgPath), nil
	case "base-import-path":
		return repo + "/" + strings.ToLower(path.Base(packageOf(spec).Main.PkgPath)), nil
	}
	return repo + "/" + spec.Name, nil
}

// refs returns the references that a program is pushed to, without duplicates: a tag with
// a repository as it is, a tag alone in the program's repository.
func (a *app) refs(ctx context.Context, spec build.Spec, c config.Build) ([]string, error) {
	var refs []string
	var errs []error
	for _, text := range c.Tags {
		repo, tag, err := fillTag(spec.Vars, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if repo == "" {
			// After an error the loop ends: it would be the same for every other tag.
			if repo, err = a.repository(ctx, spec, c); err != nil {
				errs = append(errs, err)
				break
			}
		}
		ref := joinTag(repo, tag)
		errs = append(errs, places.CheckTag(ref))
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, errors.Join(errs...)
}

// isFull reports whether a tag also names its repository. A tag alone has no slash or
// colon.
func isFull(tag string) bool { return strings.ContainsAny(tag, "/:") }

var (
	// filledIn matches a template action.
	filledIn = regexp.MustCompile(`\{\{.*?\}\}`)
	// validTag matches a tag (distribution-spec, "Pulling manifests").
	validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

// fillTag expands the templates in a tag, or in a reference that also names its
// repository. repo is "" for a tag alone; tag is "" for a reference without one.
// Templates are only allowed in the tag: the name of a branch can be chosen by the author
// of a pull request, and must not decide which repository is pushed to.
func fillTag(v build.Vars, text string) (repo, tag string, err error) {
	// Templates may contain / and :, so they are masked to find the parts. Positions stay
	// the same.
	masked := filledIn.ReplaceAllStringFunc(text, func(a string) string { return strings.Repeat("x", len(a)) })
	tag = text
	if isFull(masked) {
		at := strings.LastIndexByte(masked, ':')
		if at < strings.LastIndexByte(masked, '/') {
			at = len(text)
		}
		repo, tag = text[:at], strings.TrimPrefix(text[at:], ":")
		if tag == "" && at < len(text) {
			return "", "", usage("write a tag after the colon, or omit the colon", "tag %q is empty", text)
		}
		if filledIn.MatchString(repo) {
			return "", "", usage("write the repository, and a template after its colon: ghcr.io/acme/app:{{tag .Branch}}", "tag %q: templates are allowed only after the colon", text)
		}
		if tag == "" {
			return repo, "", nil
		}
	}
	full, err := v.Expand(tag)
	switch {
	case err != nil:
		return "", "", err
	case strings.Contains(full, "@") && full == tag:
		return repo, full, nil // refs checks the whole reference
	case !validTag.MatchString(full):
		way := "a tag has at most 128 characters: letters, digits and _ . -"
		if filledIn.MatchString(tag) {
			way += "; {{tag .Version}} and {{tag .Branch}} give valid tags"
		}
		return "", "", usage(way, "tag %q gives %q, which is not a valid tag", text, full)
	}
	return repo, full, nil
}

// joinTag returns repo:tag, or repo if tag is "".
func joinTag(repo, tag string) string {
	if tag == "" {
		return repo
	}
	return repo + ":" + tag
}

// writeRefs writes the references of the indexes and images that were published, one per
// line, in the format of ko's --image-refs.
func writeRefs(file string, done []*publish.Result) error {
	var lines strings.Builder
	for _, d := range done {
		if d == nil {
			continue
		}
		for _, repo := range d.Repositories {
			fmt.Fprintf(&lines, "%s@%s\n", repo, d.Digest)
			for _, img := range d.Images {
				digest, err := img.Digest()
				if err != nil {
					return err
				}
				if digest != d.Digest { // with --no-index they are the same
					fmt.Fprintf(&lines, "%s@%s\n", repo, digest)
				}
			}
		}
	}
	return replaceFile(file, []byte(lines.String()))
}
