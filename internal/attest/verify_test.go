package attest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
)

// keyOf returns the key of a seed, the same in each run.
func keyOf(t *testing.T, seed byte) *sign.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	noError(t, err)
	key, err := sign.Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
	noError(t, err)
	return key
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A shelf is an index of two images and what refers to them, in memory.
type shelf struct {
	t      *testing.T
	index  v1.ImageIndex
	images []v1.Image
	all    map[v1.Hash]manifest.Content
	refers map[v1.Hash][]manifest.Referrer
	tags   map[string]manifest.Content
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, all: map[v1.Hash]manifest.Content{}, refers: map[v1.Hash][]manifest.Referrer{}, tags: map[string]manifest.Content{}}
	var children []manifest.Child
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch})
		noError(t, err)
		img = mutate.MediaType(img, types.OCIManifestSchema1)
		d, err := manifest.Describe(img)
		noError(t, err)
		d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		children = append(children, manifest.Child{Descriptor: d, Content: img})
		s.images = append(s.images, img)
	}
	var err error
	s.index, err = manifest.Index(children, nil)
	noError(t, err)
	return s
}

// subjects returns contents as subjects.
func (s *shelf) subjects(all ...manifest.Content) []Subject {
	var list []Subject
	for _, c := range all {
		h, err := c.Digest()
		noError(s.t, err)
		list = append(list, SubjectOf("x", h))
	}
	return list
}

// withSBOMs returns the index, the images and an SBOM of each as subjects, and attaches the SBOMs
// to the images with these positions.
func (s *shelf) withSBOMs(to ...int) []Subject {
	s.t.Helper()
	list := s.subjects(s.index)
	for i, img := range s.images {
		name := fmt.Sprint("app ", i)
		sbom, err := Artifact(SPDX, []byte("{}"), name, img)
		noError(s.t, err)
		h, err := sbom.Digest()
		noError(s.t, err)
		own, err := img.Digest()
		noError(s.t, err)
		list = append(list, SubjectOf(name, own), SBOMSubject(name, h))
		of, err := s.images[to[i]].Digest()
		noError(s.t, err)
		d, err := manifest.Describe(sbom)
		noError(s.t, err)
		d.ArtifactType = SPDX.MediaType()
		s.refers[of] = append(s.refers[of], manifest.Referrer{Descriptor: d})
	}
	return list
}

// attach adds an artifact to the referrers of its subject.
func (s *shelf) attach(artifact v1.Image) {
	s.t.Helper()
	m, err := artifact.Manifest()
	noError(s.t, err)
	d, err := manifest.Describe(artifact)
	noError(s.t, err)
	raw, err := artifact.RawManifest()
	noError(s.t, err)
	var own ocispec.Manifest
	noError(s.t, json.Unmarshal(raw, &own))
	d.ArtifactType, d.Annotations = own.ArtifactType, m.Annotations
	s.all[d.Digest] = artifact
	s.refers[m.Subject.Digest] = append(s.refers[m.Subject.Digest], manifest.Referrer{Descriptor: d})
}

// sign attaches a statement about subjects to content.
func (s *shelf) sign(key *sign.Key, to manifest.Content, predicateType string, predicate any, subjects ...Subject) {
	s.t.Helper()
	statement, err := NewStatement(predicateType, subjects, predicate)
	noError(s.t, err)
	bundle, err := key.Sign(s.t.Context(), statement)
	noError(s.t, err)
	artifact, err := BundleArtifact(bundle, predicateType, "", to)
	noError(s.t, err)
	s.attach(artifact)
}

func (s *shelf) verify(p Policy, keys ...*sign.Key) ([]Verdict, error) {
	s.t.Helper()
	var public []*sign.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	p.Open = func(_ context.Context, bundle []byte, _ v1.Hash) ([]byte, error) {
		b, err := sign.ParseBundle(bundle)
		if err != nil {
			return nil, err
		}
		return b.Statement(public)
	}
	p.OpenSimple = func(content, signature []byte) (string, error) { return sign.Simple(content, signature, public) }
	return p.Verify(s.t.Context(), Image{
		Content: s.index,
		Get: func(_ context.Context, h v1.Hash) (manifest.Content, error) {
			if c, ok := s.all[h]; ok {
				return c, nil
			}
			return nil, manifest.ErrNotFound
		},
		Referrers: func(_ context.Context, h v1.Hash) ([]manifest.Referrer, error) { return s.refers[h], nil },
		Tagged: func(_ context.Context, tag string) (manifest.Content, error) {
			if c, ok := s.tags[tag]; ok {
				return c, nil
			}
			return nil, manifest.ErrNotFound
		},
	})
}

