package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/git"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	keys      []string
	identity  map[string]*string // flags of cosign, by name
	cosign    []string           // further arguments of cosign
	require   []string
	platforms []string
	policy    attest.Policy
	json      bool
}

// identityFlags are the flags that are passed to cosign, with their descriptions.
var identityFlags = [][2]string{
	{"certificate-identity", "Accept signatures by this `IDENTITY`, such as the URI of a workflow, checked by cosign"},
	{"certificate-identity-regexp", "Accept signatures by identities that match `REGEXP`"},
	{"certificate-oidc-issuer", "Accept identities of this `ISSUER`"},
	{"certificate-oidc-issuer-regexp", "Accept identities of issuers that match `REGEXP`"},
	{"trusted-root", "Trust the authorities in `FILE`, in place of the public ones of sigstore"},
}

// identityNames returns the names of identityFlags.
func identityNames() (names []string) {
	for _, flag := range identityFlags {
		names = append(names, flag[0])
	}
	return names
}

// newVerify returns the command verify.
func newVerify(a *app) *cobra.Command {
	o := verifyOptions{identity: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "verify IMAGE…",
		Short: "Check the signatures, provenance and SBOMs of an image",
		Long: `Check that an image and each of its platforms are signed, and print
repository@digest, so that what was checked can be used. IMAGE is an image in a
registry, or oci:DIR or oci-archive:FILE.

With --key, the signature is checked in process: a bundle, or one under cosign's tag
sha256-….sig. With --certificate-identity and --certificate-oidc-issuer, cosign checks
bundles alone. The exit code is 1 if something that is required does not hold.`,
		Example: `  mabuild verify --key cosign.pub ghcr.io/acme/app:v1
  image=$(mabuild verify --key cosign.pub --require signature,provenance,sbom ghcr.io/acme/app:v1)
  mabuild verify --key cosign.pub --require provenance --source https://github.com/acme/app ghcr.io/acme/app:v1`,
		Args: atLeastOne("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			// An empty value would require nothing, so that a script whose variable is not set
			// would accept every image.
			if err := valued(cmd, append([]string{"key", "require", "source", "ref", "builder-id", "platforms", "cosign-arg"}, identityNames()...)...); err != nil {
				return err
			}
			if err := o.parse(a); err != nil {
				return err
			}
			return runVerify(cmd.Context(), a, o, args)
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

// bind adds the flags.
func (o *verifyOptions) bind(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "key", nil, "Accept signatures by the public key in `FILE` or env://VARIABLE; repeatable")
	for _, flag := range identityFlags {
		o.identity[flag[0]] = f.String(flag[0], "", flag[1])
	}
	f.StringArrayVar(&o.cosign, "cosign-arg", nil, "Pass this `ARGUMENT` to cosign, which checks an identity; repeatable")
	f.StringSliceVar(&o.require, "require", []string{attest.RequireSignature}, "Require these `KINDS` of statements: signature, provenance, sbom")
	f.StringVar(&o.policy.Source, "source", "", "Require provenance from this git `REPOSITORY`: any form of its address")
	f.StringVar(&o.policy.Ref, "ref", "", "Require provenance from this git `REF`, such as refs/tags/v1")
	f.StringVar(&o.policy.Builder, "builder-id", "", "Require provenance by the builder with this `URI`")
	f.StringSliceVar(&o.platforms, "platforms", nil, "Check only the images for these `PLATFORMS` (also --platform)")
	alike(f, map[string]string{"platform": "platforms"})
	bindJSON(f, &o.json, "Print a JSON array with what was checked for each image")
}

// parse checks the flags and makes the policy.
func (o *verifyOptions) parse(a *app) (err error) {
	var args []string
	for _, flag := range identityFlags {
		if value := *o.identity[flag[0]]; value != "" {
			args = append(args, "--"+flag[0]+"="+value)
		}
	}
	switch {
	case len(o.keys) > 0 && len(args) > 0:
		return usage("use only one of them", "--key and an identity cannot be used together")
	case len(o.keys) == 0 && *o.identity["certificate-identity"] == "" && *o.identity["certificate-identity-regexp"] == "":
		return usage("add --key FILE, or --certificate-identity and --certificate-oidc-issuer", "verify requires a key or an identity")
	case len(o.keys) == 0 && *o.identity["certificate-oidc-issuer"] == "" && *o.identity["certificate-oidc-issuer-regexp"] == "":
		return usage("for example --certificate-oidc-issuer https://token.actions.githubusercontent.com", "--certificate-identity requires --certificate-oidc-issuer")
	}
	for _, kind := range o.require {
		if !slices.Contains([]string{attest.RequireSignature, attest.RequireProvenance, attest.RequireSBOM}, kind) {
			return usage("use signature, provenance or sbom", "--require %q: unknown kind", kind)
		}
	}
	o.policy.Source = sourceAddress(o.policy.Source)
	o.policy.Require = o.require
	if o.policy.Source+o.policy.Ref+o.policy.Builder != "" && !slices.Contains(o.require, attest.RequireProvenance) {
		o.policy.Require = append(slices.Clone(o.require), attest.RequireProvenance)
	}
	if o.policy.Platforms, err = platform.ParseList(o.platforms); err != nil {
		return err
	}
	if len(args) > 0 {
		o.policy.Open = byIdentity(sign.Cosign{Args: append(args, o.cosign...), Dir: a.workDir})
		return nil
	}
	return byKeys(&o.policy, o.keys)
}

// sourceAddress returns the address that provenance has for a repository as users write it: any
// form of a git remote, with git+ or without a scheme.
func sourceAddress(source string) string {
	source = git.Address(strings.TrimPrefix(source, "git+"))
	host, _, ok := strings.Cut(source, "/")
	if ok && strings.Contains(host, ".") && !strings.HasPrefix(host, ".") && !strings.Contains(source, "://") {
		source = "https://" + source
	}
	return source
}

// byKeys lets a policy check signatures by public keys, in process.
func byKeys(p *attest.Policy, from []string) error {
	var keys []*sign.PublicKey
	for _, file := range from {
		text, err := readKey(file, "name the file of the signer's public key, such as cosign.pub")
		if err != nil {
			return err
		}
		key, err := sign.ParsePublic(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	p.Open = func(_ context.Context, bundle []byte, _ v1.Hash) ([]byte, error) {
		b, err := sign.ParseBundle(bundle)
		if err != nil {
			return nil, err
		}
		return b.Statement(keys)
	}
	p.OpenSimple = func(content, signature []byte) (string, error) { return sign.Simple(content, signature, keys) }
	return nil
}

// byIdentity returns the check of a bundle by the program cosign.
func byIdentity(c sign.Cosign) func(context.Context, []byte, v1.Hash) ([]byte, error) {
	return func(ctx context.Context, bundle []byte, about v1.Hash) ([]byte, error) {
		b, err := sign.ParseBundle(bundle)
		if err != nil {
			return nil, err
		}
		s, err := attest.ParseStatement(b.Envelope.Payload)
		if err != nil {
			return nil, err
		}
		return c.Verify(ctx, bundle, about.Hex, s.PredicateType)
	}
}

// A verified is the outcome for one image. Its JSON is stable.
type verified struct {
	Image    string           `json:"image"`
	Digest   string           `json:"digest"`
	Verified bool             `json:"verified"`
	Verdicts []attest.Verdict `json:"verdicts"`

	digest v1.Hash
}

// runVerify verifies images one after another and prints those that hold.
func runVerify(ctx context.Context, a *app, o verifyOptions, refs []string) error {
	rows := []verified{}
	var errs []error
	for _, ref := range refs {
		row, err := verifyImage(ctx, a.places(), ref, o.policy)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rows = append(rows, row)
		if err := row.failure(); err != nil {
			// Whether cosign could not reach them is in its text alone.
			if e := (*hint.Error)(nil); errors.As(err, &e) && len(o.keys) == 0 && *o.identity["trusted-root"] == "" {
				e.Hint = "cosign gets the authorities of sigstore from the network; --trusted-root FILE has them without it\n" + e.Hint
			}
			errs = append(errs, err)
			continue
		}
		if o.json {
			continue
		}
		lines, err := row.lines(len(o.platforms) > 0)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if _, err := fmt.Fprintln(a.stdout, line); err != nil {
				return err
			}
		}
	}
	if o.json {
		if err := writeJSON(a.stdout, rows); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// signedBy returns an error unless an image is signed by a key. It is the check of a
// mirror, whose file names the key.
func signedBy(ctx context.Context, store mirror.Store, key, ref string, platforms []ocispec.Platform) error {
	policy := attest.Policy{Require: []string{attest.RequireSignature}, Platforms: platforms}
	if err := byKeys(&policy, []string{key}); err != nil {
		return err
	}
	row, err := verifyImage(ctx, store, ref, policy)
	if err != nil {
		return err
	}
	return row.failure()
}

// A statementSource reads images and what refers to them: a places.Store.
type statementSource interface {
	manifest.Source
	manifest.ReferrerLister
}

// verifyImage reads an image and compares it with a policy. All that belongs to it is read
// by digest, so a tag that moves meanwhile does not matter.
func verifyImage(ctx context.Context, store statementSource, ref string, policy attest.Policy) (verified, error) {
	at, err := places.Parse(ref)
	if err != nil {
		return verified{}, err
	}
	content, err := store.Get(ctx, ref)
	if err != nil {
		return verified{}, missing(err)
	}
	digest, err := content.Digest()
	if err != nil {
		return verified{}, err
	}
	verdicts, err := policy.Verify(ctx, attest.Image{
		Content: content,
		Get: func(ctx context.Context, h v1.Hash) (manifest.Content, error) {
			return store.Get(ctx, at.ByDigest(h).String())
		},
		Referrers: func(ctx context.Context, subject v1.Hash) ([]manifest.Referrer, error) {
			return store.Referrers(ctx, ref, subject)
		},
		Tagged: func(ctx context.Context, tag string) (manifest.Content, error) {
			return store.Get(ctx, at.Cosign(tag).String())
		},
	})
	if absent := (*manifest.PlatformError)(nil); errors.As(err, &absent) {
		absent.Ref, err = ref, invalid(absent)
	}
	row := verified{Image: ref, Digest: digest.String(), Verdicts: verdicts, Verified: true, digest: digest}
	for _, v := range verdicts {
		row.Verified = row.Verified && len(v.Missing) == 0
	}
	return row, err
}

// failure returns an error with a line for each reason and the platforms that it is about, or
// nil.
func (v verified) failure() error {
	var reasons, lines []string
	of := map[string][]string{}
	for _, one := range v.Verdicts {
		for _, why := range one.Missing {
			if of[why] == nil {
				reasons = append(reasons, why)
			}
			of[why] = append(of[why], cmp.Or(one.Platform, "index"))
		}
	}
	for _, why := range reasons {
		lines = append(lines, strings.Join(of[why], ", ")+": "+why)
	}
	if len(lines) == 0 {
		return nil
	}
	return &hint.Error{
		Err:  fmt.Errorf("%s: not verified: %s", plain(v.Image), strings.Join(lines, "\n  ")),
		Hint: "mabuild inspect --referrers " + plain(v.Image) + " lists what there is; mabuild mirror --referrers copies it along; --platforms verifies some images without their index",
	}
}

// lines returns what was verified by digest: the index, or with --platforms its images.
func (v verified) lines(images bool) ([]string, error) {
	at, err := places.Parse(v.Image)
	if err != nil {
		return nil, err
	}
	if !images {
		return []string{at.ByDigest(v.digest).String()}, nil
	}
	var list []string
	for _, one := range v.Verdicts {
		list = append(list, at.ByDigest(one.Digest).String())
	}
	return list, nil
}
