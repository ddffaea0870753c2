package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file reads the items of an Assembly and decides the platform of each image from
// three statements: the declaration of the user, the entry of an index, and the config.

// resolve reads one item. idx is set if the item is an index. An item whose platform is
// declared and trusted costs one HEAD, a single image its manifest and, if needed, its
// config.
func (a *Assembly) resolve(ctx context.Context, s Source, item Item) (found []*part, idx v1.ImageIndex, err error) {
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
		return []*part{p}, nil, a.check(ctx, p, item.Platform, c)
	case v1.ImageIndex:
		if a.unchanging() {
			return nil, c, nil
		}
		found, err := a.flatten(ctx, c, item.Ref, false)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", item.Ref, err)
		}
		if item.Platform.OS == "" && a.chooses() {
			return found, c, nil
		}
		found, err = a.checkAll(ctx, found)
		if err == nil && item.Platform.OS != "" {
			found, err = a.declared(ctx, item, found)
		}
		return found, c, err
	}
	return nil, nil, fmt.Errorf("%s is neither an image nor an index", item.Ref)
}

// trusted makes a part of an image that is not read. Its content is read later by
// reference, so a tag that moved meanwhile is [ErrMismatch].
func trusted(ctx context.Context, s Source, item Item, d v1.Descriptor) *part {
	settled, _ := reconcile(item.Platform, ocispec.Platform{})
	d = v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: platform.ToV1(settled)}
	return &part{from: item.Ref, entry: Entry{Kind: KindImage, Platform: platform.FromV1(d.Platform)}, Child: Child{Descriptor: d, Open: func() (Content, error) {
		c, err := s.Get(ctx, item.Ref)
		if err != nil {
			return nil, err
		}
		if is, err := c.Digest(); err != nil || is != d.Digest {
			return nil, errors.Join(err, fmt.Errorf("%s changed from %s to %s during the run: %w", item.Ref, d.Digest, is, ErrMismatch))
		}
		return c, nil
	}}}
}

// checkAll reads the parts that are unread. An artifact among them stays in the base and
// is dropped elsewhere. All errors are joined.
func (a *Assembly) checkAll(ctx context.Context, parts []*part) (settled []*part, err error) {
	err = each(parts, func(p **part) error { return a.checkOne(ctx, *p) })
	for _, p := range parts {
		if p.base || p.entry.Kind != KindArtifact {
			settled = append(settled, p)
		}
	}
	return settled, err
}

// checkOne reads p if it is unread. An image of the base without a platform in its
// descriptor and config stays as it is: the base was published so.
func (a *Assembly) checkOne(ctx context.Context, p *part) error {
	if p.entry.Kind != KindUnread {
		return nil
	}
	if err := p.entry.Read(); err != nil {
		return err
	}
	p.Open = p.entry.Open
	switch {
	case p.entry.Kind == KindArtifact && !p.base:
		a.leaveOut(ctx, p)
	case p.entry.Kind == KindImage && p.entry.fromConfig():
		err := a.agree(ctx, p, asWritten(p.Descriptor.Platform), p.entry.Config, "its config says")
		if half := (*AssemblyError)(nil); p.base && errors.As(err, &half) {
			return nil
		}
		return err
	}
	return nil
}

// check sets the platform of an image from the declaration and its config.
func (a *Assembly) check(ctx context.Context, p *part, declared ocispec.Platform, img v1.Image) (err error) {
	if p.entry, err = Identify(p.Descriptor, img); err != nil {
		return fmt.Errorf("%s: %w", p.from, err)
	}
	if p.entry.Kind == KindArtifact {
		return invalid("", "%s is an artifact (%s), not an image", p.from, p.entry.Type)
	}
	return a.agree(ctx, p, declared, p.entry.Config, "its config says")
}

// agree sets the platform of p to the combination of what is declared and what the config
// or index says. word names the second one in messages.
func (a *Assembly) agree(ctx context.Context, p *part, declared, says ocispec.Platform, word string) error {
	settled, agree := reconcile(declared, says)
	if settled.OS == "" || settled.Architecture == "" {
		return invalid("declare it, for example "+p.from+"=linux/amd64", "%s: its config has no complete platform: os %q, architecture %q", p.from, says.OS, says.Architecture)
	}
	if !agree {
		err := hint.New(hint.Content, "declare "+platform.Key(says)+", or build the image for "+platform.Key(declared), "%s: declared %s, %s %s: %w", p.from, platform.Key(declared), word, platform.Key(says), ErrMismatch)
		if !a.AllowMismatch {
			return err
		}
		a.Log.WarnContext(ctx, "the config contradicts the declared platform", "image", p.from, "declared", platform.Key(declared), "config", platform.Key(says))
	}
	p.Descriptor.Platform = platform.ToV1(settled)
	p.entry.Platform = platform.FromV1(p.Descriptor.Platform)
	return nil
}

// declared takes from an index the image that the item declares, with its attestations.
// Of several images of one platform it takes the first. It takes an image that needs an
// undeclared feature or version only if no other fits. An only image is taken whatever
// its platform, which agree then compares with the declaration.
func (a *Assembly) declared(ctx context.Context, item Item, all []*part) ([]*part, error) {
	var fit []*part
	var of []ocispec.Platform
	images, _ := imagesOf(all)
	for _, p := range images {
		if _, agree := reconcile(item.Platform, asWritten(p.Descriptor.Platform)); agree {
			fit, of = append(fit, p), append(of, p.entry.Platform)
		}
	}
	if len(images) == 1 {
		fit = images
	} else if at, ok := platform.Single(item.Platform, of); ok {
		fit = fit[at : at+1]
	}
	switch len(fit) {
	case 0:
		return nil, invalid("", "%s has no %s, only %s", item.Ref, platform.Key(item.Platform), list(keysOf(all)))
	case 1:
	default:
		return nil, invalid("specify the variant or the os.version", "%s has %d images for %s: %s", item.Ref, len(fit), platform.Key(item.Platform), list(keysOf(all)))
	}
	says := asWritten(fit[0].Descriptor.Platform)
	if err := a.agree(ctx, fit[0], item.Platform, says, "its index says"); err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.attests() {
			fit = append(fit, p)
		}
	}
	return followed(fit), nil
}

// reconcile combines the platform that is declared for an image with that of its config,
// neither in normal form. The declared one wins; a field that is empty in one of them is
// taken from the other. agree is false if both have a field and its normal forms differ.
//
// p is in normal form except for the variant. A variant that neither has stays empty. If
// both mean the same variant, p has the spelling of the config, because some tools
// compare the index with the config as text.
func reconcile(declared, config ocispec.Platform) (p ocispec.Platform, agree bool) {
	d, c := declared, config
	complete(&d, config)
	complete(&c, declared)
	p = platform.Normalize(d)
	switch same := p.Variant == platform.Normalize(c).Variant; {
	case d.Variant == "":
		p.Variant = ""
	case same && config.Variant != "":
		p.Variant = config.Variant
	}
	return p, platform.Key(d) == platform.Key(c)
}

// complete fills in the empty fields of p from another platform. Features count as one
// field.
func complete(p *ocispec.Platform, from ocispec.Platform) {
	p.OS, p.Architecture = cmp.Or(p.OS, from.OS), cmp.Or(p.Architecture, from.Architecture)
	p.Variant, p.OSVersion = cmp.Or(p.Variant, from.Variant), cmp.Or(p.OSVersion, from.OSVersion)
	if len(p.OSFeatures) == 0 {
		p.OSFeatures = from.OSFeatures
	}
}
