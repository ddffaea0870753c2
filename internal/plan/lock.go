package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/download"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/lockfile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Release is what a build downloads for a platform. Its line has no sum.
type Release struct {
	lockfile.Line
	URL    string
	Sums   string // the URL of a list that has the sum; "": none
	Verify config.Verify
	// Signature is the URL of the signature of Sums, or of URL if Sums is ""; "": none.
	Signature string
}

// Releases returns what the builds download, in their order.
func Releases(builds []config.Build) ([]Release, error) {
	var all []Release
	var errs []error
	owned := map[lockfile.Line]bool{} // by id and platform
	for _, c := range builds {
		list, err := releasesOf(c)
		if err != nil {
			err = fmt.Errorf("%s: %w", idOf(c), err)
		}
		errs = append(errs, err)
		for _, r := range list {
			key := lockfile.Line{ID: r.ID, Platform: r.Platform}
			if owned[key] {
				errs = append(errs, usage("give each its own id", "two builds have the id %s and the platform %s", r.ID, r.Platform))
			}
			owned[key] = true
		}
		all = append(all, list...)
	}
	return all, errors.Join(errs...)
}

// The forms of what becomes a part of a URL.
var (
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$`)
	repoForm    = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$`)
)

// releasesOf returns what a build downloads, nothing if its program is not downloaded.
func releasesOf(c config.Build) ([]Release, error) {
	of := c.Prebuilt
	switch {
	case of.URL == "":
		return nil, nil
	case of.Path != "":
		return nil, usage("omit one of them", "prebuilt: path and url cannot be used together")
	case idOf(c) == "":
		return nil, usage("set id", "prebuilt: %q does not name the program", of.URL)
	case of.Version != "" && !versionForm.MatchString(of.Version):
		return nil, usage("for example v1.2.3", "prebuilt: %q is not a version", of.Version)
	case of.Repo != "" && !repoForm.MatchString(of.Repo):
		return nil, usage("for example acme/app", "prebuilt: %q is not a repository on GitHub", of.Repo)
	case slices.Contains(c.Platforms, "all"):
		return nil, usage("list the platforms", "platforms: all cannot be used with a prebuilt program")
	}
	if err := checkVerify(of.Verify); err != nil {
		return nil, fmt.Errorf("prebuilt.verify: %w", err)
	}
	platforms, err := platform.ParseList(c.Platforms)
	if err != nil {
		return nil, err
	}
	var list []Release
	for _, p := range platforms {
		r := Release{Line: lockfile.Line{ID: idOf(c), Platform: platform.Key(p), Repo: of.Repo, Version: of.Version}}
		if r.URL, err = fillURL(of, p, of.URL); err != nil {
			return nil, err
		}
		if of.Sums != "" {
			if r.Sums, err = fillURL(of, p, of.Sums); err != nil {
				return nil, err
			}
		}
		r.Verify = of.Verify
		signed := cmp.Or(r.Sums, r.URL)
		switch {
		case of.Verify.Minisign != "":
			r.Signature = signed + ".minisig"
		case of.Verify.Cosign.Bundle != "":
			if r.Signature, err = fillURL(of, p, of.Verify.Cosign.Bundle); err != nil {
				return nil, err
			}
		case of.Verify.Cosign != config.Cosign{}:
			r.Signature = signed + ".sigstore.json"
		}
		list = append(list, r)
	}
	return list, nil
}

// checkVerify checks who must have signed a release.
func checkVerify(v config.Verify) error {
	c := v.Cosign
	switch byKey, byIdentity := c.Key != "", c.Identity != "" || c.Issuer != ""; {
	case v.Minisign != "" && c != config.Cosign{}:
		return usage("omit one of them", "minisign and cosign cannot be used together")
	case v.Minisign != "":
		return download.CheckKey(v.Minisign)
	case c == config.Cosign{}:
		return nil
	case byKey == byIdentity, byIdentity && (c.Identity == "" || c.Issuer == ""):
		return usage("set key, or identity and issuer", "cosign needs a key, or an identity and its issuer")
	}
	return nil
}

// inURL matches a template in a URL.
var inURL = regexp.MustCompile(`{{\s*\.?([^{}\s]*)\s*}}`)

// fillURL fills in the templates of a URL for a platform. Unlike other templates these have
// only values of the configuration, so that the same file always downloads the same.
func fillURL(of config.Prebuilt, p ocispec.Platform, text string) (string, error) {
	values := map[string]string{
		"OS": p.OS, "Arch": p.Architecture, "Variant": p.Variant, "Version": of.Version, "VersionNumber": strings.TrimPrefix(of.Version, "v"),
	}
	if name, ok := of.OS[platform.Key(p)]; ok {
		values["OS"] = name
	}
	if name, ok := of.Arch[platform.Key(p)]; ok {
		values["Arch"] = name
	}
	var err error
	full := inURL.ReplaceAllStringFunc(text, func(action string) string {
		name := inURL.FindStringSubmatch(action)[1]
		value, known := values[name]
		switch {
		case !known:
			err = usage("a URL supports only .OS .Arch .Variant .Version .VersionNumber", "prebuilt: %q is not a valid template", text)
		case value == "" && name != "Variant":
			err = usage("set version", "prebuilt: %q: .%s is empty", text, name)
		}
		return value
	})
	if err != nil {
		return "", err
	}
	if _, err = download.Check(full); err != nil {
		return "", fmt.Errorf("prebuilt: %w", err)
	}
	return full, nil
}

