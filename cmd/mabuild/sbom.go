package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// noSBOM is the value of --sbom for none.
const noSBOM = "none"

// An sbomWriter makes the SBOMs of a run. It keeps documents in the cache by the image's
// digest, so that a run that changes nothing reads neither binaries nor base images. It
// is safe for concurrent use; a nil *sbomWriter makes none.
type sbomWriter struct {
	format attest.Format
	base   bool   // include the packages of the base image
	dir    string // for files; "" for none
	tool   string
	cache  *cache.Cache
	log    *slog.Logger

	lists once.Memo[v1.Hash, *attest.Packages] // packages by the base image's digest

	// writing is held while a document is made, to bound memory: a base image can have
	// thousands of packages.
	writing sync.Mutex
}

// An sbom is the SBOM of one image.
type sbom struct {
	file     string // name in --sbom-dir, and title of its layer
	document []byte
	artifact v1.Image
	digest   v1.Hash // of the artifact
}

// sbomWriter returns the writer for the configuration, or nil if no SBOMs are wanted.
func (a *app) sbomWriter() (*sbomWriter, error) {
	c := a.config
	switch {
	// An explicit "none" turns SBOMs off without complaints about the other keys.
	case c.SBOM == noSBOM && (c.SBOMBase || c.SBOMDir != "") && c.Origin("sbom").Kind == config.FromDefault:
		return nil, usage("add --sbom spdx or --sbom cyclonedx", "--sbom-base and --sbom-dir require --sbom")
	case c.SBOM == noSBOM:
		return nil, nil
	case c.MediaTypes == "docker":
		return nil, usage("omit one of them", "--sbom %s cannot be combined with --media-types docker: referrers require OCI media types", c.SBOM)
	}
	b := &sbomWriter{
		format: attest.Format(c.SBOM), base: c.SBOMBase, dir: c.SBOMDir, tool: strings.Trim(versionText(), "()"),
		log: a.log,
	}
	b.cache = a.recordCache()
	return b, nil
}

// sbom returns the SBOM of image i of program p, from the cache or newly made. base is
// nil for scratch and the static base.
//
// The key of the cache has what the image's digest does not cover: format, options, tool
// version and names. documentVersion is increased if the same tool version writes
// documents differently. A record holds only the digest of the document, which is stored
// beside it. An error of the cache means that the document is made again.
func (b *sbomWriter) sbom(ctx context.Context, p program, i build.Image, base v1.Image) (*sbom, error) {
	digest, err := i.Digest()
	if err != nil {
		return nil, err
	}
	made := &sbom{file: b.format.FileName(p.spec.Name, i.Platform)}
	key := fmt.Sprintf("%d %s %s %t %q %q %q", documentVersion, digest, b.format, b.base, b.tool, i.BaseRef, made.file)
	var kept struct{ Document v1.Hash }
	if b.cache.Load("sbom", key, &kept) {
		made.document, err = b.cache.Bytes(kept.Document, maxDocument)
	}
	if made.document == nil || err != nil {
		b.writing.Lock()
		defer b.writing.Unlock()
		if made.document, err = b.write(ctx, p, i, base); err != nil {
			return nil, err
		}
		if kept.Document, _, err = v1.SHA256(strings.NewReader(string(made.document))); err != nil {
			return nil, err
		}
		if b.cache.Put(kept.Document, strings.NewReader(string(made.document))) == nil {
			_ = b.cache.Store("sbom", key, kept) // else it is made again
		}
	}
	if made.artifact, err = attest.Artifact(b.format, made.document, made.file, i); err != nil {
		return nil, err
	}
	made.digest, err = made.artifact.Digest()
	return made, err
}

const (
	maxDocument     = 64 << 20 // bytes of a document that are read from the cache
	documentVersion = 1        // part of the key; see sbom
)

// write makes the document. It reads the build information from the binary in the image.
func (b *sbomWriter) write(ctx context.Context, p program, i build.Image, base v1.Image) ([]byte, error) {
	f := attest.Facts{Name: p.spec.Name, Version: p.spec.Main.Version, Platform: i.Platform, Tool: b.tool, Time: p.spec.Time}
	if len(p.spec.Files) > 0 {
		f.Unread = append(f.Unread, "Files beside the program are not analysed.")
	}
	if p.spec.Debug {
		f.Unread = append(f.Unread, "The debugger beside the program is not analysed.")
	}
	var err error
	if f.Image, err = i.Digest(); err != nil {
		return nil, err
	}
	if f.Info, err = i.BuildInfo(ctx); err != nil {
		return nil, fmt.Errorf("build information: %w", err)
	}
	if f.Base, err = b.baseOf(ctx, i, base); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return attest.Write(b.format, f)
}

