// Package records keeps what programs were compiled to in a repository of a registry, so that
// another machine need not compile them again.
//
// A record is an image manifest of the artifact type [ArtifactType] under the tag b1- with
// the first 40 digits of a key. Its one layer is the layer of the program, so no record
// outlives its layer. The key names all that decides the layer (see build.Image), so a record
// is never changed to another one, and two machines that write one write the same.
//
// A record is an assertion: whoever can write to the repository can put any layer under a
// key. With trusted keys a record counts only if one of them has signed it, for this
// repository. A layer that is read is checked by package build.
//
// No failure of this package stops a build. It is logged once a run, and the program is
// compiled.
package records

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// ArtifactType is the artifactType of the manifest of a record.
const ArtifactType = "application/vnd.mabuild.build.v1+json"

// The annotations of a record.
const (
	annotationKey       = "dev.mabuild.key"       // the whole key
	annotationPlatform  = "dev.mabuild.platform"  // see platformOf
	annotationDiffID    = "dev.mabuild.diffid"    // of the layer
	annotationProgram   = "dev.mabuild.program"   // import path of the main package
	annotationGo        = "dev.mabuild.go"        // release of Go
	annotationSigner    = "dev.mabuild.signer"    // public key
	annotationSignature = "dev.mabuild.signature" // of signed
	annotationInputs    = "dev.mabuild.inputs"    // see packInputs
)

// A Repository has the records of any number of programs. Its fields must not change after
// the first call. It is safe for concurrent use.
type Repository struct {
	Name    string // host/path
	Client  *registry.Client
	Write   bool                // Store stores
	Require bool                // a program without a record is an error
	Check   bool                // each program is read and checked, as build.Hooks says
	Key     ed25519.PrivateKey  // signs new records; nil: they are not signed
	Trust   []ed25519.PublicKey // whose records count; none: all do
	// Compile shares caches of the go command. They are kept in Cache, to which nobody else can
	// write, or in the directory Work if it is nil or cannot be used.
	Compile bool
	Cache   *cache.Cache
	Work    string
	Log     *slog.Logger

	caches sync.Map              // of goCache, by tag
	down   atomic.Pointer[error] // why the registry did not answer; it is not asked again
	warned sync.Map              // kinds of warnings
	missed sync.Map              // when a key was not recorded, by key
	came   sync.Map              // the Origin of a recalled layer, by key
}

// warn logs a warning of a kind once.
func (r *Repository) warn(ctx context.Context, kind, text string) {
	if _, before := r.warned.LoadOrStore(kind, true); !before {
		r.Log.WarnContext(ctx, "build records in "+r.Name+": "+text)
	}
}

// ref returns the reference of the record of a key.
func (r *Repository) ref(key string) string { return r.Name + ":b1-" + key[:40] }

// Recall is the hook of a build. A record that does not count, and an error, is fs.ErrNotExist.
func (r *Repository) Recall(ctx context.Context, p ocispec.Platform, key string) (v1.Layer, error) {
	l, err := r.Find(ctx, p, key)
	switch {
	case err == nil || ctx.Err() != nil:
		return l, err
	case !r.Require:
		return nil, fs.ErrNotExist
	case errors.Is(err, manifest.ErrNotFound):
		return nil, hint.New(hint.Build, "run mabuild cache explain to see what differs from the nearest record, and mabuild warm with the same sources, settings and release of Go, or omit --require-cache",
			"no build record in %s, but --require-cache is set", r.Name)
	}
	way := ""
	if errors.As(err, new(*untrustedError)) {
		way = "run mabuild warm with MABUILD_CACHE_KEY and --cache-trust, which writes it anew"
	}
	return nil, hint.New(hint.KindOf(err), way, "the build record %s cannot be used, but --require-cache is set: %w", r.ref(key), err)
}