// missing returns what does not hold, with the platform of each.
func missing(list []Verdict) string {
	var all []string
	for _, v := range list {
		for _, why := range v.Missing {
			all = append(all, strings.TrimSpace(v.Platform+" "+why))
		}
	}
	return strings.Join(all, "\n")
}

// An image holds if a statement by the key names it, its index, and each of its platforms.
func TestVerify(t *testing.T) {
	t.Parallel()
	key, other := keyOf(t, 1), keyOf(t, 2)
	signature := Policy{Require: []string{RequireSignature}}
	provenance := func(source string) Provenance {
		p, err := NewProvenance(Origin{Source: source, Builder: "https://ci.example/\x1b[31mred"}, nil)
		noError(t, err)
		return p
	}
	for name, c := range map[string]struct {
		policy Policy
		make   func(s *shelf)
		want   string
	}{
		"one statement about all": {signature, func(s *shelf) {
			s.sign(key, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
		}, ""},
		"statements of their own": {signature, func(s *shelf) {
			for _, c := range []manifest.Content{s.index, s.images[0], s.images[1]} {
				s.sign(key, c, PredicateSignature, struct{}{}, s.subjects(c)...)
			}
		}, ""},
		"nothing": {signature, func(*shelf) {}, "no signature\nlinux/amd64 no signature\nlinux/arm64 no signature"},
		"a child that no statement names": {signature, func(s *shelf) {
			s.sign(key, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0])...)
		}, "linux/arm64 no signature"},
		"images alone": {Policy{Require: []string{RequireSignature}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}}, func(s *shelf) {
			s.sign(key, s.images[1], PredicateSignature, struct{}{}, s.subjects(s.images[1])...)
		}, ""},
		"another image": {Policy{Require: []string{RequireSignature}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}}, func(s *shelf) {
			s.sign(key, s.images[1], PredicateSignature, struct{}{}, s.subjects(s.images[0])...)
		}, "linux/arm64 no valid signature: a signed statement is about another image"},
		"another key": {signature, func(s *shelf) {
			s.sign(other, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
		}, "no valid signature: signed by another key, or altered\nlinux/amd64 no valid signature: signed by another key, or altered\nlinux/arm64 no valid signature: signed by another key, or altered"},
		"another predicate": {signature, func(s *shelf) {
			s.sign(key, s.index, "https://example.com/scan/failed", struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
		}, "no signature\nlinux/amd64 no signature\nlinux/arm64 no signature"},
		"a bad one beside a good one": {signature, func(s *shelf) {
			s.sign(other, s.index, PredicateSignature, struct{}{}, s.subjects(s.index)...)
			s.sign(key, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
		}, ""},
		"provenance of the source": {
			Policy{Require: []string{RequireProvenance}, Source: "https://github.com/acme/app", Ref: "refs/tags/v1"},
			func(s *shelf) {
				s.sign(key, s.index, PredicateProvenance, provenance("git+https://github.com/acme/app@refs/tags/v1"), s.subjects(s.index, s.images[0], s.images[1])...)
			}, "",
		},
		"provenance of another source": {
			Policy{Require: []string{RequireProvenance}, Source: "https://github.com/acme/app", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}},
			func(s *shelf) {
				s.sign(key, s.index, PredicateProvenance, provenance("git+https://github.com/evil/app@refs/tags/v1"), s.subjects(s.index, s.images[0], s.images[1])...)
			}, "linux/amd64 the source is git+https://github.com/evil/app, not https://github.com/acme/app",
		},
		"provenance without a source beside another signature": {
			Policy{Require: []string{RequireProvenance}, Source: "https://github.com/acme/app", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}},
			func(s *shelf) {
				s.sign(other, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0])...)
				s.sign(key, s.index, PredicateProvenance, provenance(""), s.subjects(s.index, s.images[0], s.images[1])...)
			}, "linux/amd64 the provenance has no source, as of a push outside a git checkout",
		},
		"control characters": {
			Policy{Require: []string{RequireProvenance}, Builder: "b", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}},
			func(s *shelf) {
				s.sign(key, s.index, PredicateProvenance, provenance("git+https://github.com/acme/app"), s.subjects(s.index, s.images[0])...)
			}, "linux/amd64 the builder is https://ci.example/[31mred, not b",
		},
		"unsigned provenance": {
			Policy{Require: []string{RequireProvenance}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}},
			func(s *shelf) {
				statement, err := NewStatement(PredicateProvenance, s.subjects(s.images[0]), provenance("x"))
				noError(s.t, err)
				artifact, err := StatementArtifact(s.images[0], "", statement)
				noError(s.t, err)
				s.attach(artifact)
			}, "linux/amd64 no signed provenance",
		},
		"an SBOM that no statement names": {
			Policy{Require: []string{RequireSBOM}},
			func(s *shelf) {
				s.sign(key, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
				sbom, err := Artifact(SPDX, []byte("{}"), "x", s.images[0])
				noError(s.t, err)
				s.attach(sbom)
			}, "linux/amd64 no signed SBOM\nlinux/arm64 no signed SBOM",
		},
		"signed SBOMs": {
			Policy{Require: []string{RequireSBOM}},
			func(s *shelf) {
				s.sign(key, s.index, PredicateSignature, struct{}{}, s.withSBOMs(0, 1)...)
			}, "",
		},
		"SBOMs of other images": {
			Policy{Require: []string{RequireSBOM}},
			func(s *shelf) {
				s.sign(key, s.index, PredicateSignature, struct{}{}, s.withSBOMs(1, 0)...)
			}, "linux/amd64 no signed SBOM\nlinux/arm64 no signed SBOM",
		},
		"a statement that is listed and was deleted": {signature, func(s *shelf) {
			s.sign(other, s.index, PredicateSignature, struct{}{}, s.subjects(s.index)...)
			clear(s.all)
			s.sign(key, s.index, PredicateSignature, struct{}{}, s.subjects(s.index, s.images[0], s.images[1])...)
		}, ""},
	} {
		s := newShelf(t)
		c.make(s)
		verdicts, err := s.verify(c.policy, key)
		if got := missing(verdicts); err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// tagged stores a signature in the form of cosign 2 under the tag of a subject.
func (s *shelf) tagged(subject manifest.Content, layers ...mutate.Addendum) {
	s.t.Helper()
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	noError(s.t, err)
	h, err := subject.Digest()
	noError(s.t, err)
	s.tags[manifest.ReferrersTag(h)+".sig"] = img
}

// simple returns a layer with the key's signature of a subject.
func (s *shelf) simple(key *sign.Key, subject manifest.Content) mutate.Addendum {
	s.t.Helper()
	h, err := subject.Digest()
	noError(s.t, err)
	content, signature, err := key.SimpleSigning("example.com/app", h.String())
	noError(s.t, err)
	return simpleLayer(content, signature)
}

func simpleLayer(content, signature []byte) mutate.Addendum {
	return mutate.Addendum{
		Layer: static.NewLayer(content, sign.SimpleType), MediaType: sign.SimpleType,
		Annotations: map[string]string{sign.SimpleAnnotation: base64.StdEncoding.EncodeToString(signature)},
	}
}

// A signature in the form of cosign 2 counts as one in a bundle. That of the index covers its
// images. What does not hold is told, and content that contradicts its digest is an error.
func TestVerifySimple(t *testing.T) {
	t.Parallel()
	key, other := keyOf(t, 1), keyOf(t, 2)
	arm64 := Policy{Require: []string{RequireSignature}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}}
	signature := Policy{Require: []string{RequireSignature}}
	for name, c := range map[string]struct {
		policy Policy
		make   func(*shelf)
		want   string
	}{
		"the index":           {signature, func(s *shelf) { s.tagged(s.index, s.simple(key, s.index)) }, ""},
		"the image alone":     {arm64, func(s *shelf) { s.tagged(s.images[1], s.simple(key, s.images[1])) }, ""},
		"the second of two":   {arm64, func(s *shelf) { s.tagged(s.index, s.simple(other, s.index), s.simple(key, s.index)) }, ""},
		"nothing for a child": {arm64, func(s *shelf) { s.tagged(s.images[0], s.simple(key, s.images[0])) }, "linux/arm64 no signature"},
		"another key":         {arm64, func(s *shelf) { s.tagged(s.index, s.simple(other, s.index)) }, "linux/arm64 no valid signature: signed by another key, or altered"},
		"another image":       {arm64, func(s *shelf) { s.tagged(s.images[1], s.simple(key, s.images[0])) }, "linux/arm64 no valid signature: a signature is about another image"},
		"no signature in it":  {arm64, func(s *shelf) { s.tagged(s.images[1], simpleLayer([]byte("{}"), nil)) }, "linux/arm64 no valid signature: a layer of a signature's tag is no signature"},
		"a large one":         {arm64, func(s *shelf) { s.tagged(s.images[1], simpleLayer(make([]byte, sign.MaxSimple+1), []byte("x"))) }, "linux/arm64 no valid signature: the content of a signature has 65537 bytes, more than 65536"},
		"provenance is more":  {Policy{Require: []string{RequireProvenance}, Platforms: arm64.Platforms}, func(s *shelf) { s.tagged(s.index, s.simple(key, s.index)) }, "linux/arm64 no signed provenance"},
	} {
		s := newShelf(t)
		c.make(s)
		verdicts, err := s.verify(c.policy, key)
		if got := missing(verdicts); err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
	s := newShelf(t)
	var many []mutate.Addendum
	for i := range maxReferrers + 1 {
		many = append(many, simpleLayer([]byte{byte(i)}, []byte("x")))
	}
	s.tagged(s.index, many...)
	if _, err := s.verify(signature, key); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("101 signatures: %v", err)
	}
}

