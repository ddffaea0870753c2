package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest/local"
)

// publishAll publishes all plans at once, as [publish.Publisher.All] does, and returns the
// result of each, in their order. If some are published and others not, the error is a
// [hint.PartialError].
func publishAll(ctx context.Context, pub *publish.Publisher, plans []publish.Plan, each func(int, *publish.Result)) ([]*publish.Result, error) {
	for _, p := range plans {
		for _, o := range p.Outputs {
			if pub.SBOM != "" && !o.HoldsSBOMs() {
				pub.Log.WarnContext(ctx, o.Text+" cannot hold SBOMs; write them to files with --sbom-dir")
			}
		}
	}
	done, errs := pub.All(ctx, plans, each)
	if len(plans) > 1 {
		for i, p := range plans {
			errs[i] = hint.Named(p.Spec.Name, errs[i])
		}
	}
	err := errors.Join(errs...)
	if err != nil && slices.ContainsFunc(done, (*publish.Result).Anywhere) {
		err = hint.PartialError{Err: err}
	}
	return done, err
}

// printResults prints the result of push and build: one line for each program and
// repository or local destination, in the order given. It is repository@digest, or with
// byTag the first tag in the repository; for Docker and podman it is the name. If an image goes to standard output, all lines
// go to standard error.
func (a *app) printResults(done []*publish.Result, byTag bool) error {
	out := a.stdout
	var lines strings.Builder
	for _, d := range done {
		if d == nil {
			continue
		}
		for _, repo := range d.Repositories {
			line := repo + "@" + d.Digest.String()
			if i := slices.IndexFunc(d.Tags, func(tag string) bool { return imageref.Cut(tag).Repository == repo }); byTag && i >= 0 {
				line = d.Tags[i]
			}
			fmt.Fprintln(&lines, line)
		}
		for _, o := range d.Outputs {
			if o.Place.Streams() {
				out = a.stderr
			}
			switch o.Place.Form {
			case local.FormDockerDaemon: // Docker and podman run an image by its name
				fmt.Fprintln(&lines, o.Ref)
			case local.FormDockerArchive: // whose manifest is Docker's own, with another digest
				fmt.Fprintln(&lines, local.Place{Form: o.Place.Form, Path: o.Place.Path, Name: o.Ref})
			default:
				fmt.Fprintf(&lines, "%s@%s\n", o.Text, o.Digest)
			}
		}
	}
	_, err := io.WriteString(out, lines.String())
	return err
}

// outcome says which programs were published after an error, and which were not.
func outcome(plans []publish.Plan, done []*publish.Result) string {
	var published, not []string
	for i, p := range plans {
		if done[i].Anywhere() {
			published = append(published, p.Spec.Name)
		} else {
			not = append(not, p.Spec.Name)
		}
	}
	switch {
	case len(published) == 0:
		return "nothing was published; no tag was changed"
	case len(not) == 0:
		return "published, but not everywhere: " + strings.Join(published, ", ")
	}
	return "published: " + strings.Join(published, ", ") + "; not published: " + strings.Join(not, ", ")
}

// totals says how much was published: 3 platforms, 8.7 MB, 2.1s. The size is that of all
// images, also of content that the registry had already.
func totals(done []*publish.Result, took time.Duration) string {
	images, size := 0, int64(0)
	for _, d := range done {
		images += len(d.Images)
		for _, i := range d.Images {
			m, err := i.Manifest()
			if err != nil {
				continue // the size is for the reader alone
			}
			for _, part := range append(m.Layers, m.Config) {
				size += part.Size
			}
		}
	}
	what := "platforms"
	if images == 1 {
		what = "platform"
	}
	if len(done) > 1 {
		return fmt.Sprintf("%d programs, %d images, %s, %.1fs", len(done), images, text.Size(size), took.Seconds())
	}
	return fmt.Sprintf("%d %s, %s, %.1fs", images, what, text.Size(size), took.Seconds())
}
