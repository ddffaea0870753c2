package registry_test

import (
	"errors"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/mabuild/mabuild/internal/regtest"
)

// The window for decompressing a layer is bounded.
func TestUncompressedBoundsTheWindow(t *testing.T) {
	r := must(regtest.New(regtest.Options{}))(t)
	defer func() { must(0, r.Close())(t) }()
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 19 << 3, 1, 0, 0} // a window of 512 MiB
	img := must(mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(frame, types.OCILayerZStd)))(t)
	put(t, client(t), r.Host+"/app:v1", img)
	layers := must(must(client(t).Get(t.Context(), r.Host+"/app:v1"))(t).(v1.Image).Layers())(t)
	content, err := layers[0].Uncompressed()
	if err == nil {
		_, err = content.Read(make([]byte, 1))
	}
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("%v", err)
	}
}