// What is too large or too much is refused before it is read.
func TestVerifyBounds(t *testing.T) {
	t.Parallel()
	key := keyOf(t, 1)
	s := newShelf(t)
	for i := range maxReferrers + 1 {
		s.sign(key, s.index, PredicateSignature, i, s.subjects(s.index)...)
	}
	if _, err := s.verify(Policy{Require: []string{RequireSignature}}, key); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("101 referrers: %v", err)
	}
	s = newShelf(t)
	artifact, err := BundleArtifact(make([]byte, 5<<20), PredicateSignature, "", s.index)
	noError(t, err)
	s.attach(artifact)
	verdicts, err := s.verify(Policy{Require: []string{RequireSignature}}, key)
	if got, want := missing(verdicts), ": a bundle has 5242880 bytes, more than 4194304"; err != nil || !strings.Contains(got, want) {
		t.Errorf("5 MiB: %v, %s", err, got)
	}
	var absent *manifest.PlatformError
	if _, err := s.verify(Policy{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}}, key); !errors.As(err, &absent) {
		t.Errorf("an absent platform: %v", err)
	}
}

// The provenance of the same build has these bytes. Settings of the program, which can hold
// secrets, are not in it.
func TestProvenance(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{
		GoVersion: "go1.26.1 X:none", Path: "example.com/app", Main: debug.Module{Path: "example.com/app", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "golang.org/x/mod", Version: "v0.42.0", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
			{Path: "example.com/near", Version: "v1.0.0", Replace: &debug.Module{Path: "../near"}},
		},
		Settings: []debug.BuildSetting{{Key: "-ldflags", Value: "-X main.token=s3cret"}},
	}
	base := Base{Name: "docker.io/library/debian:12", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}, Index: v1.Hash{Algorithm: "sha256", Hex: "1d"}}
	amd64, arm64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	p, err := NewProvenance(Origin{
		Source: "git+https://github.com/acme/app@refs/tags/v1", Commit: "c0ffee", Modified: true, Config: ".mabuild.yaml", Digest: "d1",
		Build: "app", Main: "./cmd/app", Platforms: []string{"linux/amd64", "linux/arm64"}, Base: map[string]string{"default": "debian:12"},
		Overrides: []string{"ldflags"}, Builder: LocalBuilder, Tool: "v1.0.0",
	}, []Material{
		{amd64, base, info, []Package{{Kind: "deb", Name: "netbase", Version: "6.4", Arch: "all", SHA256: "5a"}}, Record{}},
		{arm64, Base{BuiltIn: true}, &debug.BuildInfo{GoVersion: "go1.26.1", Path: info.Path, Main: info.Main}, []Package{
			{Kind: "deb", Name: "iptables", Version: "1.8.9-2", Arch: "arm64", SHA256: "5b"}, {Kind: "deb", Name: "netbase", Version: "6.4", Arch: "all", SHA256: "5a"},
		}, Record{}},
	})
	noError(t, err)
	raw, err := json.MarshalIndent(p, "", " ")
	noError(t, err)
	if got := string(raw); got != wantProvenance {
		t.Errorf("got\n%s", got)
	}
}

