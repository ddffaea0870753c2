package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/debs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A DebianPackage is a Debian package that is added to a base image. Its fields are:
//
//	Name         string
//	Version      string
//	Architecture string  Debian's name
//	URL          string
//	SHA256       string  in hexadecimal digits
type DebianPackage = debs.Package

// packageLayer is the layer of the packages of an image. It is stored as JSON in the cache.
type packageLayer struct {
	Added []DebianPackage // without those that the base has
	Names []string        // paths of the files

	layer v1.Layer // nil if nothing is added
}

// packagesKind is the kind of the records of packages in the cache.
const packagesKind = "debian"

// packagesOf returns the packages of the Spec for a platform.
func (s Spec) packagesOf(p ocispec.Platform) []DebianPackage {
	for _, key := range keys(p) {
		if list, ok := s.Packages[key]; ok {
			return list
		}
	}
	return nil
}

// addPackages makes the layer of the packages for a platform, which all programs on the same
// base share. A layer that is in the cache is not made again: no package is downloaded or
// unpacked, and the base is not read.
func (r *buildRun) addPackages(ctx context.Context, base PlannedBase) (*packageLayer, error) {
	list := r.spec.packagesOf(base.Platform)
	if len(list)+len(r.spec.PackageRoots) == 0 {
		return &packageLayer{}, nil
	}
	key, err := r.packagesKey(list, base)
	if err != nil {
		return nil, err
	}
	unlock, err := r.lock(ctx, "packages "+key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	made := &packageLayer{}
	if r.cache.Load(packagesKind, key, made) {
		if len(made.Added) == 0 {
			return made, nil
		}
		made.layer = r.layers.Load(key, func() ([]layerfile.Entry, error) {
			entries, _, err := r.unpack(ctx, list, base)
			return entries, err
		})
		if made.layer != nil {
			return made, nil
		}
	}
	r.log.InfoContext(ctx, "unpacking packages", "program", r.spec.Name, "platform", platform.Key(base.Platform))
	entries, added, err := r.unpack(ctx, list, base)
	if err != nil {
		return nil, err
	}
	made = &packageLayer{Added: added}
	for _, e := range entries {
		made.Names = append(made.Names, e.Name)
	}
	if len(added) > 0 {
		if made.layer, err = r.layers.Layer(entries); err != nil {
			return nil, err
		}
		r.layers.Remember(key, made.layer)
	}
	_ = r.cache.Store(packagesKind, key, made) // lost: the layer is made again
	return made, nil
}

// packagesKey names all that decides the layer of packages.
func (r *buildRun) packagesKey(list []DebianPackage, base PlannedBase) (string, error) {
	var under []v1.Hash
	for _, l := range base.baseImage.Layers {
		digest, err := l.Digest()
		if err != nil {
			return "", err
		}
		under = append(under, digest)
	}
	var rules []string
	for _, name := range slices.Sorted(maps.Keys(r.spec.PackageScripts)) {
		rules = append(rules, name, r.spec.PackageScripts[name])
	}
	raw, err := json.Marshal([]any{debs.FormatVersion, layerfile.FormatVersion, r.layers.Format, r.layers.Level, r.layers.Time.Unix(), under, list, r.spec.PackageRoots, rules, r.spec.PackageDocs})
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), err
}

// unpack returns the sorted entries of the layer of packages.
func (r *buildRun) unpack(ctx context.Context, list []DebianPackage, base PlannedBase) (entries []layerfile.Entry, added []DebianPackage, err error) {
	set := &debs.Set{Packages: list, Install: r.spec.PackageRoots, Rules: r.spec.PackageScripts, Docs: r.spec.PackageDocs}
	if err := r.debs.Unpack(ctx, set); err != nil {
		return nil, nil, err
	}
	architecture, err := debian.Architecture(base.Platform)
	if err != nil {
		return nil, nil, err
	}
	err = r.baseFS.Read(base.baseImage.Layers, func(t *rootfs.Tree) (err error) {
		if entries, added, err = set.Place(t, architecture); err == nil {
			entries, err = placement.Complete(t, entries)
		}
		return err
	})
	slices.SortFunc(entries, layerfile.ByName)
	return entries, added, err
}

// BaseStatus returns which Debian packages the base images of s have, by [platform.Key]: the
// fields Package, Version, Architecture and Provides of each, in the form of
// /var/lib/dpkg/status. It reads the layers of the base images. The program is not looked for.
func (b *Builder) BaseStatus(ctx context.Context, s Spec) (map[string]string, error) {
	b.init(ctx)
	s, err := s.Validate()
	if err != nil {
		return nil, err
	}
	from := &baseimage.Reader{Source: b.Bases, Layers: b.layers(ctx, s)}
	images, err := from.Images(ctx, s.Platforms, s.base)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for i, p := range s.Platforms {
		if err := b.baseFS.Read(images[i].Layers, func(t *rootfs.Tree) (err error) {
			all[platform.Key(p)], err = basefs.Status(t)
			return err
		}); err != nil {
			return nil, &BaseError{Ref: s.base(p), Err: err}
		}
	}
	return all, nil
}

// entries returns the files of the packages by their names alone.
func (l *packageLayer) entries() []layerfile.Entry {
	list := make([]layerfile.Entry, len(l.Names))
	for i, name := range l.Names {
		list[i].Name = name
	}
	return list
}

// checkPackages checks that each platform has Debian packages, if any has.
func (s Spec) checkPackages() error {
	for _, key := range slices.Sorted(maps.Keys(s.Packages)) {
		p, err := platform.Parse(key)
		if err != nil {
			return err
		}
		name, err := debian.Architecture(p)
		if err != nil {
			return &SpecError{Field: "packages", Reason: err.Error(), Way: hint.Of(err), Err: err}
		}
		for _, d := range s.Packages[key] {
			if d.Architecture != name || d.Name == "" || d.SHA256 == "" {
				return &SpecError{Field: "packages", Reason: cmp.Or(d.Name, "a package") + ": is not a package for " + key}
			}
		}
	}
	return nil
}
