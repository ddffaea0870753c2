package mirror

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
)

// A job is one image to be copied: what it is made of and where it goes.
type job struct {
	entry   *Entry
	source  string          // for people; of a plain image its reference
	tag     string          // at the source
	items   []manifest.Item // of an image that is made of several
	targets []string
}

// globbing are the characters that make a path a glob.
const globbing = "*?[{"

// plan lists the images of an entry. Only the lists of tags and repositories are
// read, and only where the entry's rules depend on them. lost are those of which
// nothing could be found out; they stop no other.
func (r *run) plan(ctx context.Context, e *Entry) (jobs []job, lost []Result, err error) {
	switch {
	case e.Template != "" || len(e.Images) > 0:
		return r.planAssembled(ctx, e)
	case e.Program != "":
		return r.planProgram(ctx, e)
	case r.Store.Local(e.Image):
		jobs, err = r.planLocal(ctx, e)
		return jobs, nil, err
	}
	sources, err := r.repositories(ctx, cutRef(e.Image))
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
	globbed := strings.ContainsAny(cutRef(e.Image).repo, globbing)
	for i, err := range errs {
		if unlisted := globbed && errors.Is(err, manifest.ErrNotFound); err != nil && !unlisted {
			lost = append(lost, failed(sources[i].String(), "", fmt.Errorf("%s: %w", sources[i], sourced(err))))
		}
	}
	return slices.Concat(lists...), lost, nil
}

// planLocal lists the images of a local place: the one that is named, or all that
// have names, each with what its name says.
func (r *run) planLocal(ctx context.Context, e *Entry) ([]job, error) {
	names, err := r.Store.Names(ctx, e.Image)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 { // the only image there is
		return r.jobs(e, ref{}, []string{""}, func(string) job { return job{source: e.Image} })
	}
	var all []job
	for _, name := range names {
		at := cutRef(name)
		if at.tag == "" && !strings.Contains(name, "/") { // a tag alone
			at = ref{tag: name}
		}
		jobs, err := r.jobs(e, at, []string{at.tag}, func(string) job {
			return job{source: r.Store.Beside(e.Image, v1.Hash{}, name)}
		})
		if err != nil {
			return nil, err
		}
		all = append(all, jobs...)
	}
	return all, nil
}

// planRepository lists the images of one repository.
func (r *run) planRepository(ctx context.Context, e *Entry, source ref) (_ []job, err error) {
	tags := []string{source.tag}
	switch {
	case source.digest != "":
	case source.tag == "" && e.Tags.none():
		tags = []string{"latest"}
	case source.tag == "":
		if tags, err = r.tags(ctx, e, source.repo); err != nil {
			return nil, err
		}
	}
	return r.jobs(e, source, tags, func(tag string) job {
		return job{source: ref{repo: source.repo, tag: tag, digest: source.digest}.String()}
	})
}

// tags chooses among the tags of a repository, which are listed only if need be.
func (r *run) tags(ctx context.Context, e *Entry, repo string) (there []string, err error) {
	if e.Tags.patterned() {
		if there, err = r.list(ctx, repo); err != nil {
			return nil, err
		}
	}
	return e.Tags.choose(there), nil
}

// repositories returns those that a source's path stands for.
func (r *run) repositories(ctx context.Context, source ref) ([]ref, error) {
	if !strings.ContainsAny(source.repo, globbing) {
		return []ref{source}, nil
	}
	there, err := r.Store.Repositories(ctx, source.host())
	if err != nil {
		return nil, err
	}
	var out []ref
	for _, path := range there {
		if matchGlob(source.path(), path) {
			out = append(out, ref{repo: source.host() + "/" + path, tag: source.tag})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("none of the %d repositories of %s is %s: %w", len(there), source.host(), source.path(), manifest.ErrNotFound)
	}
	return out, nil
}

// tagName is what may be a tag (distribution-spec, "Pulling manifests").
var tagName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// jobs makes a job of each tag and says where it goes.
func (r *run) jobs(e *Entry, source ref, tags []string, from func(tag string) job) ([]job, error) {
	var out []job
	for _, tag := range tags {
		j := from(tag)
		j.entry, j.tag = e, tag
		names := e.names(source, tag, r.start)
		if tag != "" && !tagName.MatchString(names.Tag) {
			return nil, &TemplateError{tag, fmt.Sprintf("is renamed to %q, which is no tag", names.Tag)}
		}
		for _, text := range e.Targets {
			target, err := r.target(text, names, j.source, source.digest)
			if err != nil {
				return nil, err
			}
			if source.digest != "" && len(e.Platforms) > 0 && cutRef(target).digest != "" {
				return nil, &TemplateError{target, "wants a tag: with some platforms left out the digest is another"}
			}
			if !slices.Contains(j.targets, target) {
				j.targets = append(j.targets, target)
			}
		}
		out = append(out, j)
	}
	return out, nil
}

// target fills in the template of a target. One that names no tag gets that of the
// source, or its digest; a local place is given the name of the source.
func (r *run) target(text string, n Names, source, digest string) (string, error) {
	full, err := n.Expand(text)
	if err != nil || full == "" {
		return full, err
	}
	if r.Store.Local(full) {
		return r.Store.Named(full, source), nil
	}
	at := cutRef(full)
	switch {
	case at.tag != "" || at.digest != "":
	case n.Tag != "":
		at.tag = n.Tag
	case digest != "":
		at.digest = digest
	default:
		at.tag = "latest"
	}
	return at.String(), nil
}

// planProgram lists the versions of a program that are to be there: without rules
// the one that the go command takes for the latest, which is no pre-release where
// there is any other.
func (r *run) planProgram(ctx context.Context, e *Entry) (jobs []job, lost []Result, err error) {
	module, version, _ := strings.Cut(e.Program, "@")
	tags := []string{version}
	if e.Tags.patterned() || version == "" || version == "latest" {
		latest, all, err := r.programs(e).Versions(ctx, module)
		if err != nil {
			return nil, nil, err
		}
		if tags = []string{latest}; !e.Tags.none() {
			tags = e.Tags.choose(all)
		}
	}
	// A version may have a +, which a tag may not: names replaces it.
	jobs, err = r.jobs(e, ref{repo: module}, tags, func(tag string) job { return job{source: module + "@" + tag} })
	return jobs, nil, err
}

// wanted lists the platforms that an entry keeps.
func (e *Entry) wanted() []ocispec.Platform {
	out := make([]ocispec.Platform, len(e.Platforms))
	for i, p := range e.Platforms {
		out[i] = p.Wanted
	}
	return out
}

// A listing is read once a run.
type listing struct {
	ready chan struct{}
	tags  []string
	err   error
}

// list returns the tags of a repository.
func (r *run) list(ctx context.Context, repo string) ([]string, error) {
	r.mu.Lock()
	l := r.listings[repo]
	mine := l == nil
	if mine {
		l = &listing{ready: make(chan struct{})}
		r.listings[repo] = l
	}
	r.mu.Unlock()
	if mine {
		l.err = guard.Do(func() (err error) { l.tags, err = r.Store.Tags(ctx, repo); return err })
		close(l.ready)
	}
	select {
	case <-l.ready:
		return l.tags, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
