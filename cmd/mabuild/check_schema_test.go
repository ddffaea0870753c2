package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/xeipuuv/gojsonschema"

	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/check/format"
)

// checkSchema is the file that describes the output of check --format json.
const checkSchema = "../../docs/check.schema.json"

// docs/check.schema.json is the schema of the findings.
func TestCheckSchema(t *testing.T) {
	finding := schemaOf(t, reflect.TypeFor[check.Finding]())
	var levels, ids []string
	for _, level := range check.Levels {
		levels = append(levels, string(level))
	}
	for _, rule := range check.Rules {
		ids = append(ids, rule.ID)
	}
	properties := finding["properties"].(map[string]any)
	properties["level"].(map[string]any)["enum"] = levels
	properties["rule"].(map[string]any)["examples"] = ids // later versions have more
	properties["fingerprint"].(map[string]any)["pattern"] = "^[0-9a-f]{16}$"
	number := func(about string) map[string]any {
		return map[string]any{"type": "integer", "minimum": 0, "description": about}
	}
	texts := map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "description": "Platforms of the nodes, sorted."}
	holdSchema(t, checkSchema, map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "mabuild check --format json",
		"description": "The findings of one run. " +
			"Keys may be added in later versions; existing ones keep their names and meanings.",
		"type":     "object",
		"required": []string{"version", "platforms", "workloads", "images", "ignored", "findings"},
		"properties": map[string]any{
			"version":   map[string]any{"type": "integer", "const": 1, "description": "Version of this format."},
			"platforms": texts,
			"workloads": number("Number of pod specs."),
			"images":    number("Number of images, each reference counted once."),
			"ignored":   number("Number of findings that an annotation or check.ignore of .mabuild.yaml hides."),
			"findings":  map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/finding"}, "description": "By file, line and column. Those of --baseline are left out."},
		},
		"$defs": map[string]any{"finding": finding},
	})
}

// The output has the form of the schema, and the schema refuses others.
func TestCheckOutputHasItsSchema(t *testing.T) {
	raw, err := os.ReadFile(checkSchema)
	if err != nil {
		t.Fatal(err)
	}
	schema := readSchema(t, checkSchema)
	full := check.Finding{
		Rule: "platform-missing", Level: check.Error, Message: "m", Hint: "h", File: "f.yaml", Line: 1, Column: 2, Template: "t",
		Workload: "Pod/a", Container: "c", Image: "i:1", Platforms: []string{"linux/arm64"}, Fingerprint: "0123456789abcdef",
	}
	short := check.Finding{Rule: "ignore-unused", Level: check.Warning, Message: "m", File: ".mabuild.yaml", Fingerprint: "0123456789abcdef"}
	for name, r := range map[string]*check.Result{
		"empty": {}, "full": {Findings: []check.Finding{full, short}, Workloads: 1, Images: 1, Platforms: []string{"linux/amd64"}},
	} {
		var b bytes.Buffer
		if err := format.Formats["json"](&b, r, format.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := validated(schema, b.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(b.Bytes(), &keys); err != nil {
			t.Fatal(err)
		}
		for key := range keys {
			if !bytes.Contains(raw, []byte(`"`+key+`"`)) {
				t.Errorf("%s is not described", key)
			}
		}
		for old, broken := range map[string]string{`"version": 1`: `"version": 2`, `"workloads": `: `"workloads": 0.5, "more": `, `"findings"`: `"other"`, `"level": "error"`: `"level": "bad"`} {
			text := strings.Replace(b.String(), old, broken, 1)
			if text != b.String() && validated(schema, []byte(text)) == nil {
				t.Errorf("%s: %s is accepted", name, broken)
			}
		}
	}
}

// readSchema reads a schema for the validator, which does not know draft 2020-12. Its
// other keywords here are those of draft 7.
func readSchema(t *testing.T, file string) *gojsonschema.Schema {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(bytes.ReplaceAll(raw, []byte("$defs"), []byte("definitions")), []byte("draft/2020-12/schema"), []byte("draft-07/schema#"), 1)
	raw = bytes.Replace(raw, []byte("https://json-schema.org/draft-07"), []byte("http://json-schema.org/draft-07"), 1)
	schema, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validated returns how a document breaks a schema.
func validated(schema *gojsonschema.Schema, document []byte) error {
	result, err := schema.Validate(gojsonschema.NewBytesLoader(document))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range result.Errors() {
		errs = append(errs, errors.New(e.String()))
	}
	return errors.Join(errs...)
}

// docs/kubernetes.md has each rule with its level, in the order of the code.
func TestRulesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := bytes.Cut(text, []byte("\n## Rules\n"))
	if !found {
		t.Fatal("there is no section Rules")
	}
	text, _, _ = bytes.Cut(text, []byte("\n## "))
	var documented, want []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) == 4 && strings.HasPrefix(cells[0], " `") {
			level, _, _ := strings.Cut(strings.TrimSpace(cells[1]), ",")
			documented = append(documented, strings.Trim(cells[0], " `")+" "+level)
		}
	}
	for _, rule := range check.Rules {
		want = append(want, rule.ID+" "+string(rule.Level))
	}
	if !slices.Equal(documented, want) {
		t.Errorf("documented:\n%s\nwant:\n%s", strings.Join(documented, "\n"), strings.Join(want, "\n"))
	}
}
