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
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest"
)

// An Image is the image of a program for one platform. It is lazy: its layers are read
// from the source of the base, the cache or the work directory.
type Image struct {
	v1.Image
	Platform ocispec.Platform
	Base     v1.Hash             // digest of the base image for the platform, zero for Static and Scratch
	Index    v1.Hash             // digest of the index from which Base was chosen, else zero
	BaseRef  string              // the base as in the Spec: Static, Scratch or a reference
	Began    time.Time           // when the work on this platform began, after it had waited for its turn
	Binary   crosscompile.Binary // zero if a build record was used and nothing was compiled
	Packages []DebianPackage     // that were added to the base
	Took     time.Duration       // to compile; its share of what took longer for several programs
	Content  string              // sha256 of the program in hexadecimal digits; "" if Recalled

	// Key names the layer of the program, which is the last one, by all that decides it: the
	// sources, the release of Go, the settings of the compiler and the form of the layer.
	// It is the same on all machines. It is "" if there is none, or if it was not proved
	// that the key of a compiled program is complete.
	Key      string
	Recalled bool // Hooks.Recall returned the layer
	// Inputs has what Key is made of, such as "go" or "file example.com/app/main.go", with
	// the value or the sha256 of each.
	Inputs map[string]string

	// info is set if Binary is zero. It compiles the program again.
	info func(context.Context) (*buildinfo.BuildInfo, error)
	// Set if a build record was used: prove finds Key, and inputs what it is made of.
	prove  func(context.Context) string
	inputs func() map[string]string
	lent   bool // other machines fill the cache with which the go command compiled the program
}

// Keyed returns i with Key and Inputs, if they can be found without a compiler. If the program
// comes from a build record that does not say what it was compiled from, the go command is asked,
// which takes a permit of the Builder. A program that was compiled with [Builder.GoCache] has no
// key then: what is in that cache counts where it was read, and nowhere else.
func (i Image) Keyed(ctx context.Context) Image {
	if i.Key == "" && i.prove != nil {
		i.Key = i.prove(ctx)
	}
	if i.Key != "" && i.Inputs == nil && i.inputs != nil {
		i.Inputs = i.inputs()
	}
	return i
}

// BuildInfo returns the build information of the program: its modules with their versions
// and checksums. It is nil for wasm, whose format has no such information, and for a
// [Prebuilt] that is not written in Go.
//
// If a build record was used and nothing was compiled, BuildInfo compiles the program,
// which takes a permit of the Builder. A caller that needs it often should store the
// result under the digest of the image.
func (i Image) BuildInfo(ctx context.Context) (*buildinfo.BuildInfo, error) {
	if i.info == nil {
		return i.Binary.Info, nil
	}
	return i.info(ctx)
}

// ociTypes maps each media type of Docker to the OCI media type for the same bytes, and
// so the same digest (image-spec, media-types.md, compatibility matrix).
var ociTypes = map[types.MediaType]types.MediaType{
	types.DockerLayer:             types.OCILayer,
	types.DockerUncompressedLayer: types.OCIUncompressedLayer,
	types.DockerForeignLayer:      types.OCIRestrictedLayer,
	types.DockerManifestSchema2:   types.OCIManifestSchema1,
	types.DockerConfigJSON:        types.OCIConfigJSON,
}

// mediaType returns t as OCI or Docker spells it. A manifest must not mix the two
// families, and base images of both exist. Docker has no type for zstd, for example,
// which is a [*SpecError]. An unknown type is kept in an OCI manifest.
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

// assemble makes the image of s's program for p: the layers of base f, then the added
// ones. It adds to the manifest, the diff IDs and the history in the same order.
func assemble(s Spec, p ocispec.Platform, f baseimage.Image, added []placement.Part) (v1.Image, error) {
	config := configure(s, p, f)
	descriptors := slices.Clone(f.Descriptors)
	layers := slices.Clone(f.Layers)
	for _, a := range added {
		d, err := manifest.Describe(a.Layer)
		if err != nil {
			return nil, err
		}
		diffID, err := a.Layer.DiffID()
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, d)
		layers = append(layers, a.Layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, v1.History{Created: v1.Time{Time: s.Time}, CreatedBy: "mabuild", Comment: a.Comment})
	}
	// The descriptors of the base may have media types of the other family.
	for i := range descriptors {
		t, err := mediaType(descriptors[i].MediaType, s.Docker)
		if err != nil {
			return nil, err
		}
		descriptors[i].MediaType = t
		// They describe the blob of the base, for example the table of contents of
		// eStargz.
		descriptors[i].Annotations = nil
	}
	return seal(s, config, descriptors, layers, annotate(s, f))
}

