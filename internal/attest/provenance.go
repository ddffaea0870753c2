package attest

import (
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// BuildType names the form of the parameters in the provenance of mabuild, which
// docs/provenance.md describes.
const BuildType = "https://github.com/mabuild/mabuild/provenance/v1"

// LocalBuilder is the builder of a run that no CI system vouches for.
const LocalBuilder = BuildType + "#local"

// An Origin says where the sources and the configuration of a program came from, and who
// builds it. Empty fields are left out.
type Origin struct {
	Source   string // git+URL@REF of a checkout, or the package URL of a module
	Commit   string // of the checkout
	Modified bool   // tracked files differ from the commit
	Config   string // path of the configuration file in the tree
	Digest   string // SHA-256 of that file in hex

	Build     string            // name of the program
	Main      string            // its package
	Platforms []string          // in the form of platform.Key
	Base      map[string]string // references, by platform or "default"
	Overrides []string          // settings that flags or variables gave
	Values    map[string]string // values of all settings; only for max
	Cgo       bool

	Builder    string
	Invocation string // address of the run; only for max
	Started    string // time in RFC 3339; only for max
	Finished   string
	Tool       string // version of mabuild

	Byproducts []Byproduct // only for max
}

// A Byproduct is what else came of a run.
type Byproduct struct {
	Name        string            `json:"name"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// A Material is what the image of one platform was made from, beside the sources.
type Material struct {
	Platform ocispec.Platform
	Base     Base
	Info     *debug.BuildInfo // of the program; nil if it carries none
	Packages []Package        // that were added to the base
	Record   Record           // that the program came from; zero: it was compiled
}

// A Record is a build record of another machine.
type Record struct {
	Ref    string
	Digest v1.Hash
	Signer string // public key; "" if no signature was required
}

// A Provenance is the predicate of SLSA, version 1 (provenance/v1).
type Provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   externalParameters `json:"externalParameters"`
	InternalParameters   internalParameters `json:"internalParameters"`
	ResolvedDependencies []dependency       `json:"resolvedDependencies"`
}

type externalParameters struct {
	Source    string            `json:"source,omitempty"`
	Config    string            `json:"config,omitempty"`
	Build     string            `json:"build"`
	Main      string            `json:"main"`
	Platforms []string          `json:"platforms"`
	Base      map[string]string `json:"base"`
	Overrides []string          `json:"overrides,omitempty"`
	Values    map[string]string `json:"values,omitempty"`
}

type internalParameters struct {
	Go      string `json:"go,omitempty"`
	Mabuild string `json:"mabuild"`
	Cgo     bool   `json:"cgo"`
}

type dependency struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

type runDetails struct {
	Builder    builder     `json:"builder"`
	Metadata   *metadata   `json:"metadata,omitempty"`
	Byproducts []Byproduct `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

type metadata struct {
	InvocationID string `json:"invocationId,omitempty"`
	StartedOn    string `json:"startedOn,omitempty"`
	FinishedOn   string `json:"finishedOn,omitempty"`
}

// NewProvenance returns the provenance of images. It depends on its arguments alone, and
// all lists are sorted, so the same build has the same provenance.
func NewProvenance(o Origin, images []Material) (Provenance, error) {
	version := goOf(images)
	p := Provenance{
		BuildDefinition: buildDefinition{
			BuildType: BuildType,
			ExternalParameters: externalParameters{
				Source: o.Source, Config: o.Config, Build: o.Build, Main: o.Main,
				Platforms: o.Platforms, Base: o.Base, Overrides: o.Overrides, Values: o.Values,
			},
			InternalParameters: internalParameters{Mabuild: o.Tool, Cgo: o.Cgo, Go: version},
		},
		RunDetails: runDetails{Builder: builder{o.Builder, map[string]string{"mabuild": o.Tool}}, Byproducts: o.Byproducts},
	}
	if m := (metadata{o.Invocation, o.Started, o.Finished}); m != (metadata{}) {
		p.RunDetails.Metadata = &m
	}
	list := o.dependencies()
	for _, i := range images {
		one, err := i.base()
		if err != nil {
			return p, err
		}
		list = append(append(list, one...), i.record()...)
	}
	if version != "" { // the digest of an installed toolchain is not known
		list = append(list, dependency{Name: "go", URI: "pkg:golang/toolchain@" + version})
	}
	added, err := addedPackages(images)
	if err != nil {
		return p, err
	}
	found, err := modules(images)
	p.BuildDefinition.ResolvedDependencies = slices.Concat(list, added, found)
	return p, err
}

// addedPackages returns the packages that were added to the bases, each once, sorted.
func addedPackages(images []Material) ([]dependency, error) {
	found := map[string]dependency{}
	for _, i := range images {
		for _, one := range i.Packages {
			p, err := addedPackage(one)
			if err != nil {
				return nil, err
			}
			found[p.purl+" "+p.sha256] = dependency{URI: p.purl, Digest: map[string]string{"sha256": p.sha256}}
		}
	}
	var list []dependency
	for _, key := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[key])
	}
	return list, nil
}

