package manifest

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// take reads one item. idx is what it is, when it is an index.
func (a *Assembly) take(ctx context.Context, s Source, item Item) (found []*part, idx v1.ImageIndex, err error) {
	if a.TrustPlatforms && item.Platform.OS != "" {
		d, err := s.Resolve(ctx, item.Ref)
		if err != nil {
			return nil, nil, err
		}
		if d.MediaType.IsImage() {
			return []*part{trusted(ctx, s, item, d)}, nil, nil
		}
	}
	c, err := s.Get(ctx, item.Ref)
	if err != nil {
		return nil, nil, err
	}
	switch c := c.(type) {
	case v1.Image:
		d, err := Describe(c)
		if err != nil {
			return nil, nil, err
		}
		p := &part{Child: Child{Descriptor: d, Content: c}, from: item.Ref}
		return []*part{p}, nil, a.settle(ctx, p, item.Platform, c)
	case v1.ImageIndex:
		if a.unchanging() {
			return nil, c, nil
		}
		f := flattening{a: a, ctx: ctx, ref: item.Ref, seen: map[v1.Hash]bool{}}
		if err := f.add(c, 1); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", item.Ref, err)
		}
		if item.Platform.OS == "" && a.chooses() {
			return f.parts, c, nil
		}
		found, err := a.settleAll(ctx, f.parts)
		if err == nil && item.Platform.OS != "" {
			found, err = a.declared(ctx, item, found)
		}
		return found, c, err
	}
	return nil, nil, fmt.Errorf("%s is neither an image nor an index", item.Ref)
}

// trusted takes an image unread.
func trusted(ctx context.Context, s Source, item Item, d v1.Descriptor) *part {
	settled, _ := platform.Settle(item.Platform, ocispec.Platform{})
	d = v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: platform.ToV1(settled)}
	return &part{from: item.Ref, Child: Child{Descriptor: d, Open: func() (Content, error) {
		c, err := s.Get(ctx, item.Ref)
		if err != nil {
			return nil, err
		}
		if is, err := c.Digest(); err != nil || is != d.Digest {
			return nil, errors.Join(err, fmt.Errorf("%s moved from %s to %s meanwhile: %w", item.Ref, d.Digest, is, ErrMismatch))
		}
		return c, nil
	}}}
}

// settleAll reads the images whose indexes do not say what they run on. An artifact
// among them runs on nothing: it stays in the base, and is left out elsewhere.
func (a *Assembly) settleAll(ctx context.Context, parts []*part) (settled []*part, err error) {
	var errs []error
	for _, p := range parts {
		stays, err := a.settleOne(ctx, p)
		errs = append(errs, err)
		if stays {
			settled = append(settled, p)
		}
	}
	return settled, errors.Join(errs...)
}

// settleOne reads p if it is unread, and reports whether it stays.
func (a *Assembly) settleOne(ctx context.Context, p *part) (stays bool, err error) {
	if p.unread == nil || p.base && p.artifact() {
		return true, nil
	}
	img, err := p.unread()
	if err != nil {
		return false, err
	}
	p.Content, p.Open, p.unread = img, nil, nil
	var says ocispec.Platform
	if p.Descriptor.Platform != nil {
		says = asWritten(p.Descriptor.Platform)
	}
	err = a.settle(ctx, p, says, img)
	var artifact *artifactError
	switch {
	case !errors.As(err, &artifact):
		return err == nil, err
	case !p.base:
		a.Log.WarnContext(ctx, "left out, it is no image", "digest", p.Descriptor.Digest.String(), "type", artifact.kind, "index", p.from)
	}
	return p.base, nil
}

// An artifactError says that what was to be an image is none.
type artifactError struct{ name, kind string }

func (e *artifactError) Error() string {
	return fmt.Sprintf("%s is no image but an artifact, %s", e.name, e.kind)
}

// settle gives an image the platform that is declared and that its config says.
func (a *Assembly) settle(ctx context.Context, p *part, declared ocispec.Platform, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	artifact, err := artifactType(img, m)
	if err != nil {
		return fmt.Errorf("%s: %w", p.from, err)
	}
	if artifact != "" && declared.OS == "" {
		return &AssemblyError{&artifactError{p.from, artifact}, ""}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("config of %s: %w", p.from, err)
	}
	says := ocispec.Platform{
		OS: config.OS, Architecture: config.Architecture, Variant: config.Variant,
		OSVersion: config.OSVersion, OSFeatures: config.OSFeatures,
	}
	return a.agree(ctx, p, declared, says, "its config says")
}

// agree sets the platform of p to what is declared and what another word says.
func (a *Assembly) agree(ctx context.Context, p *part, declared, says ocispec.Platform, word string) error {
	settled, agree := platform.Settle(declared, says)
	if settled.OS == "" || settled.Architecture == "" {
		return unfit("declare one: "+p.from+"=linux/amd64, for example", "%s: its config says half a platform or none: os %q, architecture %q", p.from, says.OS, says.Architecture)
	}
	if !agree {
		err := fmt.Errorf("%s: declared %s, %s %s: %w", p.from, platform.Key(declared), word, platform.Key(says), ErrMismatch)
		if !a.AllowMismatch {
			return err
		}
		a.Log.WarnContext(ctx, "declared against config", "image", p.from, "declared", platform.Key(declared), "config", platform.Key(says))
	}
	p.Descriptor.Platform = platform.ToV1(settled)
	return nil
}

// declared takes of an index the image that the item declares, with what
// describes it.
func (a *Assembly) declared(ctx context.Context, item Item, all []*part) ([]*part, error) {
	var images, fit []*part
	var have []string
	for _, p := range all {
		if IsAttestation(p.Descriptor) {
			continue
		}
		images, have = append(images, p), append(have, p.key())
		if _, agree := platform.Settle(item.Platform, asWritten(p.Descriptor.Platform)); agree {
			fit = append(fit, p)
		}
	}
	if len(images) == 1 {
		fit = images
	}
	switch len(fit) {
	case 0:
		return nil, unfit("", "%s has no %s; it has %s", item.Ref, platform.Key(item.Platform), list(have))
	case 1:
	default:
		return nil, unfit("name the variant or the os.version", "%s has %d images for %s: %s", item.Ref, len(fit), platform.Key(item.Platform), list(have))
	}
	says := asWritten(fit[0].Descriptor.Platform)
	if err := a.agree(ctx, fit[0], item.Platform, says, "its index says"); err != nil {
		return nil, err
	}
	for _, p := range all {
		if IsAttestation(p.Descriptor) {
			fit = append(fit, p)
		}
	}
	return followed(fit), nil
}

// asWritten converts a platform without bringing it into normal form.
func asWritten(p *v1.Platform) ocispec.Platform {
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}