// configure makes the config of the image. Environment, user, working directory, ports
// and volumes come from the base, the entrypoint is the program, and the settings of s
// replace or extend these. Cmd of the base is dropped: it holds arguments of the base's
// entrypoint.
func configure(s Spec, p ocispec.Platform, f baseimage.Image) v1.ConfigFile {
	at := programPath(s, p)
	base := f.Config.Config
	c := v1.ConfigFile{
		Architecture: p.Architecture, OS: p.OS, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
		Created: v1.Time{Time: s.Time}, History: history(s, f),
		RootFS: v1.RootFS{Type: "layers", DiffIDs: slices.Clone(f.Config.RootFS.DiffIDs)},
		Config: v1.Config{
			Entrypoint: []string{at}, Cmd: s.Config.Cmd, User: base.User, WorkingDir: base.WorkingDir,
			Env: slices.Clone(base.Env), ExposedPorts: maps.Clone(base.ExposedPorts), Volumes: maps.Clone(base.Volumes),
			StopSignal: base.StopSignal, Healthcheck: s.Config.Healthcheck, Labels: labels(base.Labels, s.Config.Labels),
		},
	}
	// The version is that of the base, which Windows compares with the version of the
	// host.
	if f.Config.OSVersion != "" && p.OS == "windows" {
		c.OSVersion, c.OSFeatures = f.Config.OSVersion, f.Config.OSFeatures
	}
	// Windows has no numeric users.
	if s.base(p) == Scratch && p.OS != "windows" {
		c.Config.User = baseimage.Nonroot + ":" + baseimage.Nonroot
	}
	c.Config.Env = withPath(c.Config.Env, p, at)
	// On Windows, names of variables do not distinguish upper and lower case.
	for _, kv := range s.Config.Env {
		c.Config.Env = setEnv(c.Config.Env, kv, p.OS == "windows")
	}
	override(&c.Config.User, s.Config.User)
	override(&c.Config.WorkingDir, s.Config.WorkingDir)
	override(&c.Config.StopSignal, s.Config.StopSignal)
	if len(s.Config.Entrypoint) > 0 {
		c.Config.Entrypoint = s.Config.Entrypoint
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

// history returns the history of the base if it has an entry for each layer (image-spec,
// config.md, history). Otherwise it returns one entry for each layer of the base, so that
// the entries of the added layers match their layers.
func history(s Spec, f baseimage.Image) []v1.History {
	warned := 0
	for _, h := range f.Config.History {
		if !h.EmptyLayer {
			warned++
		}
	}
	if warned == len(f.Descriptors) {
		return slices.Clone(f.Config.History)
	}
	list := make([]v1.History, len(f.Descriptors))
	for i := range list {
		list[i] = v1.History{Created: v1.Time{Time: s.Time}, Comment: "layer of the base image"}
	}
	return list
}

// override sets *value unless with is empty.
func override(value *string, with string) {
	if with != "" {
		*value = with
	}
}

// include adds a member to a set, and makes the set first if it is nil.
func include(set *map[string]struct{}, member string) {
	if *set == nil {
		*set = map[string]struct{}{}
	}
	(*set)[member] = struct{}{}
}

// described is the prefix of labels and annotations that describe one image (image-spec,
// annotations.md). Those of a base do not describe the image that is built on it.
const described = "org.opencontainers.image."

// labels returns the labels of the base, without those that describe the base, and ours.
// It is nil if there are none.
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

// programPath returns the path of the program in the image, as a process on p names it:
// on Windows with C: and backslashes.
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

// withPath adds the program's directory to the end of PATH unless PATH has it. A base
// without PATH gets the default of the operating system first.
func withPath(env []string, p ocispec.Platform, program string) []string {
	separator, standard, dir := ":", baseimage.DefaultPath, path.Dir(program)
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

// setEnv sets a variable. The new value takes the position of the first old one and all
// other old ones are removed; a new variable is appended. env is not changed.
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

// annotate returns the annotations of the image manifest. A Docker manifest has none.
func annotate(s Spec, f baseimage.Image) map[string]string {
	if s.Docker {
		return nil
	}
	all := baseAnnotations(f.Name, f.Digest)
	maps.Copy(all, s.Config.Annotations)
	maps.Copy(all, s.ManifestAnnotations)
	return all
}

// baseAnnotations returns the annotations that name a base (image-spec, annotations.md):
// none for Static and Scratch, and no name for a base from a local OCI layout.
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

// seal marshals the config and the manifest, which fixes their digests, and opens them as
// a lazy image.
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
	// The specification requires the list; a nil slice would be null in JSON.
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

// A layerFetcher has the config and the layers of an image that this package made. Layers
// with the same digest are the same blob, so a map by digest is enough.
type layerFetcher struct {
	config []byte
	layers map[v1.Hash]v1.Layer
}

func (f layerFetcher) Name(h v1.Hash) string                { return h.String() }
func (f layerFetcher) Config(v1.Descriptor) ([]byte, error) { return f.config, nil }

// Child always fails: an image has no children.
func (f layerFetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}

// Blob opens a layer as it is stored, from its start.
func (f layerFetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return f.layers[d.Digest].Compressed()
}

// Part opens the bytes of a layer from one offset up to another, without verifying them.
// It is errors.ErrUnsupported if the source of the base opens whole layers only.
func (f layerFetcher) Part(d v1.Descriptor, from, to int64) (io.ReadCloser, error) {
	if l, ok := f.layers[d.Digest].(interface {
		Part(from, to int64) (io.ReadCloser, error)
	}); ok {
		return l.Part(from, to)
	}
	return nil, fmt.Errorf("a part of %s: %w", d.Digest, errors.ErrUnsupported)
}
