package registry_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// An image with its referrers, and those of its child, can be copied from a registry to an
// archive and from there to another registry, with the same digests.
func TestAirGap(t *testing.T) {
	t.Parallel()
	here, there := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 300, 1, "amd64", "arm64")
	put(t, client(t), here.Host+"/app:v1", idx)
	child := must(idx.Image(must(idx.IndexManifest())(t).Manifests[1].Digest))(t)
	subjects := []v1.Hash{digestOf(t, idx), digestOf(t, child)}
	for _, subject := range []manifest.Content{idx, child} {
		sbom := referrer(t, subject, "sbom")
		put(t, client(t), by(here, "app", digestOf(t, sbom)), sbom)
	}
	sig := strings.Replace(subjects[0].String(), ":", "-", 1) + ".sig"
	put(t, client(t), here.Host+"/app:"+sig, regtest.Image(t, "amd64", 10, 1))
	want := map[v1.Hash][]string{}
	all := gather(t, client(t), here.Host+"/app", subjects, "", want)
	if len(all) != 4 || len(want[subjects[0]]) != 2 || len(want[subjects[1]]) != 1 {
		t.Fatalf("the source has %v", want)
	}

	archive := local.Archive(filepath.Join(t.TempDir(), "app.tar"))
	if err := archive.PutAll(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	carried, arrived, c := map[v1.Hash][]string{}, map[v1.Hash][]string{}, client(t)
	for _, one := range gather(t, archive, "", subjects, there.Host+"/far/app", carried) {
		put(t, c, one.Ref, one.Content)
	}
	gather(t, client(t), there.Host+"/far/app", subjects, "", arrived)
	if !maps.EqualFunc(carried, want, slices.Equal) || !maps.EqualFunc(arrived, want, slices.Equal) {
		t.Errorf("%v\nbecame %v\nand then %v", want, carried, arrived)
	}
	for subject, digests := range arrived {
		for _, one := range digests {
			if _, err := client(t).Resolve(t.Context(), there.Host+"/far/app@"+one[:len("sha256:")+64]); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
	}
	verifyTag(t, there, "far/app:v1", idx)
}

// gather reads the image v1 of repo ("" for an archive) and the referrers of subjects,
// which it adds to found. It names them for the repository to, or for an archive.
func gather(t *testing.T, src manifest.Source, repo string, subjects []v1.Hash, to string, found map[v1.Hash][]string) []manifest.Named {
	t.Helper()
	name := func(repo, tag string) string { return strings.TrimPrefix(repo+":"+tag, ":") }
	all := []manifest.Named{{Ref: name(to, "v1"), Content: must(src.Get(t.Context(), name(repo, "v1")))(t)}}
	for _, subject := range subjects {
		for _, d := range must(src.(manifest.ReferrerLister).Referrers(t.Context(), repo, subject, "sig"))(t) {
			found[subject] = append(found[subject], d.Digest.String()+" "+d.ArtifactType+" "+d.Tag)
			ref := to + "@" + d.Digest.String()
			if d.Tag != "" {
				ref = name(to, d.Tag)
			}
			content := must(src.Get(t.Context(), repo+"@"+d.Digest.String()))(t)
			all = append(all, manifest.Named{Ref: ref, Content: content})
		}
	}
	return all
}
