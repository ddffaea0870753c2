package build

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest"
)

// An Image is a program on its base, for one platform.
type Image struct {
	v1.Image
	Platform ocispec.Platform
	Base     v1.Hash             // of the base's image for the platform, zero for Static and Scratch
	BaseRef  string              // the base as the Spec names it: Static, Scratch or a reference
	Binary   crosscompile.Binary // zero where nothing had changed and no compiler ran

	info func(context.Context) (*buildinfo.BuildInfo, error)
}

// BuildInfo returns what the program says of how it was built: its modules with
// their versions and sums. It is nil where the format of the program has no place for
// that (wasm). Where nothing had changed and no compiler ran, the go command is asked
// for the program after all: who wants to know often keeps the answer under the
// image's digest.
func (i Image) BuildInfo(ctx context.Context) (*buildinfo.BuildInfo, error) {
	if i.info == nil {
		return i.Binary.Info, nil
	}
	return i.info(ctx)
}

// An addedLayer is a layer that mabuild puts on a base.
type addedLayer struct {
	layer   v1.Layer
	comment string
}

// ociTypes gives the OCI media type of each of Docker's; the bytes and so the
// digest are the same (image-spec, media-types.md, compatibility matrix).
var ociTypes = map[types.MediaType]types.MediaType{
	types.DockerLayer:             types.OCILayer,
	types.DockerUncompressedLayer: types.OCIUncompressedLayer,
	types.DockerForeignLayer:      types.OCIRestrictedLayer,
	types.DockerManifestSchema2:   types.OCIManifestSchema1,
	types.DockerConfigJSON:        types.OCIConfigJSON,
}

// mediaType returns t as the image's family spells it. Docker's has no word for
// zstd, say, which is an error.
func mediaType(t types.MediaType, docker bool) (types.MediaType, error) {
	if oci, ok := ociTypes[t]; ok && !docker {
		return oci, nil
	}
	if t == manifest.DockerLayerZStd && !docker {
		return types.OCILayerZStd, nil
	}
	if docker {
		for d, oci := range ociTypes {
			if t == oci || t == d {
				return d, nil
			}
		}
		return "", &SpecError{Field: "media_types", Reason: fmt.Sprintf("Docker's media types do not support %s", t), Way: "use OCI media types"}
	}
	return t, nil
}

// assemble makes the image of s's program for p on f.
func assemble(s Spec, p ocispec.Platform, f baseImage, added []addedLayer) (v1.Image, error) {
	config := configure(s, p, f)
	descriptors := slices.Clone(f.descriptors)
	layers := slices.Clone(f.layers)
	for _, a := range added {
		d, err := manifest.Describe(a.layer)
		if err != nil {
			return nil, err
		}
		diffID, err := a.layer.DiffID()
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, d)
		layers = append(layers, a.layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, v1.History{Created: v1.Time{Time: s.Time}, CreatedBy: "mabuild", Comment: a.comment})
	}
	for i := range descriptors {
		t, err := mediaType(descriptors[i].MediaType, s.Docker)
		if err != nil {
			return nil, err
		}
		descriptors[i].MediaType = t
		descriptors[i].Annotations = nil // they describe the base's file, estargz's index say
	}
	return seal(s, config, descriptors, layers, annotate(s, f))
}

// configure makes the image's config: the base's environment, user, directory,
// ports and volumes, the program, and what s says.
func configure(s Spec, p ocispec.Platform, f baseImage) v1.ConfigFile {
	at := programPath(s, p)
	base := f.config.Config
	c := v1.ConfigFile{
		Architecture: p.Architecture, OS: p.OS, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
		Created: v1.Time{Time: s.Time}, History: history(s, f),
		RootFS: v1.RootFS{Type: "layers", DiffIDs: slices.Clone(f.config.RootFS.DiffIDs)},
		Config: v1.Config{
			Entrypoint: []string{at}, Cmd: s.Config.Cmd, User: base.User, WorkingDir: base.WorkingDir,
			Env: slices.Clone(base.Env), ExposedPorts: maps.Clone(base.ExposedPorts), Volumes: maps.Clone(base.Volumes),
			StopSignal: base.StopSignal, Healthcheck: s.Config.Healthcheck, Labels: labels(base.Labels, s.Config.Labels),
		},
	}
	if f.config.OSVersion != "" && p.OS == "windows" {
		c.OSVersion, c.OSFeatures = f.config.OSVersion, f.config.OSFeatures
	}
	if s.base(p) == Scratch && p.OS != "windows" { // whose users have no numbers
		c.Config.User = nonroot + ":" + nonroot
	}
	c.Config.Env = withPath(c.Config.Env, p, at)
	for _, kv := range s.Config.Env {
		c.Config.Env = setEnv(c.Config.Env, kv, p.OS == "windows")
	}
	override(&c.Config.User, s.Config.User)
	override(&c.Config.WorkingDir, s.Config.WorkingDir)
	override(&c.Config.StopSignal, s.Config.StopSignal)
	if len(s.Config.Entrypoint) > 0 {
		c.Config.Entrypoint = s.Config.Entrypoint
	}
	if s.Debug {
		c.Config.Entrypoint = debugged(s, p, c.Config.Entrypoint)
		include(&c.Config.ExposedPorts, debugPort)
	}
	for _, port := range s.Config.Ports {
		if !strings.Contains(port, "/") {
			port += "/tcp"
		}
		include(&c.Config.ExposedPorts, port)
	}
	for _, volume := range s.Config.Volumes {
		include(&c.Config.Volumes, volume)
	}
	return c
}

