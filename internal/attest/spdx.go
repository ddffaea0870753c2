package attest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// writeSPDX writes SPDX 2.3 (spdx.github.io/spdx-spec/v2.3). Each part is a package, and
// relationships state the structure: the document describes the image, the image contains
// the program, the program depends on its modules, the image descends from its base, and
// the base contains its packages. Files are not listed.
func writeSPDX(f Facts, inv inventory) ([]byte, error) {
	id, err := uuid(SPDX, f)
	if err != nil {
		return nil, err
	}
	// The namespace must be unique for each document; it is not an address that can be
	// fetched.
	title := strings.TrimSuffix(SPDX.FileName(f.Name, f.Platform), ".spdx.json")
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      title,
		DocumentNamespace: fmt.Sprintf("https://spdx.org/spdxdocs/%s-%s", noID.ReplaceAllString(title, "-"), id),
		DocumentComment:   inv.unread,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "mabuild-" + f.Tool}},
			// Created is mandatory in SPDX; an unset time is written as the epoch.
			Created: cmp.Or(said(f.Time), "1970-01-01T00:00:00Z"), // there must be one
		},
	}
	relate := func(from, kind, to string) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA: common.MakeDocElementID("", from), RefB: common.MakeDocElementID("", to), Relationship: kind,
		})
	}
	add := func(p part, purpose string) { doc.Packages = append(doc.Packages, p.spdx(purpose)) }

	add(inv.image, "CONTAINER")
	relate("DOCUMENT", common.TypeRelationshipDescribe, inv.image.id)
	inv.program.comment = settingsText(inv.settings)
	add(inv.program, "APPLICATION")
	relate(inv.image.id, common.TypeRelationshipContains, inv.program.id)
	for _, m := range inv.modules {
		add(m, "LIBRARY")
		relate(inv.program.id, common.TypeRelationshipDependsOn, m.id)
	}
	if inv.base != nil {
		add(*inv.base, "CONTAINER")
		relate(inv.image.id, common.TypeRelationshipDescendantOf, inv.base.id)
	}
	for _, p := range inv.added {
		add(p, "")
		relate(inv.image.id, common.TypeRelationshipContains, p.id)
	}
	for _, p := range inv.packages {
		add(p, "")
		relate(inv.base.id, common.TypeRelationshipContains, p.id)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(doc)
	return out.Bytes(), err
}

// spdx returns p as a package. Licence fields are omitted, which in SPDX 2.3 is the same
// as NOASSERTION. The download location is mandatory, hence the explicit NOASSERTION.
func (p part) spdx(purpose string) *v2_3.Package {
	out := &v2_3.Package{
		PackageName: p.name, PackageSPDXIdentifier: common.ElementID(p.id), PackageVersion: p.version,
		PackageDownloadLocation: "NOASSERTION", PackageComment: p.comment, PrimaryPackagePurpose: purpose,
	}
	if p.sha256 != "" {
		out.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: p.sha256}}
	}
	if p.purl != "" {
		out.PackageExternalReferences = []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: p.purl,
		}}
	}
	switch {
	case p.sum != "":
		out.PackageSourceInfo = "go.sum: " + p.sum
	case p.from != "":
		out.PackageSourceInfo = "built package from: " + p.from
	}
	return out
}

// settingsText returns the build settings as a comment, since SPDX 2.3 has no field for
// them.
func settingsText(settings []debug.BuildSetting) string {
	if len(settings) == 0 {
		return ""
	}
	texts := make([]string, len(settings))
	for i, s := range settings {
		texts[i] = s.Key + "=" + s.Value
	}
	return "built with " + strings.Join(texts, " ")
}
