package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// publishAll publishes all plans at once and returns the result of each, in their order.
// If some are published and others not, the error is a [hint.PartialError].
func publishAll(ctx context.Context, pub *publish.Publisher, plans []publish.Plan) ([]*publish.Result, error) {
	for _, p := range plans {
		for _, o := range p.Outputs {
			if pub.SBOM != "" && !o.HoldsSBOMs() {
				pub.Log.WarnContext(ctx, o.Text+" cannot hold SBOMs; write them to files with --sbom-dir")
			}
		}
	}
	done, errs := pub.All(ctx, plans)
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
func writeMetadata(file string, done []*publish.Result) error {
	m := struct {
		Programs []programMetadata `json:"programs"`
	}{[]programMetadata{}}
	for _, d := range done {
		if !d.Anywhere() {
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
func describe(d *publish.Result) (programMetadata, error) {
	desc, err := manifest.Describe(d.Content)
	if err != nil {
		return programMetadata{}, err
	}
	p := programMetadata{
		// Tags are never nil, so that scripts see [] and not null.
		Name: d.Name, Digest: d.Digest.String(), MediaType: string(desc.MediaType), Size: desc.Size,
		Tags: append([]string{}, d.Tags...), Platforms: make([]platformMetadata, len(d.Images)),
	}
	for _, o := range d.Outputs {
		p.Outputs = append(p.Outputs, o.Text)
	}
	for i, img := range d.Images {
		if p.Platforms[i], err = describeImage(img); err != nil {
			return p, err
		}
		if i >= len(d.SBOMs) {
			continue
		}
		sbom, err := d.SBOMs[i].Digest()
		if err != nil {
			return p, err
		}
		p.Platforms[i].SBOM = sbom.String()
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
func (a *app) printResults(done []*publish.Result, byTag bool) error {
	out := a.stdout
	var lines strings.Builder
	for _, d := range done {
		if d == nil {
			continue
		}
		for _, repo := range d.Repositories {
			line := repo + "@" + d.Digest.String()
			if i := slices.IndexFunc(d.Tags, func(tag string) bool { return manifest.CutReference(tag).Repository == repo }); byTag && i >= 0 {
				line = d.Tags[i]
			}
			fmt.Fprintln(&lines, line)
		}
		for _, o := range d.Outputs {
			fmt.Fprintf(&lines, "%s@%s\n", o.Text, o.Digest)
			if o.Place.Streams() {
				out = a.stderr
			}
		}
	}
	_, err := io.WriteString(out, lines.String())
	return err
}
