package attest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	packageurl "github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/xeipuuv/gojsonschema"

	"github.com/mabuild/mabuild/internal/attest"
)

var update = flag.Bool("update", false, "write the golden documents")

// facts returns facts that use every feature: a module replaced by another and one by a
// directory, names with characters that identifiers cannot have, a base image with
// packages.
func facts() attest.Facts {
	return attest.Facts{
		Name: "app", Tool: "v1.2.3", Platform: ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		Image: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)},
		Info: &debug.BuildInfo{
			GoVersion: "go1.26.1 X:nodwarf5", Path: "example.com/Acme/app/cmd/app",
			Main: debug.Module{Path: "example.com/Acme/app", Version: "(devel)"},
			Deps: []*debug.Module{
				{Path: "golang.org/x/text", Version: "v0.3.0", Sum: "h1:g61tztE5qeGQ89tm6NTjjM9VPIm088od1l6aSorWRWg="},
				{Path: "example.com/a_b", Version: "v1.0.0", Sum: "h1:g61tztE5qeGQ89tm6NTjjM9VPIm088od1l6aSorWRWg="},
				{Path: "example.com/a-b", Version: "v1.0.0+incompatible"},
				{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1", Sum: "h1:g61tztE5qeGQ89tm6NTjjM9VPIm088od1l6aSorWRWg="}},
				{Path: "example.com/near", Version: "v0.1.0", Replace: &debug.Module{Path: "/home/somebody/near", Version: "(devel)"}},
			},
			Settings: []debug.BuildSetting{
				{Key: "-buildmode", Value: "exe"},
				{Key: "-ldflags", Value: "-X main.token=hunter2"},
				{Key: "-gcflags", Value: "hunter2"},
				{Key: "CGO_ENABLED", Value: "0"},
				{Key: "CGO_CFLAGS", Value: "-DTOKEN=hunter2"},
				{Key: "GOARCH", Value: "arm"},
				{Key: "GOOS", Value: "linux"},
				{Key: "GOARM", Value: "7"},
			},
		},
		Base: attest.Base{
			Name: "debian:bookworm-slim", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)},
			Packages: &attest.Packages{
				Distro: "debian", Release: "12", Unread: []string{"rpm (/var/lib/rpm/rpmdb.sqlite)"},
				List: []attest.Package{{Kind: "deb", Name: "libc6", Version: "2.36-9+deb12u9", Arch: "armhf", Source: "glibc 2.36-9+deb12u9"}, {Kind: "deb", Name: "libssl3", Version: "1:3.0", Arch: "armhf"}},
			},
		},
	}
}

// variants returns facts with other contents.
func variants() map[string]attest.Facts {
	full := facts()
	full.Packages = []attest.Package{
		{Kind: "deb", Name: "libip4tc2", Version: "1:1.8.9-2+b1", Arch: "armhf", SHA256: strings.Repeat("ef", 32)},
		{Kind: "deb", Name: "netbase", Version: "6.4", Arch: "all", SHA256: strings.Repeat("12", 32)},
	}
	all := map[string]attest.Facts{"full": full}
	scratch := facts()
	scratch.Base = attest.Base{}
	scratch.Time = time.Unix(1_700_000_000, 0)
	scratch.Info.Settings[3].Value = "1" // cgo
	all["scratch"] = scratch
	static := facts()
	static.Base = attest.Base{Name: "mabuild static", BuiltIn: true, Digest: static.Image}
	static.Info.Path, static.Info.Main = "golang.org/x/text/cmd", debug.Module{Path: "scratch", Version: "(devel)"}
	static.Unread = []string{"Files beside the program are not analysed."}
	all["static"] = static
	wasm := facts()
	wasm.Info, wasm.Version, wasm.Base = nil, "v2.0.0", attest.Base{Digest: wasm.Base.Digest}
	wasm.Platform = ocispec.Platform{OS: "wasip1", Architecture: "wasm"}
	all["wasm"] = wasm
	return all
}

