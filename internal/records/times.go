package records

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// TimesType is the artifactType of the manifest of the times that programs took to compile.
const TimesType = "application/vnd.mabuild.times.v1+json"

// annotationTimes is the annotation with the times: JSON, zstd and base64.
const annotationTimes = "dev.mabuild.times"

// Times has how long programs took to compile, in milliseconds and by the caller's names. All
// shards of a run must divide its work by the same times. So each of them stores its times
// together with those that the run began with.
type Times struct {
	Run   string           `json:"run"`   // identifies what the run compiles
	Began map[string]int64 `json:"began"` // those that the run began with
	Now   map[string]int64 `json:"now"`   // with those of the shards that have ended
}

// ReadTimes returns the times by which the shards of a run divide its work. name identifies
// the programs, and run their sources. There are none if they cannot be read: the parts are then
// equal in number.
func (r *Repository) ReadTimes(ctx context.Context, name, run string) map[string]int64 {
	return r.readTimes(ctx, name).of(run)
}

// of returns the times that a run began with.
func (t Times) of(run string) map[string]int64 {
	if t.Run == run {
		return t.Began
	}
	return t.Now
}

// readTimes returns what is stored.
func (r *Repository) readTimes(ctx context.Context, name string) (t Times) {
	if r.down.Load() != nil {
		return t
	}
	content, err := r.Client.Get(ctx, r.timesRef(name))
	if err != nil {
		if !errors.Is(err, manifest.ErrNotFound) && ctx.Err() == nil {
			r.warn(ctx, "times", "the times of the last run cannot be read, so shards are equal in number: "+err.Error())
		}
		return t
	}
	raw, err := content.RawManifest()
	var m ocispec.Manifest
	if err != nil || json.Unmarshal(raw, &m) != nil || m.ArtifactType != TimesType {
		return t
	}
	if unpack(m.Annotations[annotationTimes], &t) != nil {
		return Times{}
	}
	return t
}

// StoreTimes adds the times of a shard to those of its run. began are those that ReadTimes
// returned to it. Of two shards that end at once one may be lost, which costs balance only.
func (r *Repository) StoreTimes(ctx context.Context, name, run string, began, took map[string]int64) {
	if !r.Write || len(took) == 0 || r.down.Load() != nil || ctx.Err() != nil {
		return
	}
	t := r.readTimes(ctx, name)
	if t.Run != run {
		t = Times{Run: run, Began: began, Now: maps.Clone(began)}
	}
	if t.Now == nil {
		t.Now = map[string]int64{}
	}
	maps.Copy(t.Now, took)
	packed, err := pack(t)
	if err != nil {
		return
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: TimesType,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON},
		Annotations: map[string]string{annotationTimes: packed},
	}
	content, err := open(m, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(ocispec.DescriptorEmptyJSON.Data)), nil
	})
	if err == nil {
		err = r.Client.Put(ctx, r.timesRef(name), content)
	}
	if err != nil && ctx.Err() == nil {
		r.warn(ctx, "write times", "the times of this run cannot be written: "+err.Error())
	}
}

// timesRef returns the reference of the times of some programs.
func (r *Repository) timesRef(name string) string {
	return fmt.Sprintf("%s:times-%.40x", r.Name, sha256.Sum256([]byte(name)))
}

// maxPacked bounds what an annotation unpacks to, in bytes.
const maxPacked = 4 << 20

// pack writes a value as an annotation: JSON, zstd and base64.
func pack(value any) (string, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(w.EncodeAll(raw, nil)), nil
}

// unpack reads such an annotation.
func unpack(text string, value any) error {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPacked))
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := r.DecodeAll(packed, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, value)
}