const wantProvenance = `{
 "buildDefinition": {
  "buildType": "https://github.com/mabuild/mabuild/provenance/v1",
  "externalParameters": {
   "source": "git+https://github.com/acme/app@refs/tags/v1",
   "config": ".mabuild.yaml",
   "build": "app",
   "main": "./cmd/app",
   "platforms": [
    "linux/amd64",
    "linux/arm64"
   ],
   "base": {
    "default": "debian:12"
   },
   "overrides": [
    "ldflags"
   ]
  },
  "internalParameters": {
   "go": "go1.26.1",
   "mabuild": "v1.0.0",
   "cgo": false
  },
  "resolvedDependencies": [
   {
    "name": "source",
    "uri": "git+https://github.com/acme/app@refs/tags/v1",
    "digest": {
     "gitCommit": "c0ffee"
    },
    "annotations": {
     "modified": true
    }
   },
   {
    "name": "config",
    "digest": {
     "sha256": "d1"
    }
   },
   {
    "name": "base linux/amd64",
    "uri": "pkg:oci/debian@sha256:abababababababababababababababababababababababababababababababab?arch=amd64\u0026repository_url=index.docker.io%2Flibrary%2Fdebian\u0026tag=12",
    "digest": {
     "sha256": "abababababababababababababababababababababababababababababababab"
    },
    "annotations": {
     "index": "sha256:1d"
    }
   },
   {
    "name": "go",
    "uri": "pkg:golang/toolchain@go1.26.1"
   },
   {
    "uri": "pkg:deb/debian/iptables@1.8.9-2?arch=arm64",
    "digest": {
     "sha256": "5b"
    }
   },
   {
    "uri": "pkg:deb/debian/netbase@6.4?arch=all",
    "digest": {
     "sha256": "5a"
    }
   },
   {
    "uri": "pkg:golang/golang.org/x/mod@v0.42.0",
    "digest": {
     "dirHash1": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    },
    "annotations": {
     "platforms": "linux/amd64"
    }
   }
  ]
 },
 "runDetails": {
  "builder": {
   "id": "https://github.com/mabuild/mabuild/provenance/v1#local",
   "version": {
    "mabuild": "v1.0.0"
   }
  }
 }
}`

