package mirror

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest/local"
)

// lister is a store that has every image and lists fixed tags.
type lister struct {
	Store
	tags []string
}

func (lister) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "1"}}, nil
}

func (l lister) List(context.Context, string) (list []local.Holding, err error) {
	for _, tag := range l.tags {
		list = append(list, local.Holding{Name: tag})
	}
	return list, nil
}

// A listed name that is not a valid tag is left out with a warning and does not stop the
// other tags. An old Harbor lists sha256:…, for example. An invalid name that rename makes
// is an error.
func TestInvalidTagsInListing(t *testing.T) {
	var log strings.Builder
	entry := &Entry{Name: "tags", Image: "r/app", Tags: Tags{Regex: []*regexp.Regexp{whole(".*")}}, Targets: []string{"m/app"}}
	r := &Runner{Store: lister{tags: []string{"sha256:4f", "v1", "a b", "", "v2"}}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	var got []string
	for _, image := range r.Run(t.Context(), []*Entry{entry}).Entries[0].Images {
		got = append(got, image.Source+" "+image.Status)
	}
	if all := strings.Join(got, ", "); all != "r/app:v2 unchanged, r/app:v1 unchanged" {
		t.Errorf("got %s", all)
	}
	for _, alien := range []string{"tag=sha256:4f", `tag="a b"`, `tag=""`} {
		if !strings.Contains(log.String(), alien) {
			t.Errorf("no warning about %s in %s", alien, &log)
		}
	}
}
