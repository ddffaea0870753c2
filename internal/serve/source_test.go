package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// stored returns a store with a config and a function that puts a manifest.
func stored(t *testing.T) (s *Store, config string, put func(tag, mediaType, content string) digest.Digest) {
	t.Helper()
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	config = `{"architecture":"amd64","os":"linux"}`
	u, err := s.StartUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(u, Chunk{Body: strings.NewReader(config), First: -1, Length: -1}, digest.FromString(config)); err != nil {
		t.Fatal(err)
	}
	return s, config, func(tag, mediaType, content string) digest.Digest {
		t.Helper()
		d, _, err := s.PutManifest("a", tag, mediaType, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func reading(s *Store) (*browser, *source) {
	return &browser{s, log.New(io.Discard, "", 0)}, &source{s, "a", new(atomic.Int64)}
}

// numbered returns an image that differs from others by its number.
func numbered(config string, n int) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"annotations":{"n":"%d"}}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, digest.FromString(config), len(config), n)
}

// listing returns an index of images.
func listing(children ...string) string {
	var list []string
	for i, c := range children {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64","variant":"v%d"}}`, ocispec.MediaTypeImageManifest, digest.FromString(c), len(c), i))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join(list, ","))
}

// A page of tags reads each index once and each of its images once, even if several tags
// name the index.
func TestReadsOfAPage(t *testing.T) {
	s, config, put := stored(t)
	var tags []string
	for i := range 3 {
		one, two := numbered(config, 2*i), numbered(config, 2*i+1)
		put(digest.FromString(one).String(), "", one)
		put(digest.FromString(two).String(), "", two)
		for _, tag := range []string{"x", "y"} {
			put(fmt.Sprint(tag, i), "", listing(one, two))
			tags = append(tags, fmt.Sprint(tag, i))
		}
	}
	b, from := reading(s)
	m := b.matrix(t.Context(), from, tags)
	if n := from.reads.Load(); n != 3*(1+2) {
		t.Errorf("%d manifests and configs were read", n)
	}
	if len(m.Rows) != 6 || len(m.Columns) != 2 || m.Rows[0].Cells[0].Text == "" || m.Rows[0].Cells[0].Text != m.Rows[1].Cells[0].Text || m.Rows[1].Name.Text != "y0" {
		t.Errorf("%+v", m)
	}
}

// An index of thousands of images does not make a page read them all.
func TestReadsAreBounded(t *testing.T) {
	s, config, put := stored(t)
	one := numbered(config, 1)
	put(digest.FromString(one).String(), "", one)
	var list []string
	for i := range 3000 {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64","os.version":"%d"}}`, ocispec.MediaTypeImageManifest, digest.FromString(one), len(one), i))
	}
	put("many", "", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join(list, ",")))
	put("small", "", listing(one))
	b, from := reading(s)
	m := b.matrix(t.Context(), from, []string{"many", "small"})
	if m.Rows[0].Problem == "" && len(m.Rows[0].Notes) == 0 || !strings.Contains(m.Rows[1].Problem, "at most 2000 manifests") {
		t.Errorf("%+v", m.Rows)
	}
	// Each try beyond the bound is counted, and reads nothing.
	if n := from.reads.Load(); n < maxReads {
		t.Errorf("%d reads", n)
	}
}

// A tag that is removed between the list and the read is a row that says so.
func TestRemovedBetweenListAndRead(t *testing.T) {
	s, config, put := stored(t)
	put("v1", "", numbered(config, 1))
	b, from := reading(s)
	m := b.matrix(t.Context(), from, []string{"v1", "gone"})
	if m.Rows[0].Problem != "" || m.Rows[1].State != "removed" || !strings.Contains(m.Rows[1].Problem, "removed while the page was made") {
		t.Errorf("%+v", m.Rows)
	}
}

// A source says what is missing as manifest.ErrNotFound, ends with its context, and opens
// no layer.
func TestSource(t *testing.T) {
	s, config, put := stored(t)
	d := put("v1", "", numbered(config, 1))
	_, from := reading(s)
	if _, err := from.Get(t.Context(), "none"); !errors.Is(err, manifest.ErrNotFound) {
		t.Error(err)
	}
	got, err := from.Resolve(t.Context(), "v1")
	if err != nil || got.Digest.String() != d.String() || got.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("%v, %v", got, err)
	}
	c, err := from.Get(t.Context(), d.String())
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := c.RawManifest(); err != nil || string(raw) != numbered(config, 1) {
		t.Errorf("%s, %v", raw, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := from.Get(ended, "v1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if r, err := (fetcher{t.Context(), from}).Blob(got); err == nil {
		_ = r.Close()
		t.Error("a layer was opened")
	}
}