// dependencies returns the sources and the configuration file.
func (o Origin) dependencies() []dependency {
	var list []dependency
	if o.Commit != "" {
		list = append(list, dependency{
			Name: "source", URI: o.Source, Digest: map[string]string{"gitCommit": o.Commit},
			Annotations: map[string]any{"modified": o.Modified},
		})
	}
	if o.Digest != "" {
		list = append(list, dependency{Name: "config", Digest: map[string]string{"sha256": o.Digest}})
	}
	return list
}

// goOf returns the version of Go, which is the same for all images of a build.
func goOf(images []Material) string {
	for _, i := range images {
		if i.Info != nil {
			version, _, _ := strings.Cut(i.Info.GoVersion, " ")
			return version
		}
	}
	return ""
}

// base returns the base image of a platform. scratch and the static base, which are built
// in, are no dependencies.
func (i Material) base() ([]dependency, error) {
	if i.Base.BuiltIn || i.Base.Digest == (v1.Hash{}) {
		return nil, nil
	}
	_, purl, err := i.Base.purl(i.Platform.Architecture)
	d := dependency{
		Name: "base " + platform.Key(i.Platform), URI: purl,
		Digest: map[string]string{i.Base.Digest.Algorithm: i.Base.Digest.Hex},
	}
	if i.Base.Index != (v1.Hash{}) {
		d.Annotations = map[string]any{"index": i.Base.Index.String()}
	}
	return []dependency{d}, err
}

// record returns the build record that the program came from.
func (i Material) record() []dependency {
	if i.Record.Ref == "" {
		return nil
	}
	d := dependency{
		Name: "build record " + platform.Key(i.Platform), URI: i.Record.Ref,
		Digest: map[string]string{i.Record.Digest.Algorithm: i.Record.Digest.Hex},
	}
	if i.Record.Signer != "" {
		d.Annotations = map[string]any{"signer": i.Record.Signer}
	}
	return []dependency{d}
}

// modules returns the Go modules of the programs, with the checksums of go.sum as in-toto's
// digest sets have them (attestation spec/v1/digest_set.md, dirHash). A module that not
// all platforms need says which do. Directories, which have no version, are left out.
func modules(images []Material) ([]dependency, error) {
	found, of := map[string]dependency{}, map[string][]string{}
	for _, i := range images {
		if i.Info == nil {
			continue
		}
		// The program's own module is a dependency if it is a released one, as of
		// module/path@version.
		own, all := programModule(i.Info)
		if own.Sum != "" {
			all = append([]*debug.Module{&own}, all...)
		}
		for _, m := range all {
			p, err := module(m)
			if err != nil {
				return nil, err
			}
			if p.version == "" {
				continue
			}
			d := dependency{URI: p.purl}
			if p.sha256 != "" {
				d.Digest = map[string]string{"dirHash1": p.sha256}
			}
			found[p.purl] = d
			of[p.purl] = append(of[p.purl], platform.Key(i.Platform))
		}
	}
	var list []dependency
	for _, purl := range slices.Sorted(maps.Keys(found)) {
		d := found[purl]
		if len(of[purl]) < len(images) {
			d.Annotations = map[string]any{"platforms": strings.Join(of[purl], ",")}
		}
		list = append(list, d)
	}
	return list, nil
}
