package plan

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/git"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The values of provenance.
const (
	provenanceNone = "none"
	provenanceMax  = "max"
)

// Attested fills in what the key attest stands for: provenance, SBOMs and, if the
// environment has a key or an identity, signatures. Keys that are set stay as they are.
func Attested(c *config.Config, getenv func(string) string) {
	if !c.Attest {
		return
	}
	unset := func(key string) bool { return c.Origin(key).Kind == yamlconf.FromDefault }
	if unset("provenance") {
		c.Provenance = "min"
	}
	if unset("sbom") && c.SBOM == noSBOM {
		c.SBOM = string(attest.SPDX)
	}
	if unset("sign") {
		switch {
		case getenv("COSIGN_PRIVATE_KEY") != "":
			c.Sign = config.SignEnv + "COSIGN_PRIVATE_KEY"
		case getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" || getenv("SIGSTORE_ID_TOKEN") != "":
			c.Sign = config.SignCosign
		}
	}
}

// SetAttestations sets what the configuration says about provenance and signatures, except
// the signer. tool is the version of mabuild.
func SetAttestations(pub *publish.Publisher, c *config.Config, tool string, getenv func(string) string) error {
	attests := c.Provenance != provenanceNone || c.Sign != config.SignNone
	switch {
	case attests && c.MediaTypes == "docker":
		return usage("omit one of them", "signatures and provenance cannot be combined with --media-types docker: referrers require OCI media types")
	case c.Sign == config.SignCosign && c.SignFormat != "bundle":
		return usage("use a local key, or --sign-format bundle", "--sign-format %s requires a local key", c.SignFormat)
	case len(c.SignArgs) > 0 && c.Sign != config.SignCosign:
		return usage("add --sign cosign", "--sign-arg requires --sign cosign")
	}
	pub.Provenance, pub.InIndex, pub.Tool = c.Provenance != provenanceNone, c.Attestations == "index", tool
	pub.AttachTo, pub.SignFormat, pub.Settings = c.Attach, c.SignFormat, c.Provenance+" "+cmp.Or(c.BuilderID, builderOf(getenv))
	return nil
}

// CanAttest returns an error for a destination of plans that cannot hold what is attested.
// any is false if no destination can, such as a daemon, from which nothing is published.
func CanAttest(plans []publish.Plan, signFormat string) (any bool, err error) {
	for _, p := range plans {
		any = any || len(p.Tags) > 0
		for _, o := range p.Outputs {
			if o.HoldsSBOMs() && signFormat != "bundle" {
				return any, usage("use --sign-format bundle", "%s cannot hold signatures in the legacy format, which are tags of a registry", o.Text)
			} else if o.HoldsSBOMs() {
				any = true
			} else if o.Archive() {
				return any, usage("use -o oci:DIR or -o oci-archive:FILE", "%s cannot hold signatures and provenance", o.Text)
			}
		}
	}
	return any, nil
}

// origin returns where the sources and the settings of a program came from, for its
// provenance.
func (p *Planner) origin(ctx context.Context, spec build.Spec, c config.Build) (attest.Origin, error) {
	program := packageOf(spec)
	o := attest.Origin{
		Build: spec.Name, Main: c.Main, Base: maps.Clone(c.Base), Cgo: program.Compile.Cgo,
		Overrides: slices.Sorted(maps.Keys(p.Config.Parameters(c, false))),
		Builder:   cmp.Or(p.Config.BuilderID, p.builderID(ctx)),
	}
	for _, one := range spec.Platforms {
		o.Platforms = append(o.Platforms, platform.Key(one))
	}
	// The statement has no paths of this machine.
	if filepath.IsAbs(o.Main) {
		o.Main = cmp.Or(program.Main.PkgPath, filepath.Base(o.Main))
	}
	for key, ref := range o.Base {
		if at, err := places.Parse(ref); err == nil && at.Local() {
			o.Base[key] = at.Place.Form + ":" + filepath.Base(at.Place.Path)
		}
	}
	if p.Config.Provenance == provenanceMax {
		o.Values, o.Invocation = p.Config.Parameters(c, true), invocationOf(p.Getenv)
	}
	err := p.ofFile(&o)
	if err != nil {
		return o, err
	}
	if isVersion(c.Main) {
		// The path of the package within the module is a subpath.
		below := strings.TrimPrefix(strings.TrimPrefix(program.Main.PkgPath, program.Main.Module), "/")
		o.Source, err = attest.GoPURL(program.Main.Module, program.Main.Version, below)
		return o, err
	}
	vars := spec.Vars
	if vars.Commit == "" {
		vars = git.Vars(ctx, programDir(c))
	}
	o.Commit = vars.Commit
	o.Modified = strings.HasSuffix(vars.Version, "-dirty") || o.Commit != "" && git.UntrackedSources(ctx, programDir(c))
	// The path of a local repository is one of this machine.
	if remote := git.Remote(ctx, programDir(c)); remote != "" && o.Commit != "" && !filepath.IsAbs(remote) && !strings.HasPrefix(remote, "file:") && !strings.HasPrefix(remote, ".") {
		o.Source = "git+" + git.Address(remote)
		if ref := refOf(vars, p.Getenv); ref != "" {
			o.Source += "@" + ref
		}
	}
	return o, nil
}

// ofFile adds the configuration file, if there is one in the tree.
func (p *Planner) ofFile(o *attest.Origin) error {
	if p.Config.File == "" {
		return nil
	}
	raw, err := os.ReadFile(p.Config.File)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	o.Config, o.Digest = config.FileName, hex.EncodeToString(sum[:])
	if abs, err := filepath.Abs(p.Config.File); err == nil && p.Config.Tree() != "" {
		if rel, err := filepath.Rel(p.Config.Tree(), abs); err == nil && filepath.IsLocal(rel) {
			o.Config = filepath.ToSlash(rel)
		}
	}
	return nil
}

// refOf returns the git reference that is built: the tag, else the branch, else what the
// CI system says, which checks out a commit without either.
func refOf(vars build.Vars, getenv func(string) string) string {
	switch {
	case getenv("GITHUB_REF") != "" && getenv("GITHUB_SHA") == vars.Commit:
		return getenv("GITHUB_REF")
	case getenv("CI_COMMIT_TAG") != "" && getenv("CI_COMMIT_SHA") == vars.Commit:
		return "refs/tags/" + getenv("CI_COMMIT_TAG")
	case getenv("CI_COMMIT_BRANCH") != "" && getenv("CI_COMMIT_SHA") == vars.Commit:
		return "refs/heads/" + getenv("CI_COMMIT_BRANCH")
	case vars.Tag != "":
		return "refs/tags/" + vars.Tag
	case vars.Branch != "":
		return "refs/heads/" + vars.Branch
	}
	return ""
}

// invocationOf returns the address of the run in the CI system, or "".
func invocationOf(getenv func(string) string) string {
	if run := getenv("GITHUB_RUN_ID"); run != "" {
		return cmp.Or(getenv("GITHUB_SERVER_URL"), "https://github.com") + "/" + getenv("GITHUB_REPOSITORY") + "/actions/runs/" + run +
			"/attempts/" + cmp.Or(getenv("GITHUB_RUN_ATTEMPT"), "1")
	}
	return getenv("CI_JOB_URL")
}
