package attest

import (
	"bytes"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeCycloneDX writes CycloneDX 1.6 (cyclonedx.org/docs/1.6/json). The image is the
// component of the metadata; program, modules, base image and packages are one flat list.
// The dependency graph says which belongs to which: the image depends on program and
// base, the program on its modules and the base on its packages.
func writeCycloneDX(f Facts, inv inventory) ([]byte, error) {
	id, err := uuid(CycloneDX, f)
	if err != nil {
		return nil, err
	}
	image := inv.image.cyclonedx(cyclonedx.ComponentTypeContainer)
	// inv is a copy. The settings become properties here, where SPDX has a comment.
	inv.program.comment = ""
	program := inv.program.cyclonedx(cyclonedx.ComponentTypeApplication)
	var properties []cyclonedx.Property
	for _, s := range inv.settings {
		properties = append(properties, cyclonedx.Property{Name: propertyOf(s.Key), Value: s.Value})
	}
	program.Properties = listed(append(deref(program.Properties), properties...))

	components := []cyclonedx.Component{program}
	top, ofProgram, ofBase := []string{program.BOMRef}, []string{}, []string{}
	for _, m := range inv.modules {
		components = append(components, m.cyclonedx(cyclonedx.ComponentTypeLibrary))
		ofProgram = append(ofProgram, m.id)
	}
	dependencies := []cyclonedx.Dependency{{Ref: image.BOMRef, Dependencies: &top}, {Ref: program.BOMRef, Dependencies: &ofProgram}}
	if inv.base != nil {
		components = append(components, inv.base.cyclonedx(cyclonedx.ComponentTypeContainer))
		top = append(top, inv.base.id)
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: inv.base.id, Dependencies: &ofBase})
	}
	for _, p := range inv.added {
		components = append(components, p.cyclonedx(cyclonedx.ComponentTypeLibrary))
		top = append(top, p.id)
	}
	for _, p := range inv.packages {
		components = append(components, p.cyclonedx(cyclonedx.ComponentTypeLibrary))
		ofBase = append(ofBase, p.id)
	}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + id
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: said(f.Time), Component: &image,
		Tools: &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "mabuild", Version: f.Tool}}},
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	if inv.unread != "" {
		bom.Properties = &[]cyclonedx.Property{{Name: "mabuild:unread", Value: inv.unread}}
	}
	bom.Compositions = compositions(f, inv)
	var out bytes.Buffer
	err = cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
	return out.Bytes(), err
}

// compositions states for the program and the base whether the list of their dependencies
// is complete. A program with cgo is "unknown", since C libraries come from no module; so
// is a base whose packages were not read, or only in part.
func compositions(f Facts, inv inventory) *[]cyclonedx.Composition {
	list := []cyclonedx.Composition{about(inv.program.id, f.Info != nil && !inv.cgo())}
	if inv.base != nil {
		p := f.Base.Packages
		list = append(list, about(inv.base.id, p != nil && len(p.Unread) == 0))
	}
	return &list
}

// about returns the composition of the component id: complete if whole, otherwise
// unknown.
func about(id string, whole bool) cyclonedx.Composition {
	c := cyclonedx.Composition{Aggregate: cyclonedx.CompositionAggregateUnknown, Dependencies: &[]cyclonedx.BOMReference{cyclonedx.BOMReference(id)}}
	if whole {
		c.Aggregate = cyclonedx.CompositionAggregateComplete
	}
	return c
}

// propertyOf names a build setting by the property taxonomy of CycloneDX for Go modules:
// flags begin with a dash, all other keys are environment variables. key is not empty.
func propertyOf(key string) string {
	if key[0] == '-' {
		return "cdx:gomod:build:flag:" + key[1:]
	}
	return "cdx:gomod:build:env:" + key
}

// cyclonedx returns p as a component. The taxonomy of CycloneDX has no property for the
// hash of go.sum or the source package of a distribution, so these two have names of
// mabuild.
func (p part) cyclonedx(kind cyclonedx.ComponentType) cyclonedx.Component {
	c := cyclonedx.Component{BOMRef: p.id, Type: kind, Name: p.name, Version: p.version, PackageURL: p.purl, Description: p.comment}
	if p.sha256 != "" {
		c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: p.sha256}}
	}
	var properties []cyclonedx.Property
	if p.sum != "" {
		properties = append(properties, cyclonedx.Property{Name: "mabuild:go.sum", Value: p.sum})
	}
	if p.from != "" {
		properties = append(properties, cyclonedx.Property{Name: "mabuild:source", Value: p.from})
	}
	c.Properties = listed(properties)
	return c
}

// listed returns the list for an optional field, nil if it is empty, so that the JSON
// omits the field instead of holding an empty array.
func listed(list []cyclonedx.Property) *[]cyclonedx.Property {
	if len(list) == 0 {
		return nil
	}
	return &list
}

// deref is the inverse of listed.
func deref(list *[]cyclonedx.Property) []cyclonedx.Property {
	if list == nil {
		return nil
	}
	return *list
}
