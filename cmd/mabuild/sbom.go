package main

import (
	"errors"
	"strings"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// noSBOM is the value of --sbom for none.
const noSBOM = "none"

// setSBOM sets what the configuration says about SBOMs.
func (a *app) setSBOM(pub *publish.Publisher) error {
	c := a.config
	switch {
	// An explicit "none" turns SBOMs off without complaints about the other keys.
	case c.SBOM == noSBOM && (c.SBOMBase || c.SBOMDir != "") && c.Origin("sbom").Kind == yamlconf.FromDefault:
		return usage("add --sbom spdx or --sbom cyclonedx", "--sbom-base and --sbom-dir require --sbom")
	case c.SBOM == noSBOM:
		return nil
	case c.MediaTypes == "docker":
		return usage("omit one of them", "--sbom %s cannot be combined with --media-types docker: referrers require OCI media types", c.SBOM)
	}
	pub.SBOM, pub.SBOMBase, pub.SBOMDir, pub.Tool = attest.Format(c.SBOM), c.SBOMBase, c.SBOMDir, strings.Trim(versionText(), "()")
	return nil
}

// plannedSBOM returns the line of a dry run about SBOMs, or "".
func plannedSBOM(pub *publish.Publisher) string {
	if pub.SBOM == "" {
		return ""
	}
	text := "  + SBOM of each platform, " + string(pub.SBOM)
	if pub.SBOMBase {
		text += ", with the base's packages"
	}
	if pub.SBOMDir != "" {
		text += ", also in " + pub.SBOMDir
	}
	return text + "\n"
}

// distinctFiles rejects two programs whose SBOM files would have the same name.
func (a *app) distinctFiles(plans []publish.Plan) error {
	if a.config.SBOM == noSBOM || a.config.SBOMDir == "" {
		return nil
	}
	var errs []error
	seen := map[string]bool{}
	for _, p := range plans {
		if seen[p.Spec.Name] {
			errs = append(errs, usage("give each its own id", "two programs have the name %s, which --sbom-dir uses as the file name", p.Spec.Name))
		}
		seen[p.Spec.Name] = true
	}
	return errors.Join(errs...)
}
