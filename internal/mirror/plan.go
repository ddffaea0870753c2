package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// This file turns an entry into jobs. Planning reads lists at most: tags, repositories,
// versions, or the images of a local place. Manifests in registries are first read by the
// moves.

// A job is one image to copy, with all its targets.
type job struct {
	entry   *Entry
	source  string           // for messages; the reference of an image that is copied
	from    places.Reference // the source of an image that is copied
	tag     string           // at the source
	name    string           // its name in a local place that has none; may be empty
	digest  v1.Hash          // of an image in a local place
	items   []manifest.Item  // of an image that is assembled
	targets []places.Reference
}

// globbing are the characters that make a path a glob.
const globbing = "*?[{"

// jobsOf lists the jobs of an entry. It reads lists of tags and repositories only if the
// rules of the entry depend on them, and no manifests. lost has the results of
// repositories that could not be read; they do not stop the others.
func (r *round) jobsOf(ctx context.Context, e *Entry) (jobs []job, lost []Result, err error) {
	switch {
	case e.Template != "" || len(e.Images) > 0:
		return r.planAssembled(ctx, e)
	case e.Program != "":
		return r.planProgram(ctx, e)
	}
	from, err := places.Parse(e.Image)
	if err != nil {
		return nil, nil, err
	}
	if from.Local() {
		return r.planLocal(ctx, e, from)
	}
	sources, err := r.repositories(ctx, from.Remote)
	if err != nil {
		return nil, nil, err
	}
	lists := make([][]job, len(sources))
	errs := make([]error, len(sources))
	var wg sync.WaitGroup
	for i, source := range sources {
		wg.Go(func() {
			errs[i] = guard.Do(func() (err error) { lists[i], err = r.planRepository(ctx, e, source); return err })
		})
	}
	wg.Wait()
	// A catalog may list repositories without tags, whose list of tags is not found.
	// Those that a glob has matched are ignored.
	globbed := strings.ContainsAny(from.Remote.Repository, globbing)
	for i, err := range errs {
		if unlisted := globbed && errors.Is(err, manifest.ErrNotFound); err != nil && !unlisted {
			lost = append(lost, failed(sources[i].String(), "", fmt.Errorf("%s: %w", sources[i], sourced(err))))
		}
	}
	return slices.Concat(lists...), lost, nil
}

// planLocal lists the images of a local place: the one that the entry names, or all.
// Their names give the values of templates. Of several images, one without a unique name
// is read by its digest.
func (r *round) planLocal(ctx context.Context, e *Entry, from places.Reference) (jobs []job, lost []Result, err error) {
	images, err := r.Store.List(ctx, from.String())
	if err != nil {
		return nil, nil, err
	}
	names := map[string]int{}
	for _, i := range images {
		names[i.Name]++
	}
	for _, i := range images {
		at := from
		if len(images) > 1 {
			if at.Place.Name = i.Name; names[i.Name] > 1 || i.Name == "" {
				at.Place.Digest = i.Digest
			}
		}
		repo, tag := places.CutName(i.Name)
		source := imageref.Parts{Repository: repo}
		if tag == "" && (len(images) > 1 || i.Name != "") && !repositoryName.MatchString(source.Path()) {
			// Neither the name nor a tag says more, so targets get the digest.
			source.Digest = i.Digest.String()
		}
		one, err := r.jobs(e, source, []string{tag}, func(string) job {
			return job{source: at.String(), from: at, name: i.Name, digest: i.Digest}
		})
		if err != nil {
			lost = append(lost, failed(at.String(), "", err))
		}
		jobs = append(jobs, one...)
	}
	return jobs, lost, nil
}

// planRepository lists the images of one repository. Without a tag and without rules the
// tag is latest, as in Docker.
func (r *round) planRepository(ctx context.Context, e *Entry, source imageref.Parts) (_ []job, err error) {
	tags := []string{source.Tag}
	switch {
	case source.Digest != "":
	case source.Tag == "" && e.Tags.none():
		tags = []string{"latest"}
	case source.Tag == "":
		if tags, err = r.tags(ctx, e, source.Repository); err != nil {
			return nil, err
		}
	}
	return r.jobs(e, source, tags, func(tag string) job {
		at := imageref.Parts{Repository: source.Repository, Tag: tag, Digest: source.Digest}
		j := job{source: at.String(), from: places.Remote(at)}
		if at.Digest = ""; tag != "" {
			j.name = at.Canonical().String()
		}
		return j
	})
}

