package regtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// JSON is a document, or a descriptor, with any fields.
type JSON map[string]any

// With returns d with a field set; nil removes the field.
func (d JSON) With(key string, value any) JSON {
	d = maps.Clone(d)
	if d[key] = value; value == nil {
		delete(d, key)
	}
	return d
}

// Digest returns the digest of a descriptor.
func (d JSON) Digest() string { return fmt.Sprint(d["digest"]) }

// Media types of the documents of a [Fixture].
const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// A Fixture holds blobs and manifests of any fields, of which none is checked. It is
// written as it is: into a registry by raw PUTs, an OCI layout or an archive.
//
//	var f regtest.Fixture
//	amd64 := f.Image(regtest.JSON{"os": "linux", "architecture": "amd64"}, "text")
//	index := f.Index(amd64.With("platform", regtest.JSON{"os": "linux", "architecture": "x86_64"}))
//	err := f.Put(r, "app", "v1", index)
type Fixture struct {
	parts []part // in the order of creation: each part before the documents that name it
}

type part struct {
	descriptor JSON
	raw        []byte
	manifest   bool
}

// Blob adds bytes and returns their descriptor.
func (f *Fixture) Blob(mediaType string, raw []byte) JSON {
	d := JSON{"mediaType": mediaType, "digest": fmt.Sprintf("sha256:%x", sha256.Sum256(raw)), "size": len(raw)}
	f.parts = append(f.parts, part{d, raw, false})
	return d
}

// Manifest adds a document and returns its descriptor. A registry gets it as a manifest of
// the media type in it.
func (f *Fixture) Manifest(doc JSON) JSON {
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err) // a mistake in the test
	}
	d := f.Blob(fmt.Sprint(doc["mediaType"]), raw)
	f.parts[len(f.parts)-1].manifest = true
	return d
}

// Image adds an OCI image with one layer that contains text. Its config is this one with
// rootfs added.
func (f *Fixture) Image(config JSON, text string) JSON {
	raw, diff := layerOf(text)
	config = config.With("rootfs", JSON{"type": "layers", "diff_ids": []string{diff}})
	file, err := json.Marshal(config)
	if err != nil {
		panic(err) // a mistake in the test
	}
	return f.Manifest(JSON{
		"schemaVersion": 2, "mediaType": ociManifest,
		"config": f.Blob(ociConfig, file), "layers": []JSON{f.Blob(ociLayer, raw)},
	})
}

// Artifact adds an OCI artifact with one blob, text. If typed, kind is its artifactType and
// the config is empty; otherwise kind is the media type of its config.
func (f *Fixture) Artifact(kind string, typed bool, text string) JSON {
	doc := JSON{"schemaVersion": 2, "mediaType": ociManifest, "config": f.Blob(kind, []byte("{}")), "layers": []JSON{f.Blob("text/plain", []byte(text))}}
	if typed {
		doc = doc.With("config", f.Blob("application/vnd.oci.empty.v1+json", []byte("{}"))).With("artifactType", kind)
	}
	return f.Manifest(doc)
}

// Index adds an OCI index of entries.
func (f *Fixture) Index(entries ...JSON) JSON {
	return f.Manifest(JSON{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
}

// layerOf returns a layer with one file. The same text gives the same layer.
func layerOf(text string) (raw []byte, diff string) {
	var plain, packed bytes.Buffer
	t, z := tar.NewWriter(&plain), gzip.NewWriter(&packed)
	err := t.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))})
	_, errWrite := io.WriteString(t, text)
	err = errors.Join(err, errWrite, t.Close())
	_, errWrite = z.Write(plain.Bytes())
	if err := errors.Join(err, errWrite, z.Close()); err != nil {
		panic(err) // writing to memory does not fail
	}
	return packed.Bytes(), fmt.Sprintf("sha256:%x", sha256.Sum256(plain.Bytes()))
}

// Put writes all parts to a repository of r, without faults and log, and the manifest root
// under a tag.
func (f *Fixture) Put(r *Registry, repo, tag string, root JSON) error {
	for _, p := range f.parts {
		var err error
		if p.manifest {
			err = r.putManifest(repo, p.descriptor.Digest(), p)
			if err == nil && p.descriptor.Digest() == root.Digest() {
				err = r.putManifest(repo, tag, p)
			}
		} else {
			err = r.putBlob(repo, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", repo, p.descriptor.Digest(), err)
		}
	}
	return nil
}

func (r *Registry) putManifest(repo, reference string, p part) error {
	_, err := r.tell(http.MethodPut, "/v2/"+repo+"/manifests/"+reference, fmt.Sprint(p.descriptor["mediaType"]), p.raw)
	return err
}

func (r *Registry) putBlob(repo string, p part) error {
	at, err := r.tell(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	query := u.Query()
	query.Set("digest", p.descriptor.Digest())
	_, err = r.tell(http.MethodPut, u.Path+"?"+query.Encode(), "application/octet-stream", p.raw)
	return err
}

// tell sends the judge a request that must succeed, and returns the Location of the
// response.
func (r *Registry) tell(method, path, contentType string, body []byte) (location string, err error) {
	req, err := http.NewRequest(method, r.judge.String()+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := r.toJudge.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	said, err := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		err = errors.Join(err, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said))
	}
	return resp.Header.Get("Location"), err
}

// Layout writes all parts to an OCI layout with root under a name, or without one if it is
// "".
func (f *Fixture) Layout(dir, name string, root JSON) error {
	var errs []error
	for file, raw := range f.files(name, root) {
		file = filepath.Join(dir, filepath.FromSlash(file))
		errs = append(errs, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, raw, 0o600))
	}
	return errors.Join(errs...)
}

// Archive writes the files of Layout as a tar file.
func (f *Fixture) Archive(file, name string, root JSON) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	files := f.files(name, root)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: file, Mode: int64(fs.ModePerm), Size: int64(len(files[file]))}); err != nil {
			return err
		}
		if _, err := w.Write(files[file]); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600))
}

// files returns the files of a layout, by their paths.
func (f *Fixture) files(name string, root JSON) map[string][]byte {
	if name != "" {
		root = root.With("annotations", JSON{"org.opencontainers.image.ref.name": name})
	}
	index, err := json.Marshal(JSON{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []JSON{root}})
	if err != nil {
		panic(err) // a mistake in the test
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}
	for _, p := range f.parts {
		algorithm, hex, _ := strings.Cut(p.descriptor.Digest(), ":")
		files[path.Join("blobs", algorithm, hex)] = p.raw
	}
	return files
}
