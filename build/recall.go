package build

import (
	"archive/tar"
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest/platform"
)

// fetched makes the image from a layer that is remembered under the key of the program, by
// the cache or by Recall, and reports whether it did. Neither the go command nor the
// compiler runs. It sets the key of the image in any case.
//
// The key is that of the layer with an entry that stands for the program: all that decides
// the layer is in it, and the program by what it is made from.
func (r *buildRun) fetched(ctx context.Context, img *Image, base PlannedBase) (bool, error) {
	source := r.maker.source(base.Platform)
	if source == "" {
		return false, nil
	}
	name := entryName(r.spec, base.Platform)
	w := r.Builder.layers(ctx, r.spec)
	var refused error
	w.Recall = func(key string, entries []layerfile.Entry) (v1.Layer, error) {
		img.Key = key
		img.Inputs, _ = r.maker.inputs(base.Platform)
		load := func() *foreignLayer {
			if l := w.Load(key, func() ([]layerfile.Entry, error) { return nil, errForgotten }); l != nil {
				return r.foreign(ctx, img, l, entries)
			}
			return nil
		}
		if !r.hooks.Anew {
			if l := load(); l != nil {
				return l, nil
			}
		}
		if r.hooks.Recall == nil {
			return nil, fs.ErrNotExist
		}
		l, err := r.hooks.Recall(ctx, base.Platform, key)
		if errors.Is(err, fs.ErrNotExist) && r.hooks.Kept {
			if l := load(); l != nil {
				if _, _, err := l.own(); err == nil { // what is recorded is read in any case
					return l, nil
				}
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			refused = err
		}
		if err != nil {
			return nil, err
		}
		f := r.foreign(ctx, img, l, entries)
		if r.hooks.Check {
			if _, _, err := f.own(); err != nil {
				return nil, err
			}
		}
		img.Recalled = true
		return f, nil
	}
	image, err := r.image(w, base, r.parts(layerfile.Unmade(name, programMode, source)))
	if err != nil {
		img.Recalled = false
		return false, refused
	}
	img.Image = image
	return true, nil
}

// keyed returns an entry that stands for a program by the key of its sources. The layer that w
// makes with it is that of the program, whose key is then set. Without a key of the sources it
// returns the program.
func keyed(w *layerfile.Writer, program layerfile.Entry, source string, key *string) layerfile.Entry {
	if source == "" {
		return program
	}
	w.Recall = func(is string, entries []layerfile.Entry) (v1.Layer, error) {
		*key = is
		return w.Layer(withProgram(entries, program))
	}
	return layerfile.Unmade(program.Name, programMode, source)
}

// withProgram returns entries with a program in place of what stands for it.
func withProgram(entries []layerfile.Entry, program layerfile.Entry) []layerfile.Entry {
	at := slices.IndexFunc(entries, func(e layerfile.Entry) bool { return e.Kind == tar.TypeReg })
	entries = slices.Clone(entries)
	entries[at].Size, entries[at].Content, entries[at].Open = program.Size, program.Content, program.Open
	return entries
}

// prove returns the key of an image that was made from a build record, or "". The program in its
// layer must be the recorded one, and pass the checks of a recalled one.
func (r *buildRun) prove(ctx context.Context, img Image, base PlannedBase, program layerfile.Entry) (key string) {
	source := r.maker.prove(ctx, base.Platform)
	if source == "" {
		return ""
	}
	layers, err := img.Layers()
	if err != nil {
		return ""
	}
	l := layers[len(layers)-1]
	file, err := r.takeOut(ctx, l, program.Name)
	if err == nil {
		_, err = r.maker.checkProgram(base.Platform, file)
	}
	if err != nil {
		r.log.DebugContext(ctx, "not recorded: "+err.Error(), "platform", platform.Key(base.Platform))
		return ""
	}
	is, err := layerfile.File("", 0, file)
	if err != nil || is.Content != program.Content {
		return ""
	}
	w := r.Builder.layers(ctx, r.spec)
	if _, err := r.image(w, base, r.parts(keyed(w, program, source, &key))); err != nil {
		return ""
	}
	r.layers.Remember(key, l)
	return key
}

// A foreignLayer is a layer of a program that this build has not made. It is not read before
// its content is needed: a registry that has it can mount it. Then the program in it is
// checked and laid out again, and must give the same layer.
type foreignLayer struct {
	v1.Layer
	mediaType types.MediaType
	own       func() (v1.Layer, *buildinfo.BuildInfo, error)
}

// foreign returns a layer that has the entries. It also lets img read its build information
// from the program. The cache does not remember it under its key: who trusts fewer keys
// later must not find it.
func (r *buildRun) foreign(ctx context.Context, img *Image, l v1.Layer, entries []layerfile.Entry) *foreignLayer {
	p := img.Platform
	f := &foreignLayer{Layer: l, mediaType: r.layers.MediaType()}
	var info *buildinfo.BuildInfo
	own := sync.OnceValues(func() (own v1.Layer, err error) {
		if own, info, err = r.relayer(ctx, p, l, entries); err != nil && r.hooks.Spoilt != nil && ctx.Err() == nil {
			r.hooks.Spoilt(p, err)
		}
		return own, err
	})
	f.own = func() (v1.Layer, *buildinfo.BuildInfo, error) {
		l, err := own()
		return l, info, err
	}
	img.info = func(context.Context) (*buildinfo.BuildInfo, error) {
		_, info, err := f.own()
		return info, err
	}
	return f
}

// MediaType returns the type of the layers of this build.
func (f *foreignLayer) MediaType() (types.MediaType, error) { return f.mediaType, nil }

// Compressed opens the layer that was laid out here.
func (f *foreignLayer) Compressed() (io.ReadCloser, error) {
	l, _, err := f.own()
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

// Uncompressed opens the archive of that layer.
func (f *foreignLayer) Uncompressed() (io.ReadCloser, error) {
	l, _, err := f.own()
	if err != nil {
		return nil, err
	}
	return l.Uncompressed()
}

// relayer takes the program out of a foreign layer, checks it, and lays it out as if it had
// been compiled here. Every byte of the foreign layer is compared by its digest.
func (r *buildRun) relayer(ctx context.Context, p ocispec.Platform, l v1.Layer, entries []layerfile.Entry) (v1.Layer, *buildinfo.BuildInfo, error) {
	at := slices.IndexFunc(entries, func(e layerfile.Entry) bool { return e.Kind == tar.TypeReg })
	file, err := r.takeOut(ctx, l, entries[at].Name)
	if err != nil {
		return nil, nil, err
	}
	info, err := r.maker.checkProgram(p, file)
	if err != nil {
		return nil, nil, err
	}
	program, err := layerfile.File("", 0, file)
	if err != nil {
		return nil, nil, err
	}
	own, err := r.Builder.layers(ctx, r.spec).Layer(withProgram(entries, program))
	if err != nil {
		return nil, nil, err
	}
	is, err := describe(own)
	if err != nil {
		return nil, nil, err
	}
	if said, err := describe(l); err != nil || said != is {
		return nil, nil, cmp.Or(err, fmt.Errorf("it is not the layer of its program: %s, and not %s", said, is))
	}
	return own, info, nil
}

// describe returns the digests and the size of a layer.
func describe(l v1.Layer) (string, error) {
	digest, err := l.Digest()
	if err != nil {
		return "", err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return "", err
	}
	size, err := l.Size()
	return fmt.Sprintf("%s of %d bytes, uncompressed %s", digest, size, diffID), err
}

// maxRecalled bounds the archive of a recalled layer, in bytes.
const maxRecalled = 4 << 30

// takeOut writes the file of this name in a layer to the work directory.
func (r *buildRun) takeOut(ctx context.Context, l v1.Layer, name string) (string, error) {
	content, err := l.Uncompressed()
	if err != nil {
		return "", err
	}
	defer content.Close() //nolint:errcheck // only read
	archive := tar.NewReader(io.LimitReader(content, maxRecalled))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("it has no file /%s", name)
		}
		if err != nil {
			return "", err
		}
		if rootfs.Clean(header.Name) != name || header.Typeflag != tar.TypeReg {
			continue
		}
		f, err := os.CreateTemp(r.Work, "recalled-*")
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, archive) //nolint:gosec // bounded by maxRecalled
		return f.Name(), errors.Join(err, f.Close(), ctx.Err())
	}
}

// remember keeps in the cache which layers were made here, by the keys of their images. A key
// that is not proved is dropped.
func (r *buildRun) remember(images []Image) {
	for i := range images {
		img := &images[i]
		if img.Key == "" || img.Binary.Path == "" {
			continue
		}
		if !r.maker.proved(img.Platform) {
			img.Key = ""
			continue
		}
		layers, err := img.Layers()
		if err == nil && !img.lent {
			r.layers.Remember(img.Key, layers[len(layers)-1])
		}
	}
}
