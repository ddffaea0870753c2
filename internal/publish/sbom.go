package publish

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// This file makes the SBOMs of a run. Documents are kept in the cache by the image's
// digest, so that a run that changes nothing reads neither binaries nor base images.

const (
	maxDocument     = 64 << 20 // bytes of a document that are read from the cache
	documentVersion = 1        // part of the key; see sbom
)

// sbom returns the artifact with the SBOM of image i, from the cache or newly made. base is
// nil for scratch and the static base.
//
// The key of the cache has what the image's digest does not cover: format, options, tool
// version and names. documentVersion is increased if the same tool version writes
// documents differently. A record holds only the digest of the document, which is stored
// beside it. An error of the cache means that the document is made again.
func (pub *Publisher) sbom(ctx context.Context, s build.Spec, i build.Image, base v1.Image) (v1.Image, error) {
	digest, err := i.Digest()
	if err != nil {
		return nil, err
	}
	file := pub.SBOM.FileName(s.Name, i.Platform)
	key := fmt.Sprintf("%d %s %s %t %q %q %q", documentVersion, digest, pub.SBOM, pub.SBOMBase, pub.Tool, i.BaseRef, file)
	var kept struct{ Document v1.Hash }
	var document []byte
	if pub.Cache.Load("sbom", key, &kept) {
		document, err = pub.Cache.Bytes(kept.Document, maxDocument)
	}
	if document == nil || err != nil {
		pub.writing.Lock()
		defer pub.writing.Unlock()
		if document, err = pub.document(ctx, s, i, base); err != nil {
			return nil, err
		}
		if kept.Document, _, err = v1.SHA256(strings.NewReader(string(document))); err != nil {
			return nil, err
		}
		if pub.Cache.Put(kept.Document, strings.NewReader(string(document))) == nil {
			_ = pub.Cache.Store("sbom", key, kept) // else it is made again
		}
	}
	return attest.Artifact(pub.SBOM, document, file, i)
}

// document makes the SBOM of an image. It reads the build information from the binary in
// the image.
func (pub *Publisher) document(ctx context.Context, s build.Spec, i build.Image, base v1.Image) ([]byte, error) {
	program, _ := s.Program.(build.GoPackage)
	f := attest.Facts{Name: s.Name, Version: program.Main.Version, Platform: i.Platform, Tool: pub.Tool, Time: s.Time}
	if len(s.Files) > 0 {
		f.Unread = append(f.Unread, "Files beside the program are not analysed.")
	}
	if p, prebuilt := s.Program.(build.Prebuilt); prebuilt {
		f.Program = v1.Hash{Algorithm: "sha256", Hex: i.Content}
		if p.Downloads != nil {
			f.Version = s.Vars.Version
		}
	}
	f.Packages = packagesOf(i)
	if program.Debug {
		f.Unread = append(f.Unread, "The debugger beside the program is not analysed.")
	}
	var err error
	if f.Image, err = i.Digest(); err != nil {
		return nil, err
	}
	if f.Info, err = i.BuildInfo(ctx); err != nil {
		return nil, fmt.Errorf("build information: %w", err)
	}
	if f.Base, err = pub.baseOf(ctx, i, base); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return attest.Write(pub.SBOM, f)
}

// packagesOf returns the packages that were added to the base of an image.
func packagesOf(i build.Image) []attest.Package {
	var list []attest.Package
	for _, p := range i.Packages {
		one := attest.Package{Kind: "deb", Name: p.Name, Version: p.Version, Arch: p.Architecture, SHA256: p.SHA256}
		if strings.HasSuffix(p.URL, "_all.deb") {
			one.Arch = "all"
		}
		list = append(list, one)
	}
	return list
}