// history is that of the base, if it tells of each layer (image-spec, config.md, history);
// else an entry for each, so that ours stand beside the right layers.
func history(s Spec, f baseImage) []v1.History {
	warned := 0
	for _, h := range f.config.History {
		if !h.EmptyLayer {
			warned++
		}
	}
	if warned == len(f.descriptors) {
		return slices.Clone(f.config.History)
	}
	list := make([]v1.History, len(f.descriptors))
	for i := range list {
		list[i] = v1.History{Created: v1.Time{Time: s.Time}, Comment: "layer of the base image"}
	}
	return list
}

func override(value *string, with string) {
	if with != "" {
		*value = with
	}
}

func include(set *map[string]struct{}, member string) {
	if *set == nil {
		*set = map[string]struct{}{}
	}
	(*set)[member] = struct{}{}
}

// described is the prefix of labels and annotations that describe one image.
// Those of a base do not describe what is built on it.
const described = "org.opencontainers.image."

func labels(base, ours map[string]string) map[string]string {
	all := map[string]string{}
	for k, v := range base {
		if !strings.HasPrefix(k, described) {
			all[k] = v
		}
	}
	maps.Copy(all, ours)
	if len(all) == 0 {
		return nil
	}
	return all
}

// programPath is where the program lies, as a process on p would name it.
func programPath(s Spec, p ocispec.Platform) string {
	at := s.Path
	if at == "" {
		at = "/mabuild/" + s.Name
	}
	switch {
	case p.OS == "windows":
		if !strings.HasSuffix(at, ".exe") {
			at += ".exe"
		}
		return "C:" + strings.ReplaceAll(at, "/", `\`)
	case p.Architecture == "wasm" && path.Ext(at) == "":
		at += ".wasm"
	}
	return at
}

// withPath puts the program's directory at the end of PATH.
func withPath(env []string, p ocispec.Platform, program string) []string {
	separator, standard, dir := ":", defaultPath, path.Dir(program)
	windows := p.OS == "windows"
	if windows {
		separator, standard, dir = ";", `C:\Windows\system32;C:\Windows`, program[:strings.LastIndex(program, `\`)]
	}
	for _, kv := range env {
		if key, value, _ := strings.Cut(kv, "="); key == "PATH" || windows && strings.EqualFold(key, "PATH") {
			standard = value
		}
	}
	if slices.Contains(strings.Split(standard, separator), dir) {
		return setEnv(env, "PATH="+standard, windows)
	}
	return setEnv(env, "PATH="+standard+separator+dir, windows)
}

// setEnv sets a variable where it stands first, and nowhere else, or adds it.
func setEnv(env []string, kv string, foldCase bool) []string {
	key, _, _ := strings.Cut(kv, "=")
	is := func(one string) bool {
		k, _, _ := strings.Cut(one, "=")
		return k == key || foldCase && strings.EqualFold(k, key)
	}
	at := slices.IndexFunc(env, is)
	if at < 0 {
		return append(slices.Clone(env), kv)
	}
	rest := slices.DeleteFunc(slices.Clone(env[at+1:]), is)
	return slices.Concat(env[:at], []string{kv}, rest)
}

// annotate returns the annotations of the image's manifest; Docker's carries
// none.
func annotate(s Spec, f baseImage) map[string]string {
	if s.Docker {
		return nil
	}
	all := baseAnnotations(f.name, f.digest)
	maps.Copy(all, s.Config.Annotations)
	maps.Copy(all, s.ManifestAnnotations)
	return all
}

// baseAnnotations names a base: nothing for Static and Scratch.
func baseAnnotations(ref string, digest v1.Hash) map[string]string {
	all := map[string]string{}
	if digest == (v1.Hash{}) {
		return all
	}
	all[described+"base.digest"] = digest.String()
	if r, err := name.ParseReference(ref); err == nil && !strings.HasPrefix(ref, "oci:") {
		all[described+"base.name"] = r.Name()
	}
	return all
}

// seal makes the image of a config and of layers that have descriptors.
func seal(s Spec, config v1.ConfigFile, descriptors []v1.Descriptor, layers []v1.Layer, annotations map[string]string) (v1.Image, error) {
	f := layerFetcher{layers: map[v1.Hash]v1.Layer{}}
	for i, d := range descriptors {
		f.layers[d.Digest] = layers[i]
	}
	var err error
	if f.config, err = json.Marshal(config); err != nil {
		return nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(f.config))
	if err != nil {
		return nil, err
	}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: digest, Size: size},
		Layers: descriptors,
	}
	if m.Layers == nil {
		m.Layers = []v1.Descriptor{}
	}
	if s.Docker {
		m.MediaType, m.Config.MediaType = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	if len(annotations) > 0 {
		m.Annotations = annotations
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if digest, _, err = v1.SHA256(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	c, err := manifest.Open(v1.Descriptor{MediaType: m.MediaType, Digest: digest}, raw, f)
	if err != nil {
		return nil, err
	}
	return c.(v1.Image), nil //nolint:forcetypeassert // it has a config
}

// A layerFetcher has the config and the layers of an image that was made.
type layerFetcher struct {
	config []byte
	layers map[v1.Hash]v1.Layer
}

func (f layerFetcher) Name(h v1.Hash) string                { return h.String() }
func (f layerFetcher) Config(v1.Descriptor) ([]byte, error) { return f.config, nil }

func (f layerFetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}

func (f layerFetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return f.layers[d.Digest].Compressed()
}

// Part opens a part of a layer of the base, where the base's place can.
func (f layerFetcher) Part(d v1.Descriptor, from, to int64) (io.ReadCloser, error) {
	if l, ok := f.layers[d.Digest].(manifest.PartLayer); ok {
		return l.Part(from, to)
	}
	return nil, fmt.Errorf("a part of %s: %w", d.Digest, errors.ErrUnsupported)
}
