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

// described has the description of each key of the report, by its type.
var described = map[string]string{
	"Finding.rule":           "Id of the rule. docs/kubernetes.md#rules lists all.",
	"Finding.level":          "error makes the exit code 1. unverified: the image could not be read.",
	"Finding.message":        "What is wrong.",
	"Finding.hint":           "What to do.",
	"Finding.file":           "File as given, standard input, or the cluster.",
	"Finding.line":           "Line in the file; 0 if it is not known.",
	"Finding.column":         "Column in the line; 0 if it is not known.",
	"Finding.template":       "Template of Helm that printed the document, from its comment Source.",
	"Finding.workload":       "KIND/NAME, with NAMESPACE/ before it if the object has one.",
	"Finding.container":      "Name of the container. For a guessed image, the path of the string in the object.",
	"Finding.image":          "Reference as written in the manifest.",
	"Finding.platforms":      "Platforms that the finding is about, such as those that the image lacks.",
	"Finding.fingerprint":    "Identifies the finding in other runs. It does not depend on the tag, the line or the file.",
	"Report.ref":             "Image reference as given.",
	"Report.digest":          "Digest of the index, or of the single image.",
	"Report.mediaType":       "Media type.",
	"Report.index":           "True for an index, false for a single image.",
	"Report.artifactType":    "Artifact type of the index, or of an artifact that is not an image.",
	"Report.subject":         "Digest of the subject of the index, if it has one.",
	"Report.annotations":     "Annotations of the index.",
	"Report.notes":           "Referrers of the index itself, like the notes of an image; with --referrers.",
	"Report.referrers":       "Referrers of the index or artifact itself; with --referrers.",
	"Report.platforms":       "The images, in the order of the index.",
	"Report.others":          "Entries of the index that are neither images nor attestations of an image.",
	"Runnable.platform":      "os/architecture[/variant][:os.version][+os.features], in canonical spelling; empty if unknown.",
	"Runnable.fromConfig":    "True if the platform is read from the image's config because the index has none.",
	"Runnable.written":       "Platform as written in the index, if the spelling is not canonical: linux/x86_64.",
	"Runnable.digest":        "Digest of the image's manifest.",
	"Runnable.mediaType":     "Media type.",
	"Runnable.size":          "Compressed size of manifest, config and layers in bytes; with --size or --platform.",
	"Runnable.within":        "Digest of the nested index that lists the image.",
	"Runnable.notes":         "attested: the image has attestations, which were not read. With --referrers: sbom, provenance, signature (not verified), and the types of other referrers.",
	"Runnable.referrers":     "Attestations and referrers of the image; with --referrers.",
	"Runnable.double":        "Difference to other images of the same platform, if any. If one image is needed, the first is used.",
	"Runnable.annotations":   "Annotations of the image's entry in the index.",
	"Runnable.image":         "Details from the config and the manifest; with --platform.",
	"Attached.kind":          "sbom, provenance, signature (not verified), attested, or the artifact type.",
	"Attached.digest":        "Digest of the manifest.",
	"Attached.mediaType":     "Media type.",
	"Attached.artifactType":  "Artifact type.",
	"Attached.predicateType": "Predicate type of an in-toto statement.",
	"Attached.signed":        "True if it is a signature or has one, which was not checked.",
	"Attached.size":          "Size of the manifest in bytes.",
	"Attached.subject":       "Digest of the image or index that it describes.",
	"Other.digest":           "Digest of the entry.",
	"Other.mediaType":        "Media type.",
	"Other.artifactType":     "Artifact type.",
	"Detail.created":         "Creation time in the config.",
	"Detail.user":            "User of the program.",
	"Detail.workingDir":      "Working directory.",
	"Detail.entrypoint":      "Entrypoint.",
	"Detail.cmd":             "Command, or arguments of the entrypoint.",
	"Detail.env":             "Environment, each NAME=VALUE.",
	"Detail.ports":           "Exposed ports, each NUMBER/PROTOCOL.",
	"Detail.volumes":         "Volumes.",
	"Detail.stopSignal":      "Signal that stops the program.",
	"Detail.labels":          "Labels of the config.",
	"Detail.annotations":     "Annotations of the manifest.",
	"Detail.baseName":        "Base image, from org.opencontainers.image.base.name.",
	"Detail.baseDigest":      "Digest of the base image, from org.opencontainers.image.base.digest.",
	"Detail.layers":          "Layers, lowest first.",
	"Layer.digest":           "Digest of the compressed layer.",
	"Layer.mediaType":        "Media type.",
	"Layer.size":             "Compressed size in bytes.",

	"Status.time":             "Time of this answer.",
	"Status.entries":          "The entries of the file, in its order.",
	"Status.quotas":           "Registries that have said how many pulls are left.",
	"EntryStatus.name":        "Name of the entry.",
	"EntryStatus.source":      "Source, as in the file; for a list of images, what they are.",
	"EntryStatus.targets":     "Targets, as in the file.",
	"EntryStatus.state":       "running; scheduled: waits for its next run; waiting: its first run has not begun; ended: has no schedule and has run.",
	"EntryStatus.since":       "Start of the run in progress.",
	"EntryStatus.next":        "Time of the next run of an entry that is scheduled.",
	"EntryStatus.lastSuccess": "End of the last run without a failure since the mirror was started.",
	"EntryStatus.last":        "The last run that has ended.",
	"LastRun.started":         "Start of the run.",
	"LastRun.seconds":         "Duration.",
	"LastRun.copied":          "Number of images that were copied.",
	"LastRun.unchanged":       "Number of images that the targets had already.",
	"LastRun.skipped":         "Number of images that a rule of the entry left out.",
	"LastRun.failed":          "Number of images that failed.",
	"LastRun.bytes":           "Bytes that were sent.",
	"LastRun.errors":          "The errors of the run.",
	"LastRun.images":          "The outcome of each image, as in the report.",
	"Problem.message":         "What failed.",
	"Problem.hint":            "What to do.",
	"Quota.registry":          "Registry.",
	"Quota.remaining":         "Pulls that are left.",
	"Quota.limit":             "Pulls in the window.",
	"Quota.seconds":           "Length of the window.",
	"Result.source":           "Source image.",
	"Result.target":           "Target; missing if the image could not be planned.",
	"Result.status":           "copied, unchanged, skipped or failed.",
	"Result.why":              "Reason of the status.",
	"Result.digest":           "Digest that the target names or should name.",
	"Result.was":              "Digest that the target named before.",
	"Result.platforms":        "Platforms of the image, as far as they were read. An unchanged image is not read for them; those of its copy are remembered in the cache.",
	"Result.absent":           "Wanted platforms that the source lacks.",
	"Result.backup":           "Reference that keeps the replaced image.",
	"Result.bytes":            "Bytes that were sent.",
	"Result.seconds":          "Duration.",
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
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number", "minimum": 0}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t, typ.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t, typ.Elem())}
	}
	properties, required := map[string]any{}, []string{}
	for f := range typ.Fields() {
		if !f.IsExported() || f.Tag.Get("json") == "-" {
			continue
		}
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

// docs/inspect.schema.json is the schema of the report.
func TestReportSchema(t *testing.T) {
	report := schemaOf(t, reflect.TypeFor[manifest.Report]())
	failed := map[string]any{
		"type": "object", "required": []string{"ref", "error"},
		"properties": map[string]any{
			"ref":   map[string]any{"type": "string", "description": "Image reference as given."},
			"error": map[string]any{"type": "string", "description": "Error message."},
		},
	}
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "mabuild inspect --json",
		"description": "A report of one image, or an array for several images, in which a failed one has an error. " +
			"Keys may be added in later versions; existing ones keep their names and meanings.",
		"oneOf": []any{
			map[string]any{"$ref": "#/$defs/report"},
			map[string]any{"type": "array", "items": map[string]any{"oneOf": []any{map[string]any{"$ref": "#/$defs/report"}, map[string]any{"$ref": "#/$defs/failed"}}}},
		},
		"$defs": map[string]any{"report": report, "failed": failed},
	}
	holdSchema(t, "../../docs/inspect.schema.json", schema)
}

// holdSchema requires that a file is a schema, and with -update writes it.
func holdSchema(t *testing.T, file string, schema map[string]any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the code is: go test ./cmd/mabuild -update (%v)", file, err)
	}
}