// A statement with the digest of the content is about it, of either algorithm.
func TestAbout(t *testing.T) {
	t.Parallel()
	h := v1.Hash{Algorithm: "sha256", Hex: "ab"}
	s := Statement{Subject: []Subject{{"x", map[string]string{"sha256": "ab", "sha512": "cd"}}}}
	for _, c := range []struct {
		h    v1.Hash
		want bool
	}{{h, true}, {v1.Hash{Algorithm: "sha512", Hex: "cd"}, true}, {v1.Hash{Algorithm: "sha512", Hex: "ab"}, false}, {v1.Hash{}, false}} {
		if s.About(c.h) != c.want {
			t.Errorf("%s: %t", c.h, !c.want)
		}
	}
	if (Statement{Subject: []Subject{{"x", nil}}}).About(v1.Hash{}) {
		t.Error("a subject without a digest is about everything")
	}
}

// sourceOf reads provenance of mabuild and of GitHub's workflows.
func TestSourceOf(t *testing.T) {
	t.Parallel()
	for predicate, want := range map[string]string{
		`{"buildDefinition":{"externalParameters":{"source":"git+https://github.com/a/b@refs/heads/x"}},"runDetails":{"builder":{"id":"i"}}}`:                              "git+https://github.com/a/b refs/heads/x i",
		`{"buildDefinition":{"externalParameters":{"source":"git+https://user@host/a@b"}}}`:                                                                                "git+https://user@host/a@b",
		`{"buildDefinition":{"externalParameters":{"workflow":{"repository":"https://github.com/a/b","ref":"refs/tags/v1"}}},"runDetails":{"builder":{"id":"https://g"}}}`: "https://github.com/a/b refs/tags/v1 https://g",
		`{"buildDefinition":{"externalParameters":{"source":{"uri":"x"}}}}`:                                                                                                "",
	} {
		source, ref, builder, err := sourceOf([]byte(predicate))
		noError(t, err)
		got := strings.Join(slices.DeleteFunc([]string{source, ref, builder}, func(s string) bool { return s == "" }), " ")
		if got != want {
			t.Errorf("%s: %s, want %s", predicate, got, want)
		}
	}
}