// Find returns the layer of the record of a key, or why it cannot be used: manifest.ErrNotFound if
// there is none. It warns of any other error, of each kind once.
func (r *Repository) Find(ctx context.Context, p ocispec.Platform, key string) (v1.Layer, error) {
	if down := r.down.Load(); down != nil {
		return nil, *down
	}
	content, err := r.Client.Get(ctx, r.ref(key))
	switch {
	case errors.Is(err, manifest.ErrNotFound):
		r.missed.Store(key, time.Now())
		return nil, err
	case errors.Is(err, manifest.ErrMismatch):
		r.warn(ctx, "invalid", "not used: "+err.Error())
		return nil, err
	case err != nil:
		if ctx.Err() == nil && r.down.CompareAndSwap(nil, &err) {
			r.warn(ctx, "read", "cannot be read, so programs are compiled: "+err.Error())
		}
		return nil, err
	}
	l, from, err := r.read(p, key, content)
	switch untrusted := (*untrustedError)(nil); {
	case errors.As(err, &untrusted):
		r.warn(ctx, "untrusted", "not used, since no trusted key has signed "+r.ref(key))
	case err != nil:
		r.warn(ctx, "invalid", fmt.Sprintf("%s is not used for %s: %v", r.ref(key), platform.Key(p), err))
	default:
		r.came.Store(key, from)
		r.warnOfSigner(ctx, key, content)
	}
	return l, err
}

// warnOfSigner warns if a record counts here, but not on a machine that trusts the key of this one.
// Such a record is not written anew, since it is there.
func (r *Repository) warnOfSigner(ctx context.Context, key string, content manifest.Content) {
	if r.Key == nil || len(r.Trust) > 0 || !r.Write {
		return
	}
	raw, err := content.RawManifest()
	var m ocispec.Manifest
	if err != nil || json.Unmarshal(raw, &m) != nil {
		return
	}
	own, _ := r.Key.Public().(ed25519.PublicKey)
	signed, err := r.signed(m)
	if _, err := verify(m, []ed25519.PublicKey{own}, signed, err); err != nil {
		r.warn(ctx, "signer", r.ref(key)+" is not signed with MABUILD_CACHE_KEY; with --cache-trust "+PublicKey(r.Key)+" such records are written anew")
	}
}

// An Origin says from which record a layer came.
type Origin struct {
	Ref    string
	Digest v1.Hash // of the record
	Signer string  // public key; "" if no signature was required
}

// Origin returns where the layer came from that Recall has returned for a key.
func (r *Repository) Origin(key string) (Origin, bool) {
	found, ok := r.came.Load(key)
	from, _ := found.(Origin)
	return from, ok
}

// An untrustedError is the error of a record that no trusted key has signed.
type untrustedError struct{ signer string }

func (e *untrustedError) Error() string {
	if e.signer == "" {
		return "untrusted: it is not signed"
	}
	return "untrusted: no trusted key has signed it; it names the key " + text.Line(e.signer, 100)
}

// Untrusted reports whether an error says that no trusted key has signed a record.
func Untrusted(err error) bool { return errors.As(err, new(*untrustedError)) }

// read returns the layer of a record after comparing the record with what was asked for.
func (r *Repository) read(p ocispec.Platform, key string, content manifest.Content) (l v1.Layer, from Origin, err error) {
	raw, err := content.RawManifest()
	if err != nil {
		return nil, from, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, from, err
	}
	img, ok := content.(v1.Image)
	switch {
	case !ok || m.ArtifactType != ArtifactType || len(m.Layers) != 1:
		return nil, from, errors.New("it is not a build record")
	case m.Annotations[annotationKey] != key:
		return nil, from, errors.New("it is the record of another key")
	case m.Annotations[annotationPlatform] != platformOf(p):
		return nil, from, errors.New("it is the record of another platform")
	case m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip && m.Layers[0].MediaType != ocispec.MediaTypeImageLayerZstd:
		return nil, from, fmt.Errorf("its layer has the type %s", m.Layers[0].MediaType)
	}
	diffID, err := v1.NewHash(m.Annotations[annotationDiffID])
	if err != nil {
		return nil, from, fmt.Errorf("its uncompressed digest: %w", err)
	}
	signed, err := r.signed(m)
	signer, err := verify(m, r.Trust, signed, err)
	if err != nil {
		return nil, from, err
	}
	digest, err := v1.NewHash(m.Layers[0].Digest.String())
	if err != nil {
		return nil, from, err
	}
	from = Origin{Ref: r.ref(key), Signer: signer}
	if from.Digest, err = content.Digest(); err != nil {
		return nil, from, err
	}
	found, err := img.LayerByDigest(digest)
	return layer{found, diffID}, from, err
}