// baseOf describes the base image of i. Its name is omitted if it is a local place, which
// means nothing on another machine.
func (pub *Publisher) baseOf(ctx context.Context, i build.Image, base v1.Image) (attest.Base, error) {
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
	of := attest.Base{Digest: i.Base, Index: i.Index}
	if !local.Is(i.BaseRef) {
		of.Name, _, _ = strings.Cut(i.BaseRef, "@")
	}
	if !pub.SBOMBase || base == nil || i.Platform.OS == "windows" { // Windows has no package database
		return of, nil
	}
	var err error
	of.Packages, err = pub.packagesOf(ctx, i.Base, base)
	return of, err
}

// packagesOf returns the packages of a base image. Its layers are read once for each
// digest: the memo shares the work among images of this run, the cache among runs.
func (pub *Publisher) packagesOf(ctx context.Context, digest v1.Hash, base v1.Image) (*attest.Packages, error) {
	return pub.packages.Do(ctx, digest, func() (*attest.Packages, error) {
		kept := &attest.Packages{}
		if pub.Cache.Load("packages", digest.String(), kept) {
			return kept, nil
		}
		layers, err := base.Layers()
		if err != nil {
			return nil, err
		}
		list, err := attest.ReadPackages(layers)
		if err == nil {
			_ = pub.Cache.Store("packages", digest.String(), list) // else they are read again
		}
		return list, err
	})
}

// putSBOM pushes the SBOM of an image that was just put to repo. If the image was there
// before this run and the cache records that this SBOM was pushed with it, no request is
// sent, unless the client verifies. The record can be wrong if someone has deleted the
// SBOM in the registry; a client that verifies repairs that.
func (pub *Publisher) putSBOM(ctx context.Context, repo string, image v1.Hash, sbom v1.Image) error {
	digest, err := sbom.Digest()
	if err != nil {
		return err
	}
	at := repo + "@"
	key := at + image.String() + " " + digest.String()
	var went bool
	if !pub.Client.Verify && pub.Client.Found(at+image.String()) && pub.Cache.Load("attached", key, &went) && went {
		return nil
	}
	if err := pub.Client.Put(ctx, at+digest.String(), sbom); err != nil {
		return err
	}
	_ = pub.Cache.Store("attached", key, true) // else it is asked for again
	return nil
}

// beside returns what is stored in an output beside the content, by digest: the SBOMs, and
// what else refers to the content.
func (r *run) beside(out *Result, m made) ([]manifest.Named, error) {
	artifacts := slices.Clone(out.SBOMs)
	if r.attests() {
		all, err := m.of(r.wanted())
		if err != nil {
			return nil, err
		}
		out.Attachments = nil // another output may have set it
		for _, a := range all {
			if a.Subject == out.Digest || r.Signer == nil || r.AttachTo != attachIndex {
				artifacts = append(artifacts, a.artifact)
				out.Attachments = append(out.Attachments, a)
			}
		}
	}
	var all []manifest.Named
	for _, artifact := range artifacts {
		digest, err := artifact.Digest()
		if err != nil {
			return nil, err
		}
		all = append(all, manifest.Named{Ref: "@" + digest.String(), Content: artifact})
	}
	return all, nil
}

// save writes the documents as files to SBOMDir, each completely or not at all. The name
// of a file is the title of the artifact's layer.
func (pub *Publisher) save(sboms []v1.Image) error {
	if pub.SBOMDir == "" || len(sboms) == 0 {
		return nil
	}
	if err := os.MkdirAll(pub.SBOMDir, 0o755); err != nil {
		return fmt.Errorf("SBOM directory: %w", err)
	}
	for _, sbom := range sboms {
		m, err := sbom.Manifest()
		if err != nil {
			return err
		}
		document, err := documentOf(sbom)
		if err != nil {
			return err
		}
		file := filepath.Join(pub.SBOMDir, m.Layers[0].Annotations[ocispec.AnnotationTitle])
		if err := outfile.Write(file, func(w io.Writer) error { _, err := w.Write(document); return err }); err != nil {
			return fmt.Errorf("SBOM: %w", err)
		}
	}
	return nil
}