func write(t *testing.T, format attest.Format, f attest.Facts) []byte {
	t.Helper()
	b, err := attest.Write(format, f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The documents for fixed facts are the golden files, byte for byte.
func TestGoldenDocuments(t *testing.T) {
	for name, f := range variants() {
		for _, format := range []attest.Format{attest.SPDX, attest.CycloneDX} {
			file := filepath.Join("testdata", format.FileName(name, f.Platform))
			got := write(t, format, f)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from the golden file; -update rewrites it:\n%s", file, got)
			}
		}
	}
}

// An SPDX document passes the validation of SPDX's own library, and further rules of the
// specification.
func TestSPDXIsValid(t *testing.T) {
	id := regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	for name, f := range variants() {
		var doc spdx.Document
		if err := spdxjson.ReadInto(bytes.NewReader(write(t, attest.SPDX, f)), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := spdxlib.ValidateDocument(&doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		described, err := spdxlib.GetDescribedPackageIDs(&doc)
		if err != nil || len(described) != 1 || described[0] != "Image" {
			t.Errorf("%s: describes %v, %v", name, described, err)
		}
		if doc.SPDXVersion != "SPDX-2.3" || doc.DataLicense != "CC0-1.0" || strings.Contains(doc.DocumentNamespace, "#") {
			t.Errorf("%s: %s %s %s", name, doc.SPDXVersion, doc.DataLicense, doc.DocumentNamespace)
		}
		if _, err := time.Parse("2006-01-02T15:04:05Z", doc.CreationInfo.Created); err != nil {
			t.Errorf("%s: created: %v", name, err)
		}
		seen := map[string]bool{}
		for _, p := range doc.Packages {
			if key := string(p.PackageSPDXIdentifier); seen[key] || !id.MatchString(key) {
				t.Errorf("%s: identifier %s, seen %t", name, key, seen[key])
			} else {
				seen[key] = true
			}
			if p.PackageName == "" || p.PackageDownloadLocation == "" || p.FilesAnalyzed {
				t.Errorf("%s: package %+v", name, p)
			}
			for _, ref := range p.PackageExternalReferences {
				checkPURL(t, ref.Locator)
			}
		}
	}
}

// A CycloneDX document is readable by CycloneDX's own library and valid for the schema in
// its module.
func TestCycloneDXIsValid(t *testing.T) {
	schema := schemaOf(t)
	for name, f := range variants() {
		raw := write(t, attest.CycloneDX, f)
		result, err := schema.Validate(gojsonschema.NewBytesLoader(raw))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range result.Errors() {
			t.Errorf("%s: %s", name, e)
		}
		var bom cyclonedx.BOM
		if err := cyclonedx.NewBOMDecoder(bytes.NewReader(raw), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		refs := []string{bom.Metadata.Component.BOMRef}
		for _, c := range *bom.Components {
			if slices.Contains(refs, c.BOMRef) {
				t.Errorf("%s: %s occurs twice", name, c.BOMRef)
			}
			refs = append(refs, c.BOMRef)
			if c.PackageURL != "" {
				checkPURL(t, c.PackageURL)
			}
		}
		for _, d := range *bom.Dependencies {
			on := []string{d.Ref}
			if d.Dependencies != nil {
				on = append(on, *d.Dependencies...)
			}
			for _, ref := range on {
				if !slices.Contains(refs, ref) {
					t.Errorf("%s: %s is missing", name, ref)
				}
			}
		}
	}
	broken := bytes.Replace(write(t, attest.CycloneDX, facts()), []byte(`"application"`), []byte(`"spoon"`), 1)
	if result, err := schema.Validate(gojsonschema.NewBytesLoader(broken)); err != nil || result.Valid() {
		t.Errorf("the schema accepts an invalid document: %v", err)
	}
}

// schemaOf compiles the schema in the library's module.
func schemaOf(t *testing.T) *gojsonschema.Schema {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) gojsonschema.JSONLoader {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "schema", name))
		if err != nil {
			t.Fatal(err)
		}
		return gojsonschema.NewBytesLoader(b)
	}
	loader := gojsonschema.NewSchemaLoader()
	if err := loader.AddSchemas(read("spdx.schema.json"), read("jsf-0.82.schemax.json")); err != nil {
		t.Fatal(err)
	}
	schema, err := loader.Compile(read("bom-1.6.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func checkPURL(t *testing.T, text string) {
	t.Helper()
	u, err := packageurl.FromString(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
	}
	if again := u.ToString(); again != text {
		t.Errorf("%s is canonically %s", text, again)
	}
}

// The order of the facts does not change a document, and different facts give a document
// with a different name.
func TestDocumentsFollowFromFacts(t *testing.T) {
	for _, format := range []attest.Format{attest.SPDX, attest.CycloneDX} {
		first := write(t, format, facts())
		shuffled := facts()
		slices.Reverse(shuffled.Info.Deps)
		slices.Reverse(shuffled.Info.Settings)
		if !bytes.Equal(first, write(t, format, shuffled)) {
			t.Errorf("%s: the order of modules changes the document", format)
		}
		other := facts()
		other.Base.Packages = nil
		if identity(t, first) == identity(t, write(t, format, other)) {
			t.Errorf("%s: two documents have the same name", format)
		}
	}
}

func identity(t *testing.T, raw []byte) string {
	t.Helper()
	var d struct{ DocumentNamespace, SerialNumber string }
	if err := json.Unmarshal(raw, &d); err != nil || d.DocumentNamespace+d.SerialNumber == "" {
		t.Fatalf("%v: %s", err, raw)
	}
	return d.DocumentNamespace + d.SerialNumber
}

// A document contains no flags of compiler or linker and no paths of this host.
func TestDocumentsContainNothingPrivate(t *testing.T) {
	for _, format := range []attest.Format{attest.SPDX, attest.CycloneDX} {
		for _, secret := range []string{"hunter2", "somebody"} {
			if bytes.Contains(write(t, format, facts()), []byte(secret)) {
				t.Errorf("%s: the document contains %s", format, secret)
			}
		}
	}
}