// platformOf returns the key of a platform without its version: versions of Windows share a
// program.
func platformOf(p ocispec.Platform) string {
	p.OSVersion, p.OSFeatures = "", nil
	return platform.Key(p)
}

// A layer is the layer of a record. A record has no config, so the manifest has the digest of
// the uncompressed layer.
type layer struct {
	v1.Layer
	diffID v1.Hash
}

// DiffID returns the digest of the uncompressed layer, as the record says it.
func (l layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Uncompressed opens the archive.
func (l layer) Uncompressed() (io.ReadCloser, error) {
	content, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return rootfs.Uncompress(content)
}

// raceAfter is the time after which another machine may have stored a record that was missing,
// so that it is asked for again before it is stored.
const raceAfter = 5 * time.Second

// Store stores the record of the program of img, and reports whether it is there. If another
// machine has stored another layer, its record stays, and the error says so. Any other error is
// logged once.
func (r *Repository) Store(ctx context.Context, img build.Image) (there bool, err error) {
	if !r.Write || img.Key == "" || r.down.Load() != nil {
		return false, nil
	}
	record, err := r.record(img)
	if err == nil {
		if missed, ok := r.missed.Load(img.Key); !ok || time.Since(missed.(time.Time)) > raceAfter {
			if there, err := r.other(ctx, img, record); there || err != nil {
				return there, err
			}
		}
		err = r.Client.Put(ctx, r.ref(img.Key), record)
	}
	if err != nil && ctx.Err() == nil {
		r.warn(ctx, "write", "cannot be written, so other machines compile, too: "+err.Error())
	}
	return err == nil, nil
}

// ID identifies the record of a key among those of all repositories, with who signs it.
func (r *Repository) ID(key string) string {
	signer := ""
	if r.Key != nil {
		signer = PublicKey(r.Key)
	}
	return r.Name + " " + key + " " + signer
}

// other reports whether the record of an image is stored already. The error says that a valid
// record has another layer.
func (r *Repository) other(ctx context.Context, img build.Image, record manifest.Content) (there bool, _ error) {
	content, err := r.Client.Get(ctx, r.ref(img.Key))
	if err != nil {
		return false, nil //nolint:nilerr // it is stored
	}
	was, err := content.Digest()
	is, ownErr := record.Digest()
	if err != nil || ownErr != nil || was == is {
		return err == nil && ownErr == nil, nil
	}
	l, _, err := r.read(img.Platform, img.Key, content)
	if err != nil {
		return false, nil //nolint:nilerr // an invalid record is replaced
	}
	layers, err := img.Layers()
	if err != nil {
		return false, nil //nolint:nilerr // storing it says why
	}
	same, err := SameLayer(l, layers[len(layers)-1])
	if err != nil || same {
		return same && r.Key == nil, nil //nolint:nilerr // it is stored again, perhaps with a signature
	}
	return true, hint.New(hint.Content, "compile it twice with --no-cache-repo and compare the digests",
		"%s: the program was compiled to another layer than its build record %s has, which is kept", platform.Key(img.Platform), r.ref(img.Key))
}

// SameLayer reports whether two layers have the same content, compressed and uncompressed.
func SameLayer(a, b v1.Layer) (bool, error) {
	var digests [2][2]v1.Hash
	for i, l := range []v1.Layer{a, b} {
		for j, digest := range []func() (v1.Hash, error){l.Digest, l.DiffID} {
			var err error
			if digests[i][j], err = digest(); err != nil {
				return false, err
			}
		}
	}
	return digests[0] == digests[1], nil
}

// record returns the manifest of a record.
func (r *Repository) record(img build.Image) (manifest.Content, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	l := layers[len(layers)-1]
	d, err := manifest.Describe(l)
	if err != nil {
		return nil, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}},
		Annotations: map[string]string{
			annotationKey: img.Key, annotationPlatform: platformOf(img.Platform), annotationDiffID: diffID.String(),
		},
	}
	if info := img.Binary.Info; info != nil {
		m.Annotations[annotationProgram], m.Annotations[annotationGo] = info.Path, info.GoVersion
	}
	if len(img.Inputs) > 0 {
		m.Annotations[annotationInputs] = packInputs(img.Inputs)
	}
	text, err := r.signed(m)
	if err := r.sign(&m, text, err); err != nil {
		return nil, err
	}
	return open(m, l.Compressed)
}

