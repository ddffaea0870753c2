package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// A schema is a JSON schema, with the keywords that the fields need. The order of its
// fields is that of the JSON.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"`
	Default     any                `json:"default,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *int               `json:"minimum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	OneOf       []*schema          `json:"oneOf,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Names       *schema            `json:"propertyNames,omitempty"`
	Additional  any                `json:"additionalProperties,omitempty"` // *schema or false
}

// Schema returns the JSON schema (draft 2020-12) of [FileName], for editors. Load also
// rejects files that the schema accepts, since some checks are beyond a schema: two
// spellings of one platform, for example, or the trust of a key.
func Schema() ([]byte, error) {
	return schemaOf(reflect.TypeFor[Config](), FileName, "Configuration of mabuild.")
}

// schemaOf returns the schema of a file that is decoded into a t, indented and with a
// final newline.
func schemaOf(t reflect.Type, title, description string) ([]byte, error) {
	s := objectSchema(describe(t))
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = title
	s.Description = description
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// objectSchema returns the schema of a mapping with the keys of fields and no others.
func objectSchema(fields []*field) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
	for _, f := range fields {
		s.Properties[f.key] = f.schema()
	}
	return s
}

// scalars are the JSON types that the decoder accepts as text.
var scalars = []string{"string", "number", "boolean"}

// patterns approximate the checks on texts (see checks), for the feedback of an editor.
var patterns = map[string]string{
	"compression": "^(gzip(:[1-9])?|zstd(:([1-9]|1[0-9]|2[0-2]))?)$",
	"keyvalue":    "^[^=]+=",
	"absolute":    `^(/|.:\\)`,
	"owner":       `^[0-9]{1,9}(:[0-9]{1,9})?$`,
	"host":        `^[^/\s]+$`,
	"mirror":      `^[^/\s?#@]+(/[a-z0-9_]+([._-]+[a-z0-9_]+)*)*$`,
	"platform":    `^[^/\s]+/[^/\s]+(/[^/\s]+)?$`,
	"platforms":   `^\s*(all|[^/\s]+/[^/\s]+.*)$`,
	"tag":         `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`,
	"variable":    `^[A-Za-z_][A-Za-z0-9_]*$`,
}

// schema returns the schema of the field's value with its description and default.
func (f *field) schema() *schema {
	s := f.shapeSchema()
	s.Description = f.doc
	if f.initial != "" {
		if one, err := f.read([]string{f.initial}, Origin{}); err == nil {
			s.Default = one.value
		}
		if f.kind == perPlatform {
			s.Default = f.initial
		}
	}
	return s
}

// shapeSchema returns the schema for the kind of the field. An object with a short key is
// one of two: the object, or the value of that key.
func (f *field) shapeSchema() *schema {
	if i := slices.IndexFunc(f.elem, func(e *field) bool { return e.key == f.short }); i >= 0 {
		short := f.elem[i].shapeSchema()
		return &schema{OneOf: append(alternatives(short), objectSchema(f.elem))}
	}
	switch f.kind {
	case boolean:
		return &schema{Type: "boolean"}
	case number:
		return &schema{Type: "integer", Minimum: new(int)}
	case texts:
		list := &schema{Type: "array", Items: f.textSchema()}
		if f.single {
			return &schema{OneOf: []*schema{f.textSchema(), list}}
		}
		return list
	case perPlatform:
		byPlatform := &schema{Type: "object", Additional: f.textSchema(), Names: &schema{Pattern: strings.TrimSuffix(patterns["platform"], "$") + "$|^" + everyPlatform + "$"}}
		return &schema{OneOf: []*schema{f.textSchema(), byPlatform}}
	case object:
		return objectSchema(f.elem)
	case objects:
		return &schema{Type: "array", Items: objectSchema(f.elem)}
	case pairs:
		s := &schema{Type: "object", Additional: &schema{Type: scalars}}
		if pattern := patterns[f.check]; pattern != "" {
			s.Names = &schema{Pattern: pattern}
		}
		return s
	case lists:
		list := &schema{Type: "array", Items: &schema{Type: scalars, Pattern: patterns["keyvalue"]}}
		return &schema{Type: "object", Additional: list, Names: &schema{Pattern: patterns[f.check]}}
	case dict:
		return &schema{Type: "object", Additional: objectSchema(f.elem), Names: &schema{Pattern: patterns[f.check]}}
	}
	return f.textSchema()
}

// alternatives returns the alternatives of s, so that a oneOf is not nested in another.
func alternatives(s *schema) []*schema {
	if len(s.OneOf) > 0 {
		return s.OneOf
	}
	return []*schema{s}
}

// textSchema returns the schema of one text.
func (f *field) textSchema() *schema {
	if len(f.enum) > 0 {
		return &schema{Type: "string", Enum: f.enum}
	}
	return &schema{Type: scalars, Pattern: patterns[f.check]}
}