// ReadLock returns the lines of the file that is beside a configuration file in dir, none if
// there is no file.
func ReadLock(dir string) (lockfile.File, error) {
	content, err := config.ReadFile(filepath.Join(dir, lockfile.Name), lockfile.MaxFile, config.Trust{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lockfile.File{}, nil
	case errors.Is(err, intree.ErrOutside), errors.Is(err, intree.ErrGit):
		return lockfile.File{}, err // names the file
	case err != nil:
		return lockfile.File{}, fmt.Errorf("%s: %w", lockfile.Name, err)
	}
	return lockfile.Parse(content)
}

// downloads returns the URLs of what a build downloads, and the sums of the lock, by platform.
// Each platform needs a line with the version of the configuration.
func (p *Planner) downloads(ctx context.Context, c config.Build) (urls, sums map[string]string, err error) {
	releases, err := releasesOf(c)
	if err != nil {
		return nil, nil, err
	}
	lock, err := p.lock()
	if err != nil {
		return nil, nil, err
	}
	urls, sums = map[string]string{}, map[string]string{}
	var errs []error
	for _, r := range releases {
		line, reason := r.find(lock.Prebuilt)
		if reason != "" {
			errs = append(errs, usage(runLock, "%s: %s", lockfile.Name, reason))
		} else if p.Confirm != nil {
			errs = append(errs, p.Confirm(ctx, r.URL, line.SHA256))
		}
		urls[r.Platform], sums[r.Platform] = r.URL, line.SHA256
	}
	return urls, sums, errors.Join(errs...)
}

// lock returns the lock of the run.
func (p *Planner) lock() (lockfile.File, error) {
	if p.Lock != nil {
		return *p.Lock, nil
	}
	return ReadLock(p.Config.Dir)
}

// runLock is the hint if the lock does not fit.
const runLock = "run mabuild lock"

// find returns the line of a release, or the reason why there is none.
func (r Release) find(lines []lockfile.Line) (line lockfile.Line, reason string) {
	i := slices.IndexFunc(lines, func(l lockfile.Line) bool { return l.ID == r.ID && l.Platform == r.Platform })
	switch {
	case i < 0:
		return line, fmt.Sprintf("no line for %s of %s", r.Platform, r.ID)
	case lines[i].Version != r.Version:
		return line, fmt.Sprintf("%s of %s has version %q, but the configuration has %q", r.Platform, r.ID, lines[i].Version, r.Version)
	case lines[i].Repo != r.Repo:
		return line, fmt.Sprintf("%s of %s has repo %q, but the configuration has %q", r.Platform, r.ID, lines[i].Repo, r.Repo)
	}
	return lines[i], ""
}

// Compare joins the differences between the lock and what the builds download: lines that
// are missing, that have another version, and that no build uses.
func Compare(releases []Release, sets []PackageSet, lock lockfile.File) error {
	var errs []error
	differs := func(format string, args ...any) {
		errs = append(errs, hint.New(hint.Build, runLock, lockfile.Name+": "+format, args...))
	}
	for _, r := range releases {
		if _, reason := r.find(lock.Prebuilt); reason != "" {
			differs("%s", reason)
		}
	}
	for _, l := range lock.Prebuilt {
		if !slices.ContainsFunc(releases, func(r Release) bool { return l.ID == r.ID && l.Platform == r.Platform }) {
			differs("no build uses the line for %s of %s", l.Platform, l.ID)
		}
	}
	for _, s := range sets {
		if _, reason := s.find(lock); reason != "" {
			differs("%s", reason)
		}
	}
	owned := func(id, architecture string) bool {
		return slices.ContainsFunc(sets, func(s PackageSet) bool { return s.ID == id && s.Architecture == architecture })
	}
	for _, r := range lock.Resolved {
		if !owned(r.ID, r.Architecture) {
			differs("no build uses the packages for %s of %s", r.Architecture, shownID(r.ID))
		}
	}
	for _, l := range lock.Packages {
		if !owned(l.ID, l.Architecture) {
			differs("no build uses %s for %s of %s", l.Package, l.Architecture, shownID(l.ID))
		}
	}
	return errors.Join(errs...)
}

// Examine downloads what a build downloads, and checks that the programs are for their
// platforms.
func (p *Planner) Examine(ctx context.Context, c config.Build) error {
	c.Tags, c.Image = nil, config.Image{} // avoids calling git for their templates
	s, err := p.spec(ctx, c)
	if err == nil {
		_, err = p.Builder.Resolve(ctx, s)
	}
	return err
}
