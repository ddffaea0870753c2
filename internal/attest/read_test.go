package attest_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/attest"
)

// read reads an artifact with one layer.
func read(t testing.TB, mediaType, layer string) (attest.Document, error) {
	t.Helper()
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer([]byte(layer), types.MediaType(mediaType))})
	if err != nil {
		t.Fatal(err)
	}
	return attest.Read(img)
}

// wrapped returns a document by itself, in a statement, in an envelope and in a bundle.
func wrapped(document string) map[string]string {
	statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","predicate":%s}`, document)
	envelope := fmt.Sprintf(`{"payloadType":"application/vnd.in-toto+json","payload":%q,"signatures":[]}`, base64.StdEncoding.EncodeToString([]byte(statement)))
	return map[string]string{"document": document, "statement": statement, "envelope": envelope, "bundle": `{"dsseEnvelope":` + envelope + `}`}
}

// Both formats are read back out of everything that wraps them, with the same versions.
func TestReadUnwraps(t *testing.T) {
	for _, format := range []attest.Format{attest.SPDX, attest.CycloneDX} {
		for kind, layer := range wrapped(string(write(t, format, facts()))) {
			doc, err := read(t, "application/vnd.in-toto+json", layer)
			if err != nil || doc.Format != format {
				t.Errorf("%s in a %s: %s, %v", format, kind, doc.Format, err)
				continue
			}
			for module, want := range map[string][]string{
				"golang.org/x/text": {"v0.3.0"}, "example.com/acme/APP": {""}, "example.com/fork": {"v1.0.1"},
				"stdlib": {"1.26.1"}, "golang.org/x/net": nil, "golang.org/x": nil,
			} {
				if got, err := doc.Versions(module); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s in a %s: %s has the versions %q, want %q (%v)", format, kind, module, got, want, err)
				}
			}
		}
	}
}

// What is no SBOM of a known format is ErrNoSBOM, at whatever depth.
func TestReadRefusesOthers(t *testing.T) {
	deep := `{"spdxVersion":"SPDX-2.3"}`
	for range 10 {
		deep = `{"dsseEnvelope":` + deep + `}`
	}
	for _, layer := range []string{
		"", "{", "[]", "null", `{"spdxVersion":"SPDX-3.0"}`, `{"bomFormat":"other"}`, `{"spdxVersion":7}`, `{"payloadType":"x","payload":"!"}`,
		`{"_type":"x"}`, `{"_type":"x","predicate":null}`, "SPDXVersion: SPDX-2.3", deep, strings.Repeat("[", 100_000),
	} {
		if doc, err := read(t, "application/spdx+json", layer); !errors.Is(err, attest.ErrNoSBOM) {
			t.Errorf("%.40s: %s, %v", layer, doc.Format, err)
		}
	}
	if _, err := read(t, "application/vnd.oci.image.layer.v1.tar", `{"spdxVersion":"SPDX-2.3"}`); !errors.Is(err, attest.ErrNoSBOM) {
		t.Errorf("a layer of another type: %v", err)
	}
	doc, err := read(t, "application/spdx+json", `{"spdxVersion":"SPDX-2.3","packages":7}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Versions("a"); err == nil {
		t.Error("a document whose packages are a number has versions")
	}
}