// open returns the content with a manifest. layer opens its only layer.
func open(m ocispec.Manifest, layer func() (io.ReadCloser, error)) (manifest.Content, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	own, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return manifest.Open(v1.Descriptor{Digest: own}, raw, artifact{layer})
}

// An artifact serves the layer of a record that is stored. It implements the source behind
// [manifest.Open].
type artifact struct {
	layer func() (io.ReadCloser, error)
}

// Name returns the digest, since the artifact has no other name in errors.
func (artifact) Name(h v1.Hash) string { return h.String() }

// Config returns the empty JSON object.
func (artifact) Config(v1.Descriptor) ([]byte, error) { return ocispec.DescriptorEmptyJSON.Data, nil }

// Blob opens the only layer.
func (a artifact) Blob(v1.Descriptor) (io.ReadCloser, error) { return a.layer() }

// Child always fails, since a record has no children.
func (artifact) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}

// signed returns what the signature of a record covers: the repository, so that the record
// counts nowhere else, the key, the platform and the layer.
func (r *Repository) signed(m ocispec.Manifest) ([]byte, error) {
	l := m.Layers[0]
	return r.scoped("build record 1", m.Annotations[annotationKey], m.Annotations[annotationPlatform], l.MediaType, l.Digest, l.Size, m.Annotations[annotationDiffID])
}

// scoped returns what a signature of something in the repository covers.
func (r *Repository) scoped(what string, facts ...any) ([]byte, error) {
	repo, err := name.NewRepository(r.Name)
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "mabuild %s\n%s\n", what, repo.Name())
	for _, fact := range facts {
		text = fmt.Appendf(text, "%v\n", fact)
	}
	return text, nil
}

// sign signs a text in the annotations of a manifest, if there is a key.
func (r *Repository) sign(m *ocispec.Manifest, text []byte, err error) error {
	if r.Key == nil || err != nil {
		return err
	}
	m.Annotations[annotationSigner] = PublicKey(r.Key)
	m.Annotations[annotationSignature] = base64.StdEncoding.EncodeToString(ed25519.Sign(r.Key, text))
	return nil
}

// verify returns the one of the keys that has signed a text in the annotations of a manifest.
// If there is none, the error is an untrustedError. Without keys everything is trusted.
func verify(m ocispec.Manifest, keys []ed25519.PublicKey, text []byte, err error) (signer string, _ error) {
	if len(keys) == 0 || err != nil {
		return "", err
	}
	signature, err := base64.StdEncoding.DecodeString(m.Annotations[annotationSignature])
	for _, key := range keys {
		if err == nil && ed25519.Verify(key, text, signature) {
			return publicPrefix + base64.StdEncoding.EncodeToString(key), nil
		}
	}
	return "", &untrustedError{m.Annotations[annotationSigner]}
}

// minSecret is the length of a secret, in bytes, from which a key is derived. A public key
// lets others guess a short secret without being seen.
const minSecret = 32

// KeyOf derives the key that signs records from a secret. It is an error if the secret is too
// short.
func KeyOf(secret string) (ed25519.PrivateKey, error) {
	if secret == "" {
		return nil, hint.New(hint.Usage, "set it, for example to the output of openssl rand -hex 32", "it is not set")
	}
	if len(secret) < minSecret {
		return nil, hint.New(hint.Usage, "for example the output of openssl rand -hex 32", "the secret has %d characters, and signing needs %d", len(secret), minSecret)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("mabuild build records")) // a hash never fails
	return ed25519.NewKeyFromSeed(mac.Sum(nil)), nil
}

// publicPrefix precedes the base64 of a public key.
const publicPrefix = "ed25519:"

// PublicKey returns the public half of a key as [ParsePublicKey] reads it.
func PublicKey(key ed25519.PrivateKey) string {
	public, _ := key.Public().(ed25519.PublicKey)
	return publicPrefix + base64.StdEncoding.EncodeToString(public)
}

// ParsePublicKey reads a public key.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(text, publicPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not a public key", text)
	}
	return key, nil
}
