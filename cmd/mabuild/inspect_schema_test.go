package main

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// described says what each key of the report is, by the type that has it.
var described = map[string]string{
	"Report.ref":           "The image as it was asked for.",
	"Report.digest":        "Digest of the index, or of the single image.",
	"Report.mediaType":     "Its media type.",
	"Report.index":         "Whether it is an index: a manifest list, several images behind one name.",
	"Report.artifactType":  "Type of the index, where it says one, or of what is no image and runs nowhere.",
	"Report.subject":       "Digest that the index refers to, where it says one.",
	"Report.annotations":   "Annotations of the index.",
	"Report.notes":         "What refers to the index as a whole, as the notes of an image; with --referrers.",
	"Report.platforms":     "The images, in the order of the index.",
	"Report.others":        "Entries of the index that are neither images nor attestations of one.",
	"Runnable.platform":    "os/architecture[/variant][:os.version][+os.features], in canonical spelling; empty when nothing says which.",
	"Runnable.fromConfig":  "Set when the index does not say the platform, and the image's config does.",
	"Runnable.written":     "The platform as it is written, where that is not how the field spells it: linux/x86_64.",
	"Runnable.digest":      "Digest of the image's manifest.",
	"Runnable.mediaType":   "Its media type.",
	"Runnable.size":        "Bytes of manifest, config and layers as they travel; with --size or --platform.",
	"Runnable.within":      "Digest of the nested index that lists the image.",
	"Runnable.notes":       "attested: there are attestations, which were not looked at. With --referrers: sbom, provenance, signed, and the types of other referrers.",
	"Runnable.double":      "What tells the image from the others of its platform, where there are any. The first is taken where one is needed.",
	"Runnable.annotations": "Annotations of the image's entry in the index.",
	"Runnable.image":       "What its config and manifest say; with --platform.",
	"Other.digest":         "Digest of the entry.",
	"Other.mediaType":      "Its media type.",
	"Other.artifactType":   "Its artifact type.",
	"Detail.created":       "When the image says it was made.",
	"Detail.user":          "User that it runs as.",
	"Detail.workingDir":    "Directory that it runs in.",
	"Detail.entrypoint":    "Entrypoint.",
	"Detail.cmd":           "Command, or arguments of the entrypoint.",
	"Detail.env":           "Environment, each NAME=VALUE.",
	"Detail.ports":         "Exposed ports, each NUMBER/PROTOCOL.",
	"Detail.volumes":       "Volumes.",
	"Detail.stopSignal":    "Signal that ends it.",
	"Detail.labels":        "Labels of the config.",
	"Detail.annotations":   "Annotations of the manifest.",
	"Detail.baseName":      "The base, as org.opencontainers.image.base.name names it.",
	"Detail.baseDigest":    "Its digest, as org.opencontainers.image.base.digest says.",
	"Detail.layers":        "Layers, the lowest first.",
	"Layer.digest":         "Digest of the layer as it travels.",
	"Layer.mediaType":      "Its media type.",
	"Layer.size":           "Its size in bytes.",
}

// schemaOf describes a type of the report (JSON schema, draft 2020-12).
func schemaOf(t *testing.T, typ reflect.Type) map[string]any {
	t.Helper()
	switch {
	case typ == reflect.TypeFor[v1.Hash]():
		return map[string]any{"type": "string", "pattern": "^sha(256|512):[0-9a-f]+$"}
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(t, typ.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t, typ.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t, typ.Elem())}
	}
	properties, required := map[string]any{}, []string{}
	for f := range typ.Fields() {
		key, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		doc := described[typ.Name()+"."+key]
		if doc == "" {
			t.Errorf("%s.%s is not described", typ.Name(), key)
		}
		property := schemaOf(t, f.Type)
		property["description"] = doc
		properties[key] = property
		if option != "omitempty" {
			required = append(required, key)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

// The schema of the report is what docs/inspect.schema.json promises.
func TestReportSchema(t *testing.T) {
	report := schemaOf(t, reflect.TypeFor[manifest.Report]())
	failed := map[string]any{
		"type": "object", "required": []string{"ref", "error"},
		"properties": map[string]any{
			"ref":   map[string]any{"type": "string", "description": "The image as it was asked for."},
			"error": map[string]any{"type": "string", "description": "Why there is no report of it."},
		},
	}
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "mabuild inspect --json",
		"description": "A report of one image; of several images an array, in which one that failed has an error. " +
			"Keys may be added; those here keep their names and meanings.",
		"oneOf": []any{
			map[string]any{"$ref": "#/$defs/report"},
			map[string]any{"type": "array", "items": map[string]any{"oneOf": []any{map[string]any{"$ref": "#/$defs/report"}, map[string]any{"$ref": "#/$defs/failed"}}}},
		},
		"$defs": map[string]any{"report": report, "failed": failed},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/inspect.schema.json"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the report is: go test ./cmd/mabuild -update (%v)", file, err)
	}
}
