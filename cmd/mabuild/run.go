package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// all publishes all programs at once and returns the result of each, in the order given.
// A program that fails does not stop the others. If some are published and others not,
// the error is a [partialError].
func (pub *publisher) all(ctx context.Context, programs []program) ([]*published, error) {
	done := make([]*published, len(programs))
	errs := make([]error, len(programs))
	var wg sync.WaitGroup
	for i, p := range programs {
		wg.Go(func() {
			// A panic becomes an error of its program, so that the others are still
			// published.
			errs[i] = guard.Report(ctx, pub.log, p.spec.Name, func() (err error) { done[i], err = pub.publish(ctx, p); return err })
			if len(programs) > 1 {
				errs[i] = named(p.spec.Name, errs[i])
			}
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil && slices.ContainsFunc(done, (*published).anywhere) {
		err = partialError{err}
	}
	return done, err
}

// A programError adds the name of a program to an error, if there are several programs.
type programError struct {
	name string
	err  error
}

// named adds the program's name to each of the errors joined in err, so that each is
// printed with it.
func named(program string, err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for _, e := range parts(err) {
		errs = append(errs, &programError{program, e})
	}
	return errors.Join(errs...)
}

func (e *programError) Error() string { return e.name + ": " + e.err.Error() }
func (e *programError) Unwrap() error { return e.err }

// programMetadata describes one published program.
type programMetadata struct {
	Name      string             `json:"name"`
	Digest    string             `json:"digest"`
	MediaType string             `json:"mediaType"`
	Size      int64              `json:"size"`
	Tags      []string           `json:"tags"`
	Outputs   []string           `json:"outputs,omitempty"`
	Platforms []platformMetadata `json:"platforms"`
}

// platformMetadata describes the image of one platform.
type platformMetadata struct {
	Platform string `json:"platform"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`           // of the manifest, its config and its layers
	Base     string `json:"base,omitempty"` // digest of the base image's manifest
	SBOM     string `json:"sbom,omitempty"` // digest of the manifest of the SBOM's artifact
}

// writeMetadata writes --metadata-file, which scripts read (docs/ci.md): the programs that
// are published somewhere.
func writeMetadata(file string, done []*published) error {
	m := struct {
		Programs []programMetadata `json:"programs"`
	}{[]programMetadata{}}
	for _, d := range done {
		if !d.anywhere() {
			continue
		}
		p, err := describe(d)
		if err != nil {
			return err
		}
		m.Programs = append(m.Programs, p)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(file, append(b, '\n'))
}

// describe returns the metadata of a program.
func describe(d *published) (programMetadata, error) {
	desc, err := manifest.Describe(d.content)
	if err != nil {
		return programMetadata{}, err
	}
	p := programMetadata{
		// Tags are never nil, so that scripts see [] and not null.
		Name: d.name, Digest: d.digest.String(), MediaType: string(desc.MediaType), Size: desc.Size,
		Tags: append([]string{}, d.tags...), Platforms: make([]platformMetadata, len(d.images)),
	}
	for _, o := range d.outputs {
		p.Outputs = append(p.Outputs, o.text)
	}
	for i, img := range d.images {
		if p.Platforms[i], err = describeImage(img); err != nil {
			return p, err
		}
		if i < len(d.sboms) {
			p.Platforms[i].SBOM = d.sboms[i].digest.String()
		}
	}
	return p, nil
}

// describeImage returns the metadata of an image. Layers shared with other images count
// in each.
func describeImage(img build.Image) (platformMetadata, error) {
	d, err := manifest.Describe(img)
	if err != nil {
		return platformMetadata{}, err
	}
	m, err := img.Manifest()
	if err != nil {
		return platformMetadata{}, err
	}
	pm := platformMetadata{Platform: platform.Key(img.Platform), Digest: d.Digest.String(), Size: d.Size + m.Config.Size}
	for _, l := range m.Layers {
		pm.Size += l.Size
	}
	// The built-in bases have no image.
	if img.Base.Hex != "" {
		pm.Base = img.Base.String()
	}
	return pm, nil
}

// printResults prints the result of push and build: one line for each program and
// repository or local destination, in the order given. It is repository@digest, or with
// byTag the first tag in the repository. If an image goes to standard output, all lines
// go to standard error.
func (a *app) printResults(done []*published, byTag bool) error {
	out := a.stdout
	var lines strings.Builder
	for _, d := range done {
		if d == nil {
			continue
		}
		for _, repo := range d.repos {
			line := repo + "@" + d.digest.String()
			if i := slices.IndexFunc(d.tags, func(tag string) bool { return withoutTag(tag) == repo }); byTag && i >= 0 {
				line = d.tags[i]
			}
			fmt.Fprintln(&lines, line)
		}
		for _, o := range d.outputs {
			fmt.Fprintf(&lines, "%s@%s\n", o.text, o.digest)
			if o.streams() {
				out = a.stderr
			}
		}
	}
	_, err := io.WriteString(out, lines.String())
	return err
}
