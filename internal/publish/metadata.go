package publish

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Program describes one published program, as --metadata-file does.
type Program struct {
	Name      string         `json:"name"`
	Digest    string         `json:"digest"`
	MediaType string         `json:"mediaType"`
	Size      int64          `json:"size"`
	Tags      []string       `json:"tags"`
	Outputs   []string       `json:"outputs,omitempty"`
	Platforms []ProgramImage `json:"platforms"`
	// Attestations are signatures and provenance, those of the whole first.
	Attestations []Attested `json:"attestations,omitempty"`
}

// An Attested is an artifact with a statement about the program or an image.
type Attested struct {
	PredicateType string `json:"predicateType"`
	Digest        string `json:"digest"`  // of the artifact's manifest
	Subject       string `json:"subject"` // what the artifact refers to
}

// A ProgramImage describes the image of one platform.
type ProgramImage struct {
	Platform string `json:"platform"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`              // of the manifest, its config and its layers
	Base     string `json:"base,omitempty"`    // digest of the base image's manifest
	SBOM     string `json:"sbom,omitempty"`    // digest of the manifest of the SBOM's artifact
	Smoke    string `json:"smoke,omitempty"`   // passed or skipped, with --smoke
	SmokeMS  int64  `json:"smokeMs,omitempty"` // milliseconds; 0 if it had passed before
}

// Metadata returns the JSON of --metadata-file, which scripts read (docs/ci.md): the programs
// that are published somewhere.
func Metadata(done []*Result) ([]byte, error) {
	m := struct {
		Programs []Program `json:"programs"`
	}{[]Program{}}
	for _, d := range done {
		if !d.Anywhere() {
			continue
		}
		p, err := Describe(d)
		if err != nil {
			return nil, err
		}
		m.Programs = append(m.Programs, p)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Describe returns the description of a program that is published somewhere.
func Describe(d *Result) (Program, error) {
	desc, err := manifest.Describe(d.Content)
	if err != nil {
		return Program{}, err
	}
	p := Program{
		// Tags are never nil, so that scripts see [] and not null.
		Name: d.Name, Digest: d.Digest.String(), MediaType: string(desc.MediaType), Size: desc.Size,
		Tags: append([]string{}, d.Tags...), Platforms: make([]ProgramImage, len(d.Images)),
	}
	for _, o := range d.Outputs {
		p.Outputs = append(p.Outputs, o.Text)
	}
	for _, a := range d.Attachments {
		p.Attestations = append(p.Attestations, Attested{a.Predicate, a.Digest.String(), a.Subject.String()})
	}
	for i, img := range d.Images {
		if p.Platforms[i], err = describeImage(img); err != nil {
			return p, err
		}
		if i < len(d.Smoke) {
			p.Platforms[i].Smoke, p.Platforms[i].SmokeMS = d.Smoke[i].Status, d.Smoke[i].Took.Milliseconds()
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
func describeImage(img build.Image) (ProgramImage, error) {
	d, err := manifest.Describe(img)
	if err != nil {
		return ProgramImage{}, err
	}
	m, err := img.Manifest()
	if err != nil {
		return ProgramImage{}, err
	}
	pm := ProgramImage{Platform: platform.Key(img.Platform), Digest: d.Digest.String(), Size: d.Size + m.Config.Size}
	for _, l := range m.Layers {
		pm.Size += l.Size
	}
	// The built-in bases have no image.
	if img.Base.Hex != "" {
		pm.Base = img.Base.String()
	}
	return pm, nil
}

// References returns the references of the indexes and images that were published, one per
// line, in the format of ko's --image-refs.
func References(done []*Result) ([]byte, error) {
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
					return nil, err
				}
				if digest != d.Digest { // with --no-index they are the same
					fmt.Fprintf(&lines, "%s@%s\n", repo, digest)
				}
			}
		}
	}
	return []byte(lines.String()), nil
}
