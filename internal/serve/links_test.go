//go:build !windows

package serve

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Links, pipes and directories in place of files of the store are ignored, never followed.
func TestLinks(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	s := open(t, dir)
	addBlob(t, s, "config")
	put(t, s, "a", "v1", imageOf("config"))
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{
		blobFile(digest.FromString("out")):    outside,
		blobFile(digest.FromString("in")):     digest.FromString("config").Encoded(),
		blobFile(digest.FromString("folder")): ".",
	}
	for file, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"out", "in", "folder"} {
		d := digest.FromString(name)
		if there, err := s.HasBlob(d); there || err != nil {
			t.Errorf("%s: %v %v", name, there, err)
		}
		if _, err := s.Blob(d); code(err) != "404 BLOB_UNKNOWN" {
			t.Errorf("%s: %v", name, err)
		}
	}
	addBlob(t, s, "out") // replaces the link
	if raw, err := os.ReadFile(outside); err != nil || string(raw) != "secret" {
		t.Errorf("%s %v", raw, err)
	}
	if err := os.Symlink("a", filepath.Join(dir, repositoriesDir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Manifest("link", "v1"); code(err) != "404 MANIFEST_UNKNOWN" {
		t.Errorf("a repository that is a link: %v", err)
	}
	if _, _, err := s.PutManifest("link", "v2", "", bytes.NewReader(imageOf("config"))); err == nil || code(err) == "201" {
		t.Error("a manifest went through a link")
	}
	if tags, err := s.Tags("a"); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("%v %v", tags, err)
	}
	if names, err := s.Repositories(); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("%v %v", names, err)
	}
	s.Close()
	if err := errors.Join(os.Remove(filepath.Join(dir, ".lock")), os.Symlink(outside, filepath.Join(dir, ".lock"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil); err == nil {
		t.Error("Open accepts a link as the lock file")
	}
}