// tags chooses among the tags of a repository, which are listed only if a rule needs
// them.
func (r *round) tags(ctx context.Context, e *Entry, repo string) (there []string, err error) {
	if e.Tags.patterned() {
		if there, err = r.list(ctx, repo); err != nil {
			return nil, err
		}
		there = places.ValidTags(ctx, r.Log, repo, there)
	}
	return e.Tags.matching(there), nil
}

// repositories returns the repositories that the path of a source matches. For a glob it
// reads the catalog of the registry, which many registries do not offer.
func (r *round) repositories(ctx context.Context, source imageref.Parts) ([]imageref.Parts, error) {
	if !strings.ContainsAny(source.Repository, globbing) {
		return []imageref.Parts{source}, nil
	}
	there, err := r.Store.List(ctx, source.Host()+"/")
	if err != nil {
		return nil, err
	}
	var out []imageref.Parts
	for _, repo := range there {
		if matchGlob(source.Path(), repo.Name) {
			out = append(out, imageref.Parts{Repository: source.Host() + "/" + repo.Name, Tag: source.Tag})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("none of the %d repositories of %s matches %s: %w", len(there), source.Host(), source.Path(), manifest.ErrNotFound)
	}
	return out, nil
}

// jobs makes a job for each tag, with its targets. A template that gives an invalid
// target fails all jobs of the source.
func (r *round) jobs(e *Entry, source imageref.Parts, tags []string, from func(tag string) job) ([]job, error) {
	var out []job
	for _, tag := range tags {
		j := from(tag)
		j.entry, j.tag = e, tag
		names := e.names(source, j.from.Local(), tag, r.start)
		if tag != "" && !places.IsTag(names.Tag) {
			return nil, invalidTemplate(tag, "is renamed to %q, which is not a tag", names.Tag)
		}
		for _, text := range e.Targets {
			target, err := target(text, names, j.name, source.Digest)
			if err != nil {
				return nil, err
			}
			if source.Digest != "" && len(e.Platforms) > 0 && target.Remote.Digest != "" {
				return nil, invalidTemplate(target.String(), "requires a tag, because copying only some platforms changes the digest")
			}
			if !slices.ContainsFunc(j.targets, func(t places.Reference) bool { return t.String() == target.String() }) {
				j.targets = append(j.targets, target)
			}
		}
		out = append(out, j)
	}
	return out, nil
}

// target fills in the template of a target. A target without a tag gets the tag of the
// source, or its digest. In a local place the image gets the given name.
func target(text string, n Names, name, digest string) (places.Reference, error) {
	full, err := n.Fill(text)
	if err != nil {
		return places.Reference{}, err
	}
	at, err := places.Parse(full)
	switch {
	case err != nil:
		return at, invalidTemplate(text, "gives %q: %w", full, err)
	case at.Local():
		return at.Named(name), nil
	case at.Remote.Tag != "" || at.Remote.Digest != "":
	case n.Tag != "":
		at.Remote.Tag = n.Tag
	case digest != "":
		at.Remote.Digest = digest
	default:
		at.Remote.Tag = "latest"
	}
	return at, nil
}

// planProgram lists the versions of a program to build. Without rules it is the one that
// the go command takes for latest, which is a pre-release only if there is no release.
func (r *round) planProgram(ctx context.Context, e *Entry) (jobs []job, lost []Result, err error) {
	module, version, _ := strings.Cut(e.Program, "@")
	tags := []string{version}
	if e.Tags.patterned() || version == "" || version == "latest" {
		programs, err := r.programs(e)
		if err != nil {
			return nil, nil, err
		}
		latest, all, err := programs.Versions(ctx, module)
		if err != nil {
			return nil, nil, err
		}
		if tags = []string{latest}; !e.Tags.none() {
			tags = e.Tags.matching(all)
		}
	}
	// A version may have a +, which a tag may not: names replaces it.
	jobs, err = r.jobs(e, imageref.Parts{Repository: module}, tags, func(tag string) job {
		return job{source: module + "@" + tag, name: imageref.Parts{Repository: module, Tag: strings.ReplaceAll(tag, "+", "-")}.String()}
	})
	return jobs, nil, err
}

// wanted returns the platforms that an entry keeps, in normal form.
func (e *Entry) wanted() []ocispec.Platform {
	out := make([]ocispec.Platform, len(e.Platforms))
	for i, p := range e.Platforms {
		out[i] = p.Wanted
	}
	return out
}

// list returns the tags of a repository. They are read once in a run, an error included.
func (r *round) list(ctx context.Context, repo string) ([]string, error) {
	return r.listings.Do(ctx, repo, func() (tags []string, err error) {
		err = guard.Do(func() error {
			listed, err := r.Store.List(ctx, repo)
			for _, tag := range listed {
				tags = append(tags, tag.Name)
			}
			return err
		})
		return tags, err
	})
}
