package serve

import (
	"context"
	"errors"
	"log"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/versions"
	"github.com/mabuild/mabuild/internal/web"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file has the pages of the registry: its repositories at /, and below /r/ the
// repository NAME, the tag NAME:TAG and the manifest NAME@DIGEST. The characters : and @
// are in no name of a repository. A page reads the store, and never changes it.

const (
	maxRepositories = 50 // of a page
	maxTags         = 25 // of a page
)

// browses reports whether a request is one of a browser for a page. Paths of the
// specification never are, so that no answer there depends on Accept.
func browses(r *http.Request) bool {
	return r.URL.Path != "/v2" && !strings.HasPrefix(r.URL.Path, "/v2/") && web.Preferred(r.Header)
}

// A browser answers with the pages of a store.
type browser struct {
	store *Store
	log   *log.Logger
}

// page returns the page of a request. A name that does not exist is a page, too.
func (b *browser) page(r *http.Request) (int, web.Page) {
	page, err := b.find(r)
	if err == nil {
		return http.StatusOK, page
	}
	e := answerTo(err)
	if errors.Is(err, manifest.ErrNotFound) {
		e = refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s", err)
	}
	if e.Status >= http.StatusInternalServerError {
		b.log.Printf("%s: %s", r.Method, err)
	}
	head := "Not readable"
	if e.Status < http.StatusInternalServerError {
		head = "Not found"
	}
	page = web.Say(head, e.Message)
	page.Path = []web.Link{{Text: "Repositories", To: "/"}}
	return e.Status, page
}

// find returns the page that the path names.
func (b *browser) find(r *http.Request) (web.Page, error) {
	if r.URL.Path == "/" {
		return b.repositories(r)
	}
	ref, ok := strings.CutPrefix(r.URL.Path, "/r/")
	if !ok {
		return web.Page{}, refuse(http.StatusNotFound, "UNSUPPORTED", "the registry has no such page")
	}
	name, reference := ref, ""
	if at := strings.IndexAny(ref, ":@"); at >= 0 {
		name, reference = ref[:at], ref[at+1:]
		if digest := strings.Contains(reference, ":"); digest != (ref[at] == '@') {
			return web.Page{}, nameInvalid(ref)
		}
	}
	if err := checkRepository(name); err != nil {
		return web.Page{}, err
	}
	if reference == "" {
		return b.tags(r, name)
	}
	return b.image(r, name, reference)
}

// at returns the address of the page of a repository.
func at(repository string) string { return "/r/" + repository }

// pager returns the part of n items that the query's page has, and the links to the
// others. A page that does not exist is an error.
func pager(r *http.Request, n, most int) (from, to int, p web.Pager, err error) {
	p = web.Pager{Page: 1, Pages: max(1, (n+most-1)/most)}
	if text := r.URL.Query().Get("page"); text != "" {
		if p.Page, err = strconv.Atoi(text); err != nil || p.Page < 1 || p.Page > p.Pages {
			return 0, 0, p, refuse(http.StatusNotFound, "UNSUPPORTED", "there is no page %.20q of %d", text, p.Pages)
		}
	}
	link := func(page int) string { return r.URL.EscapedPath() + "?page=" + strconv.Itoa(page) }
	if p.Page > 1 {
		p.Back = link(p.Page - 1)
	}
	if p.Page < p.Pages {
		p.Next = link(p.Page + 1)
	}
	from = (p.Page - 1) * most
	return from, min(n, from+most), p, nil
}

// repositories returns the page with the repositories.
func (b *browser) repositories(r *http.Request) (web.Page, error) {
	names, err := b.store.Repositories()
	if err != nil {
		return web.Page{}, err
	}
	from, to, pager, err := pager(r, len(names), maxRepositories)
	if err != nil {
		return web.Page{}, err
	}
	data := web.Listing{Host: r.Host, All: len(names), Pager: pager}
	for _, name := range names[from:to] {
		row := web.Listed{Name: web.Link{Text: name, To: at(name)}}
		tags, _, err := b.sorted(name)
		switch {
		case err != nil:
			row.Problem = b.explain(err)
		case len(tags) > 0:
			row.Tags, row.Newest = len(tags), web.Link{Text: tags[0], To: at(name) + ":" + tags[0]}
		}
		data.Rows = append(data.Rows, row)
	}
	return web.Page{Kind: web.Repositories, Title: "Repositories of " + r.Host, Path: []web.Link{{Text: "Repositories"}}, Data: data}, nil
}

// explain returns what a page says about an error. A failure of this machine is for the
// log.
func (b *browser) explain(err error) string {
	var e *Error
	switch {
	case errors.Is(err, manifest.ErrNotFound), errors.Is(err, manifest.ErrMismatch), errors.Is(err, manifest.ErrObsolete), errors.Is(err, errReads):
		return err.Error()
	case errors.As(err, &e):
		return e.Message
	}
	b.log.Printf("page: %s", err)
	return answerTo(err).Message
}

// sorted returns the tags of a repository, the newest version first, and the number of
// tags of referrers, which it leaves out.
func (b *browser) sorted(repository string) (tags []string, hidden int, err error) {
	all, err := b.store.Tags(repository)
	if err != nil {
		return nil, 0, err
	}
	tags = slices.DeleteFunc(slices.Clone(all), manifest.IsReferrersTag)
	versions.Sort(tags)
	slices.Reverse(tags)
	return tags, len(all) - len(tags), nil
}

// tags returns the page of a repository: its tags and their platforms.
func (b *browser) tags(r *http.Request, repository string) (web.Page, error) {
	tags, hidden, err := b.sorted(repository)
	if err != nil {
		return web.Page{}, err
	}
	from, to, pager, err := pager(r, len(tags), maxTags)
	if err != nil {
		return web.Page{}, err
	}
	s := &source{b.store, repository, new(atomic.Int64)}
	return web.Page{
		Kind: web.Repository, Title: repository, Path: []web.Link{{Text: "Repositories", To: "/"}, {Text: repository}},
		Data: web.Tags{Name: repository, All: len(tags), Hidden: hidden, Pager: pager, Matrix: b.matrix(r.Context(), s, tags[from:to])},
	}, nil
}

// matrix reads what tags name. A tag that cannot be read is a row that says why: the
// registry may change while it is read.
func (b *browser) matrix(ctx context.Context, s *source, tags []string) web.Matrix {
	rows := make([]web.Inspected, len(tags))
	known := map[v1.Hash]*web.Inspected{} // several tags may name one manifest
	for i, tag := range tags {
		one := &rows[i]
		d, err := s.Resolve(ctx, tag)
		if same := known[d.Digest]; err == nil && same != nil {
			*one = *same
			one.Name = web.Link{Text: tag, To: at(s.repository) + ":" + tag}
			continue
		}
		if err == nil {
			one.Digest, one.At = d.Digest.String(), at(s.repository)
			one.Report, one.Notes, err = b.inspect(ctx, s, d.Digest.String(), manifest.InspectOptions{Sizes: true})
			known[d.Digest] = one
		}
		switch {
		case errors.Is(err, manifest.ErrNotFound):
			one.State, one.Problem = "removed", "The tag or its manifest was removed while the page was made."
		case err != nil:
			one.State, one.Problem = "not readable", b.explain(err)
		}
		one.Name = web.Link{Text: tag, To: at(s.repository) + ":" + tag}
	}
	return web.NewMatrix("Tag", rows)
}

// inspect reports what a reference names. If what the options ask for cannot be read, for
// example the size of an image that was removed, the report lacks it and a note says why.
func (b *browser) inspect(ctx context.Context, s *source, ref string, options manifest.InspectOptions) (*manifest.Report, []string, error) {
	report, err := manifest.Inspect(ctx, s, ref, options)
	if err == nil {
		return report, nil, nil
	}
	less, again := manifest.Inspect(ctx, s, ref, manifest.InspectOptions{})
	if again != nil {
		return nil, nil, err
	}
	return less, []string{"incomplete: " + b.explain(err)}, nil
}

// image returns the page of a tag or digest.
func (b *browser) image(r *http.Request, repository, reference string) (web.Page, error) {
	s := &source{b.store, repository, new(atomic.Int64)}
	report, notes, err := b.inspect(r.Context(), s, reference, manifest.InspectOptions{Sizes: true, Referrers: true})
	if err != nil && !errors.Is(err, manifest.ErrMismatch) && !errors.Is(err, manifest.ErrObsolete) {
		return web.Page{}, err
	}
	name, last := repository+":"+reference, reference
	if algorithm, hex, ok := strings.Cut(reference, ":"); ok {
		name, last = repository+"@"+reference, algorithm+":"+hex[:12]
	}
	// The page has the whole digest below its head.
	shown := name[:len(repository)+1] + last
	v := web.View{Name: shown, At: at(repository), Report: report, Problems: notes}
	if err != nil {
		v.Problems = append(v.Problems, b.explain(err))
	} else {
		if len(report.Platforms) > 0 {
			v.Pull = append(v.Pull, "docker pull "+r.Host+"/"+name)
			if !strings.Contains(reference, ":") {
				v.Pull = append(v.Pull, "docker pull "+r.Host+"/"+repository+"@"+report.Digest.String())
			}
		}
		if err := b.details(r.Context(), s, &v); err != nil {
			v.Problems = append(v.Problems, b.explain(err))
		}
	}
	return web.Page{
		Kind: web.Image, Title: shown, Data: v,
		Path: []web.Link{{Text: "Repositories", To: "/"}, {Text: repository, To: at(repository)}, {Text: last}},
	}, nil
}

// details adds what the manifest and the config of a single image or artifact say.
func (b *browser) details(ctx context.Context, s *source, v *web.View) error {
	c, err := s.Get(ctx, v.Report.Digest.String())
	if err != nil {
		return err
	}
	if v.Report.Index {
		v.Subject = v.Report.Subject
		return nil
	}
	img, ok := c.(v1.Image)
	if !ok {
		return nil
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	if m.Subject != nil {
		v.Subject = &m.Subject.Digest
	}
	v.LayersName = "Layers"
	if v.Report.ArtifactType != "" {
		v.LayersName = "Content"
	}
	for _, l := range m.Layers {
		v.Layers = append(v.Layers, manifest.Layer{Digest: l.Digest, Type: l.MediaType, Size: l.Size})
	}
	for _, p := range v.Report.Platforms {
		wanted, err := platform.Parse(p.Platform)
		if err != nil {
			continue
		}
		detailed, err := manifest.Inspect(ctx, s, v.Report.Digest.String(), manifest.InspectOptions{Platform: wanted})
		if err != nil {
			return err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return err
		}
		v.Detail, v.History = detailed.Platforms[0].Image, config.History
	}
	return nil
}
