package plan

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
)

// repository returns the repository of a program whose tags do not name one. It is below
// repo or, if that is not set, below KO_DOCKER_REPO; naming gives the rest of the path.
// Import paths are in lower case, as repository names must be.
func (p *Planner) repository(ctx context.Context, spec build.Spec, c config.Build) (string, error) {
	repo := c.Repo
	if theirs := p.Getenv("KO_DOCKER_REPO"); repo == "" && theirs != "" {
		// These are ko's names for local daemons.
		if theirs == "ko.local" || theirs == "kind.local" {
			return "", usage("use mabuild build to write to the Docker daemon", "KO_DOCKER_REPO=%s is not a registry", theirs)
		}
		p.adopted.Do(func() { // programs are resolved concurrently
			p.Log.InfoContext(ctx, "pushing to KO_DOCKER_REPO, "+theirs+", because no other destination is set")
			for name, ours := range map[string]string{"KO_DEFAULTPLATFORMS": "MABUILD_PLATFORMS", "KO_DEFAULTBASEIMAGE": "MABUILD_BASE"} {
				if p.Getenv(name) != "" {
					p.Log.WarnContext(ctx, name+" is not used; set "+ours)
				}
			}
		})
		repo = theirs
	}
	if repo == "" {
		// A tag with a repository does not say where the other tags belong.
		whole := slices.IndexFunc(c.Tags, places.HasRepository)
		bare := slices.IndexFunc(c.Tags, func(tag string) bool { return !places.HasRepository(tag) })
		if whole >= 0 && bare >= 0 {
			return "", usage("write -t "+imageref.Cut(c.Tags[whole]).Repository+":"+c.Tags[bare], "tag %q has no repository", c.Tags[bare])
		}
		return "", usage("use -t ghcr.io/acme/"+spec.Name+":v1, --repo ghcr.io/acme, or MABUILD_REPO", "no destination for %q", spec.Name)
	}
	repo = strings.TrimSuffix(repo, "/")
	switch {
	case c.Naming == "bare":
		return repo, nil
	case c.IsPrebuilt() && c.Naming != "program":
		return "", usage("use --naming program or bare, or -t with a repository", "--naming %s: a prebuilt program has no import path", c.Naming)
	}
	switch c.Naming {
	case "import-path":
		return repo + "/" + strings.ToLower(packageOf(spec).Main.PkgPath), nil
	case "base-import-path":
		return repo + "/" + strings.ToLower(path.Base(packageOf(spec).Main.PkgPath)), nil
	}
	return repo + "/" + spec.Name, nil
}

// refs returns the references that a program is pushed to, without duplicates: a tag with
// a repository as it is, a tag alone in the program's repository.
func (p *Planner) refs(ctx context.Context, spec build.Spec, c config.Build) ([]string, error) {
	var refs []string
	var errs []error
	for _, text := range c.Tags {
		repo, tag, err := fillTag(spec.Vars, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := p.named(c, text, repo); err != nil {
			errs = append(errs, err)
			continue
		}
		if repo == "" {
			// After an error the loop ends: it would be the same for every other tag.
			if repo, err = p.repository(ctx, spec, c); err != nil {
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

// named returns an error for the name of a branch, such as feature/x, that would be a repository
// of Docker Hub. Without a destination for tags alone, such a name is one.
func (p *Planner) named(c config.Build, text, repo string) error {
	of := imageref.Cut(text)
	if repo == "" || of.Named() || c.Repo == "" && p.Getenv("KO_DOCKER_REPO") == "" {
		return nil
	}
	return usage("a tag has no slash and no colon: write -t '{{tag .Branch}}' for a branch; for Docker Hub, write "+of.Canonical().String(), "tag %q names a repository without a registry", text)
}

// filledIn matches a template action.
var filledIn = regexp.MustCompile(`\{\{.*?\}\}`)

// fillTag expands the templates in a tag, or in a reference that also names its
// repository. repo is "" for a tag alone; tag is "" for a reference without one.
// Templates are only allowed in the tag: the name of a branch can be chosen by the author
// of a pull request, and must not decide which repository is pushed to.
func fillTag(v build.Vars, text string) (repo, tag string, err error) {
	// Templates may contain / and :, so they are masked to find the parts. Positions stay
	// the same.
	masked := filledIn.ReplaceAllStringFunc(text, func(a string) string { return strings.Repeat("x", len(a)) })
	tag = text
	if places.HasRepository(masked) {
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
	case !places.IsTag(full):
		if text == "" {
			return "", "", usage("omit -t, or give it a value; check that the script's variables are set", "a tag is empty")
		}
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