// baseOf describes the base image of i. Its name is omitted if it is a local place, which
// means nothing on another machine.
func (b *sbomWriter) baseOf(ctx context.Context, i build.Image, base v1.Image) (attest.Base, error) {
	switch i.BaseRef {
	case build.Scratch:
		return attest.Base{}, nil
	case build.Static:
		m, err := i.Manifest()
		if err != nil {
			return attest.Base{}, err
		}
		// The static base is the lowest layer of the image.
		return attest.Base{Name: "mabuild static", Digest: m.Layers[0].Digest, BuiltIn: true}, nil
	}
	of := attest.Base{Digest: i.Base}
	if !local.Is(i.BaseRef) {
		of.Name, _, _ = strings.Cut(i.BaseRef, "@")
	}
	if !b.base || base == nil || i.Platform.OS == "windows" { // Windows has no package database
		return of, nil
	}
	var err error
	of.Packages, err = b.packages(ctx, i.Base, base)
	return of, err
}

// packages returns the packages of a base image. Its layers are read once for each
// digest: the memo shares the work among images of this run, the cache among runs.
func (b *sbomWriter) packages(ctx context.Context, digest v1.Hash, base v1.Image) (*attest.Packages, error) {
	return b.lists.Do(ctx, digest, func() (*attest.Packages, error) {
		kept := &attest.Packages{}
		if b.cache.Load("packages", digest.String(), kept) {
			return kept, nil
		}
		layers, err := base.Layers()
		if err != nil {
			return nil, err
		}
		list, err := attest.ReadPackages(layers)
		if err == nil {
			_ = b.cache.Store("packages", digest.String(), list) // else they are read again
		}
		return list, err
	})
}

// attach pushes the SBOM of an image that was just put to repo. If the image was there
// before this run and the cache records that this SBOM was pushed with it, no request is
// sent, unless --verify is set. The record can be wrong if someone has deleted the SBOM
// in the registry; --verify repairs that.
func (pub *publisher) attach(ctx context.Context, repo string, image v1.Hash, made *sbom) error {
	at := repo + "@"
	key := at + image.String() + " " + made.digest.String()
	var went bool
	if !pub.client.Verify && pub.client.Found(at+image.String()) && pub.sboms.cache.Load("attached", key, &went) && went {
		return nil
	}
	if err := pub.client.Put(ctx, at+made.digest.String(), made.artifact); err != nil {
		return err
	}
	_ = pub.sboms.cache.Store("attached", key, true) // else it is asked for again
	return nil
}

// beside returns the content of an output with SBOMs: first the artifacts by digest, then
// the index under ref.
func beside(ref string, content manifest.Content, bills []*sbom) []manifest.Named {
	var all []manifest.Named
	for _, b := range bills {
		all = append(all, manifest.Named{Ref: "@" + b.digest.String(), Content: b.artifact})
	}
	return append(all, manifest.Named{Ref: ref, Content: content})
}

// save writes the SBOMs as files to --sbom-dir, each completely or not at all.
func (b *sbomWriter) save(bills []*sbom) error {
	if b == nil || b.dir == "" {
		return nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("SBOM directory: %w", err)
	}
	for _, one := range bills {
		file := filepath.Join(b.dir, one.file)
		if err := outfile.Write(file, func(w io.Writer) error {
			_, err := w.Write(one.document)
			return err
		}); err != nil {
			return fmt.Errorf("SBOM: %w", err)
		}
	}
	return nil
}

// platformResults collects what the hooks of a program's platforms produce. It is safe
// for concurrent use; keys are platforms in canonical spelling.
type platformResults struct {
	mu    sync.Mutex
	bases map[string]v1.Image // base images, for the SBOMs
	sboms map[string]*sbom
}

// newPlatformResults returns an empty platformResults.
func newPlatformResults() *platformResults {
	return &platformResults{bases: map[string]v1.Image{}, sboms: map[string]*sbom{}}
}

// keepBase stores the base image of a platform.
func (d *platformResults) keepBase(key string, base v1.Image) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bases[key] = base
}

// base returns the base image of a platform, or nil for a built-in base.
func (d *platformResults) base(key string) v1.Image {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bases[key]
}

// add stores the SBOM of a platform.
func (d *platformResults) add(key string, b *sbom) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sboms[key] = b
}

// inOrder returns the SBOMs in the order of images. It is empty if no SBOMs are made.
func (d *platformResults) inOrder(images []build.Image) []*sbom {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*sbom
	for _, i := range images {
		if b, ok := d.sboms[platform.Key(i.Platform)]; ok {
			list = append(list, b)
		}
	}
	return list
}

// plan returns the line for a dry run; b may be nil.
func (b *sbomWriter) plan() string {
	if b == nil {
		return ""
	}
	text := "  + SBOM of each platform, " + string(b.format)
	if b.base {
		text += ", with the base's packages"
	}
	if b.dir != "" {
		text += ", also in " + b.dir
	}
	return text + "\n"
}

// distinctFiles rejects two programs whose SBOM files would have the same name.
func (a *app) distinctFiles(programs []program) error {
	if a.config.SBOM == noSBOM || a.config.SBOMDir == "" {
		return nil
	}
	var errs []error
	seen := map[string]bool{}
	for _, p := range programs {
		if seen[p.spec.Name] {
			errs = append(errs, usage("give each its own id", "two programs have the name %s, which --sbom-dir uses as the file name", p.spec.Name))
		}
		seen[p.spec.Name] = true
	}
	return errors.Join(errs...)
}
