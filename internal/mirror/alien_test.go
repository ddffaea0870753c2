package mirror

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// lister has every image, and lists tags.
type lister struct {
	Store
	tags []string
}

func (lister) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "1"}}, nil
}

func (l lister) Tags(context.Context, string) ([]string, error) { return l.tags, nil }

// A name of a listing that is no tag is left out with a warning, and stops no other: an
// old Harbor lists sha256:…, and nothing could pull by it. One that rename makes is an
// error.
func TestListsWhatIsNoTag(t *testing.T) {
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
			t.Errorf("no warning of %s in %s", alien, &log)
		}
	}
}
