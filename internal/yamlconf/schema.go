package yamlconf

import (
	"encoding/json"
	"slices"
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

// Schema returns the JSON schema (draft 2020-12) of the file, for editors, indented and
// with a final newline. Decode also rejects files that the schema accepts, since some
// checks are beyond a schema: two spellings of one key, for example.
func (t *Table[T]) Schema(title, description string) ([]byte, error) {
	s := objectSchema(t.fields())
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = title
	s.Description = description
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// objectSchema returns the schema of a mapping with the keys of fields and no others.
func objectSchema(fields []*Field) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
	for _, f := range fields {
		s.Properties[f.Key] = f.schema()
	}
	return s
}

// scalars are the JSON types that the decoder accepts as text.
var scalars = []string{"string", "number", "boolean"}

// schema returns the schema of the field's value with its description and default.
func (f *Field) schema() *schema {
	s := f.shapeSchema()
	s.Description = f.Doc
	if f.initial != "" {
		if one, err := f.read(f.initial, Origin{}); err == nil {
			s.Default = one.Value
		}
		if f.kind == partial {
			s.Default = f.initial
		}
	}
	return s
}

// shapeSchema returns the schema for the kind of the field. An object with a short key is
// one of two: the object, or the value of that key.
func (f *Field) shapeSchema() *schema {
	if i := slices.IndexFunc(f.elem, func(e *Field) bool { return e.Key == f.short }); i >= 0 {
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
		forms := []*schema{list}
		if f.single {
			forms = []*schema{f.textSchema(), list}
		}
		if f.Check == "keyvalue" {
			forms = append(forms, &schema{Type: "object", Additional: &schema{Type: scalars}})
		}
		if len(forms) > 1 {
			return &schema{OneOf: forms}
		}
		return list
	case partial:
		byKey := &schema{Type: "object", Additional: &schema{Type: scalars}, Names: &schema{Pattern: f.check.Pattern + "|^" + f.check.Rest + "$"}}
		return &schema{OneOf: []*schema{{Type: scalars}, byKey}}
	case object:
		return objectSchema(f.elem)
	case objects:
		return &schema{Type: "array", Items: objectSchema(f.elem)}
	case pairs:
		s := &schema{Type: "object", Additional: &schema{Type: scalars}}
		if f.check.Pattern != "" {
			s.Names = &schema{Pattern: f.check.Pattern}
		}
		return s
	case lists:
		list := &schema{Type: "array", Items: &schema{Type: scalars, Pattern: ownChecks["keyvalue"].Pattern}}
		return &schema{Type: "object", Additional: list, Names: &schema{Pattern: f.check.Pattern}}
	case dict:
		return &schema{Type: "object", Additional: objectSchema(f.elem), Names: &schema{Pattern: f.check.Pattern}}
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
func (f *Field) textSchema() *schema {
	if len(f.Enum) > 0 {
		return &schema{Type: "string", Enum: f.Enum}
	}
	return &schema{Type: scalars, Pattern: f.check.Pattern}
}
