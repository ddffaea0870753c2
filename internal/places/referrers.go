package places

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// maxReferrals is how many levels of referrers are followed: those of the image, their own,
// and those of these. Content from outside could refer to itself without end.
const maxReferrals = 3

// CosignSuffixes are the endings of cosign's tags for signatures, attestations and SBOMs.
var CosignSuffixes = []string{"sig", "att", "sbom"}

// EachReferrer calls visit for the referrers of a subject, as from lists them, and for the
// referrers of these. cosign's tags with the suffixes are looked up for the subject alone.
func EachReferrer(ctx context.Context, s manifest.ReferrerLister, from Reference, subject v1.Hash, suffixes []string, visit func(manifest.Referrer) error) error {
	return eachReferrer(ctx, s, from, subject, suffixes, visit, maxReferrals)
}

func eachReferrer(ctx context.Context, s manifest.ReferrerLister, from Reference, subject v1.Hash, suffixes []string, visit func(manifest.Referrer) error, levels int) error {
	if levels == 0 {
		return nil
	}
	list, err := s.Referrers(ctx, from.String(), subject, suffixes...)
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	for _, found := range list {
		if err := visit(found); err != nil {
			return fmt.Errorf("referrer %s: %w", found.Digest, err)
		}
		if found.Tag != "" {
			continue
		}
		if err := eachReferrer(ctx, s, from, found.Digest, nil, visit, levels-1); err != nil {
			return err
		}
	}
	return nil
}
