package serve

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, log.New(t.Output(), "", 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func addBlob(t *testing.T, s *Store, content string) digest.Digest {
	t.Helper()
	u, err := s.StartUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString(content)
	if err := s.Finish(u, Chunk{Body: strings.NewReader(content), First: -1, Length: -1}, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// imageOf is a manifest with a config of that content, and no layers.
func imageOf(config string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		ocispec.MediaTypeImageManifest, digest.FromString(config), len(config))
}

func indexOf(child []byte) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, digest.FromBytes(child), len(child))
}

func put(t *testing.T, s *Store, repository, reference string, body []byte) {
	t.Helper()
	if _, _, err := s.PutManifest(repository, reference, "", bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
}

func body(t *testing.T, s *Store, repository, reference string) string {
	t.Helper()
	m, err := s.Manifest(repository, reference)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	raw, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// leftovers are the files that no finished request leaves.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, uploadsDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func code(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return fmt.Sprint(e.Status, " ", e.Code)
}

func TestOneProcessServesADirectory(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// oldRecord writes a manifest as mabuild did before it had a store.
func oldRecord(t *testing.T, dir, repository, reference, mediaType string, body []byte) string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"repository": repository, "reference": reference, "mediaType": mediaType, "body": body})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "manifests", digest.FromString(repository+"\x00"+reference).Encoded())
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func blobOf(t *testing.T, dir, content string) {
	t.Helper()
	file := filepath.Join(dir, blobFile(digest.FromString(content)))
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestMigration takes over what an older mabuild wrote, as often as it is broken off.
func TestMigration(t *testing.T) {
	image, lost := imageOf("config"), imageOf("lost")
	for _, fault := range []string{"", "create", "write", "sync", "rename"} {
		for at := range 12 {
			dir := t.TempDir()
			blobOf(t, dir, "config")
			oldRecord(t, dir, "a/b", "v1", ocispec.MediaTypeImageIndex, indexOf(image))
			oldRecord(t, dir, "a/b", digest.FromBytes(image).String(), ocispec.MediaTypeImageManifest, image)
			oldRecord(t, dir, "c", "V1", ocispec.MediaTypeImageManifest, image)
			stays := oldRecord(t, dir, "d", "v1", ocispec.MediaTypeImageManifest, lost)
			broken := oldRecord(t, dir, "d", "v2", ocispec.MediaTypeImageManifest, []byte("{"))
			for _, name := range []string{"manifests/x.new", "blobs/upload-1"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if fault != "" { // broken off at a step, as by a crash
				root, err := os.OpenRoot(dir)
				if err != nil {
					t.Fatal(err)
				}
				steps := 0
				s := newStore(root, log.New(io.Discard, "", 0))
				s.fault = func(step string) error {
					if step == fault {
						steps++
					}
					if steps > at {
						return errors.New("broken off")
					}
					return nil
				}
				_ = s.prepare()
				_ = root.Close()
			}
			var told bytes.Buffer
			s, err := Open(dir, log.New(&told, "", 0))
			if err != nil {
				t.Fatal(err)
			}
			if body(t, s, "a/b", "v1") != string(indexOf(image)) || body(t, s, "c", "V1") != string(image) || body(t, s, "c", digest.FromBytes(image).String()) != string(image) {
				t.Errorf("%s %d: another manifest", fault, at)
			}
			left, err := filepath.Glob(filepath.Join(dir, "manifests", "*"))
			slices.Sort(left)
			want := []string{stays, broken}
			slices.Sort(want)
			if err != nil || !slices.Equal(left, want) {
				t.Errorf("%s %d: %v stay, %v", fault, at, left, err)
			}
			if text := told.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, stays+": v1 of d is on disk but is not served: 404") || !strings.Contains(text, broken+": v2 of d is on disk but is not served: 400") {
				t.Errorf("%s %d: %s", fault, at, text)
			}
			if _, err := os.Stat(filepath.Join(dir, "blobs", "upload-1")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("an unfinished blob stays")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if fault == "" {
				break
			}
		}
	}
}

// A record whose missing part comes later is taken over then, and never moves a tag that
// was pushed meanwhile.
func TestMigrationGoesOn(t *testing.T) {
	dir := t.TempDir()
	old, fresh := imageOf("old"), imageOf("fresh")
	oldRecord(t, dir, "a", "v1", ocispec.MediaTypeImageManifest, old)
	oldRecord(t, dir, "a", "v2", ocispec.MediaTypeImageManifest, old)
	s := open(t, dir)
	addBlob(t, s, "fresh")
	put(t, s, "a", "v1", fresh)
	addBlob(t, s, "old")
	s.Close()
	s = open(t, dir)
	if body(t, s, "a", "v1") != string(fresh) || body(t, s, "a", "v2") != string(old) {
		t.Error("a tag names another manifest")
	}
	if _, err := os.Stat(filepath.Join(dir, "manifests")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the records: %v", err)
	}
}

// A blob that a crash cut short, before blobs were synced, does not keep a client from
// pushing it again.
func TestDamagedBlobsGo(t *testing.T) {
	dir := t.TempDir()
	blobOf(t, dir, "config")
	file := filepath.Join(dir, blobFile(digest.FromString("config")))
	oldRecord(t, dir, "a", "v1", "", imageOf("config"))
	if err := os.Truncate(file, 3); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	s, err := Open(dir, log.New(&told, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if there, err := s.HasBlob(digest.FromString("config")); there || err != nil || !strings.Contains(told.String(), "damaged") || !strings.Contains(told.String(), "v1 of a") {
		t.Errorf("%v %v %s", there, err, told.String())
	}
}

// TestDiskFull: a write that fails at any step leaves what was there, and nothing else.
func TestDiskFull(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "rename"} {
		for at := range 4 {
			dir := t.TempDir()
			s := open(t, dir)
			addBlob(t, s, "config")
			addBlob(t, s, "other")
			put(t, s, "a", "v1", imageOf("config"))
			server := httptest.NewServer(NewRegistry(s, nil, log.New(t.Output(), "", 0)))
			steps := 0
			s.fault = func(now string) error {
				if now == step {
					steps++
				}
				if now == step && steps > at {
					return &fs.PathError{Op: now, Path: dir, Err: syscall.ENOSPC}
				}
				return nil
			}
			send := func(method, path, content string) (int, string) {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				raw, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(raw)
			}
			status, text := send("PUT", "/v2/a/manifests/v1", string(imageOf("other")))
			want := string(imageOf("config"))
			if status == 201 {
				want = string(imageOf("other"))
			} else if status != http.StatusInsufficientStorage || strings.Contains(text, dir) {
				t.Errorf("%s %d: %d %s", step, at, status, text)
			}
			if body(t, s, "a", "v1") != want {
				t.Errorf("%s %d: the tag names another manifest", step, at)
			}
			steps = at // one step of each kind is enough to fail a blob
			if status, text := send("POST", "/v2/a/blobs/uploads/?digest="+digest.FromString("new").String(), "new"); status != http.StatusInsufficientStorage || strings.Contains(text, dir) {
				t.Errorf("%s %d: a blob: %d %s", step, at, status, text)
			}
			if left := leftovers(t, dir); len(left) != 0 || s.uploads.bytes != 0 || len(s.uploads.open) != 0 {
				t.Errorf("%s %d: %v stay, %d bytes", step, at, left, s.uploads.bytes)
			}
			server.Close()
			s.Close()
		}
	}
}

// A 500 says nothing of the machine; the log has the cause.
func TestFaultsStayInTheLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	addBlob(t, s, "config")
	put(t, s, "a", "v1", imageOf("config"))
	if err := os.WriteFile(filepath.Join(dir, tagFile("a", "v1")), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	h := NewRegistry(s, nil, log.New(&told, "", 0))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/v2/a/manifests/v1", nil))
	if text := w.Body.String(); w.Code != 500 || !strings.Contains(text, "UNKNOWN") || strings.Contains(text, "digest") || strings.Contains(text, dir) {
		t.Errorf("%d %s", w.Code, text)
	}
	if !strings.Contains(told.String(), "the file of tag v1 of a: invalid checksum digest") {
		t.Error(told.String())
	}
	s.fault = func(string) error { panic("in the store") }
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost/v2/a/blobs/uploads/", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"UNKNOWN"`) || !strings.Contains(told.String(), "panic: in the store") || !strings.Contains(told.String(), "POST http://localhost/v2/a/blobs/uploads/ 500") {
		t.Errorf("%d %s %s", w.Code, w.Body, told.String())
	}
}

// A refusal of a host has the form of the specification and a line in the log.
func TestRegistryRefusesOtherHosts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var told bytes.Buffer
	h := NewRegistry(s, []string{"registry.local"}, log.New(&told, "", 0))
	for host, status := range map[string]int{"localhost:5000": 202, "registry.local": 202, "evil.example": 403} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "http://"+host+"/v2/a/blobs/uploads/", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status || status == 403 && (!strings.Contains(w.Body.String(), `"code":"DENIED"`) || !strings.Contains(w.Body.String(), "--host NAME")) {
			t.Errorf("%s: %d %s", host, w.Code, w.Body)
		}
	}
	if !strings.Contains(told.String(), "POST http://evil.example/v2/a/blobs/uploads/ 403 DENIED") {
		t.Error(told.String())
	}
}

// What a client sends cannot end a line of the log.
func TestLogIsOneLineARequest(t *testing.T) {
	var told bytes.Buffer
	h := NewRegistry(open(t, t.TempDir()), nil, log.New(&told, "", 0))
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/v2/a/tags/list", nil)
	r.RequestURI = "/v2/\nforged\u202e"
	r.URL.Path = "/v2/\nforged\u202e/tags/list"
	h.ServeHTTP(httptest.NewRecorder(), r)
	if text := told.String(); strings.Count(text, "\n") != 1 || strings.ContainsRune(text, '\u202e') {
		t.Errorf("%q", text)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	chunk := func(text string) Chunk { return Chunk{Body: strings.NewReader(text), First: -1, Length: -1} }
	start := func(t *testing.T, s *Store) *Upload {
		t.Helper()
		u, err := s.StartUpload("a")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	dir := t.TempDir()
	s := open(t, dir)
	s.uploads.most, s.uploads.mostBytes, s.uploads.mostOfOne = 3, 10, 6
	one, two, three := start(t, s), start(t, s), start(t, s)
	if _, err := s.StartUpload("a"); code(err) != "429 TOOMANYREQUESTS" {
		t.Errorf("a fourth upload: %v", err)
	}
	if err := s.Write(one, chunk("1234567")); code(err) != "413 SIZE_INVALID" {
		t.Errorf("a large upload: %v", err)
	}
	if err := errors.Join(s.Write(two, chunk("123456")), s.Write(three, chunk("1234"))); err != nil {
		t.Error(err)
	}
	if err := s.Write(three, chunk("5")); code(err) != "429 TOOMANYREQUESTS" {
		t.Errorf("more than all may have: %v", err)
	}
	// The uploads that met a bound have ended, and made room.
	for _, u := range []*Upload{one, three} {
		if _, err := s.Upload("a", u.ID); code(err) != "404 BLOB_UPLOAD_UNKNOWN" {
			t.Error(err)
		}
	}
	if err := s.Write(start(t, s), chunk("1234")); err != nil {
		t.Error(err)
	}
	if s.uploads.bytes != 10 || len(leftovers(t, dir)) != 2 {
		t.Errorf("%d bytes, %v", s.uploads.bytes, leftovers(t, dir))
	}
	s.Close()
	if left := leftovers(t, dir); len(left) != 0 {
		t.Errorf("%v stay", left)
	}
}

// What a process that was killed left goes when the store is opened.
func TestLeftoversGo(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	for _, name := range []string{"01234567-89ab-cdef-0123-456789abcdef", rand.Text(), "user-photo.jpg"} {
		if err := os.WriteFile(filepath.Join(dir, uploadsDir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir)
	if left := leftovers(t, dir); len(left) != 1 || filepath.Base(left[0]) != "user-photo.jpg" {
		t.Errorf("%v stay", left)
	}
}

// What a directory is called may be a link of a checkout, and lead anywhere.
func TestTheDirectoryIsNoLink(t *testing.T) {
	home, link := t.TempDir(), filepath.Join(t.TempDir(), "registry")
	if err := os.Symlink(home, link); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(link, nil); err == nil {
		s.Close()
		t.Error("it was taken for the registry's")
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// An upload ends an hour after its last request, and a day after its first; one that a
// request writes to lives on within that day.
func TestUploadsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		defer s.Close()
		there := func(u *Upload) bool { _, err := s.Upload("a", u.ID); return err == nil }
		u, err := s.StartUpload("a")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(uploadIdle - time.Minute)
		if !there(u) { // which renews it
			t.Error("ended within the hour")
		}
		time.Sleep(uploadIdle - time.Minute)
		if !there(u) {
			t.Error("was not renewed")
		}
		time.Sleep(uploadIdle + time.Minute)
		if there(u) || len(leftovers(t, dir)) != 0 {
			t.Error("lives after an idle hour")
		}
		if u, err = s.StartUpload("a"); err != nil {
			t.Fatal(err)
		}
		from, to := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- s.Write(u, Chunk{Body: from, First: -1, Length: -1}) }()
		time.Sleep(uploadLifetime - time.Minute)
		if u.gone.Load() {
			t.Error("ended while a request wrote to it")
		}
		time.Sleep(2 * time.Hour)
		if there(u) {
			t.Error("lives for more than a day")
		}
		go func() { _, _ = to.Write([]byte("late")); to.Close() }()
		if err := <-ended; code(err) != "404 BLOB_UPLOAD_UNKNOWN" || len(leftovers(t, dir)) != 0 {
			t.Errorf("%v, %v", err, leftovers(t, dir))
		}
	})
}

// While one request writes slowly to an upload, another write to it is refused at once,
// its state can be asked for, and everything else goes on.
func TestASlowUploadBlocksNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	u, err := s.StartUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.Write(u, Chunk{Body: from, First: 0, Length: -1}) }()
	if _, err := to.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Write([]byte{}); err != nil { // read once the first was written
		t.Fatal(err)
	}
	if err := s.Write(u, Chunk{Body: strings.NewReader("x"), First: -1, Length: -1}); code(err) != "409 BLOB_UPLOAD_INVALID" || !strings.Contains(err.Error(), "another request") {
		t.Errorf("a second write: %v", err)
	}
	if found, err := s.Upload("a", u.ID); err != nil || found.Size() != 5 {
		t.Errorf("%d, %v", found.Size(), err)
	}
	addBlob(t, s, "config")
	put(t, s, "a", "v1", imageOf("config"))
	s.Cancel(u)
	go func() { _, _ = to.Write([]byte("second")); to.Close() }()
	if err := <-ended; code(err) != "404 BLOB_UPLOAD_UNKNOWN" {
		t.Errorf("the write to a cancelled upload: %v", err)
	}
	if left := leftovers(t, dir); len(left) != 0 || s.uploads.bytes != 0 {
		t.Errorf("%v stay, %d bytes", left, s.uploads.bytes)
	}
}

// What arrived of a body that was cut off stays, so that the client can go on.
func TestACutOffChunkGoesOn(t *testing.T) {
	s := open(t, t.TempDir())
	u, err := s.StartUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	cut := io.MultiReader(strings.NewReader("012"), failingReader{})
	if err := s.Write(u, Chunk{Body: cut, First: 0, Length: 10}); !errors.As(err, new(readError)) || u.Size() != 3 {
		t.Fatalf("%v, %d", err, u.Size())
	}
	if err := s.Write(u, Chunk{Body: strings.NewReader("34"), First: 3, Length: 5}); !errors.As(err, new(readError)) || u.Size() != 5 {
		t.Fatalf("%v, %d", err, u.Size())
	}
	if err := s.Write(u, Chunk{Body: strings.NewReader("567"), First: 5, Length: 2}); answerTo(cutOff(err, "X")).Status != 400 || u.Size() != 7 {
		t.Fatalf("%v, %d", err, u.Size())
	}
	if err := s.Finish(u, Chunk{Body: strings.NewReader(""), First: -1, Length: 0}, digest.FromString("0123456")); err != nil {
		t.Error(err)
	}
}

// A client that says nothing for a minute within a chunk is told so, and may go on.
func TestASilentChunkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		u, err := s.StartUpload("a")
		if err != nil {
			t.Fatal(err)
		}
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		logger := log.New(t.Output(), "", 0)
		go func() { ended <- Serve(ctx, p, NewRegistry(s, nil, logger), logger) }()
		conn := p.dial(t)
		go io.WriteString(conn, "PATCH /v2/a/blobs/uploads/"+u.ID+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n012")
		began := time.Now()
		answered(t, conn, http.StatusRequestTimeout)
		if took := time.Since(began); took != silence || u.Size() != 3 {
			t.Errorf("ended after %s with %d bytes", took, u.Size())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Repositories of which one contains the other, and names that sort otherwise as paths.
func TestRepositoriesInRepositories(t *testing.T) {
	s := open(t, t.TempDir())
	addBlob(t, s, "config")
	want := []string{"a", "a-b", "a/b", "a/b/c", "tags/list", "x/blobs/uploads"}
	for _, name := range want {
		put(t, s, name, "v1", imageOf("config"))
	}
	if names, err := s.Repositories(); err != nil || !slices.Equal(names, want) {
		t.Errorf("%v %v", names, err)
	}
	if err := s.DeleteManifest("a/b", digest.FromBytes(imageOf("config")).String()); err != nil {
		t.Fatal(err)
	}
	if names, err := s.Repositories(); err != nil || slices.Contains(names, "a/b") || !slices.Contains(names, "a/b/c") {
		t.Errorf("%v %v", names, err)
	}
	if _, err := s.Tags("a/b"); code(err) != "404 NAME_UNKNOWN" {
		t.Error(err)
	}
}

// Referrers that do not fit a page come in several.
func TestReferrersByPages(t *testing.T) {
	s := open(t, t.TempDir())
	addBlob(t, s, "config")
	subject := digest.FromString("subject")
	long := strings.Repeat("x", maxManifest/3)
	for i := range 4 {
		put(t, s, "a", fmt.Sprint("v", i), fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":6},"layers":[],"subject":{"digest":%q,"size":7},"annotations":{"n":"%d%s"}}`,
			ocispec.MediaTypeImageManifest, digest.FromString("config"), subject, i, long))
	}
	h := NewRegistry(s, nil, log.New(io.Discard, "", 0))
	seen := map[digest.Digest]bool{}
	next, pages := "/v2/a/referrers/"+subject.String()+"?artifactType=a/b", 0
	for ; next != "" && pages < 5; pages++ {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost"+next, nil))
		var index ocispec.Index
		if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil || w.Body.Len() > maxManifest {
			t.Fatalf("%d bytes, %v", w.Body.Len(), err)
		}
		for _, d := range index.Manifests {
			seen[d.Digest] = true
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<http://localhost"), ">")
		next = strings.TrimPrefix(next, "<")
	}
	if len(seen) != 4 || pages != 2 {
		t.Errorf("%d referrers on %d pages", len(seen), pages)
	}
}

// A tag and its file name each other, also where a file system ignores case.
func FuzzTagFiles(f *testing.F) {
	for _, tag := range []string{"v1", "V1", "v1.", "CON", "con", "con.txt", "latest", "_", "A.", strings.Repeat("A", 128)} {
		f.Add(tag)
	}
	files := map[string]string{}
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, tag string) {
		if got, ok := fileToTag(tag); ok && tagToFile(got) != tag {
			t.Errorf("the file %q is of %q, whose file is %q", tag, got, tagToFile(got))
		}
		if !tagName.MatchString(tag) {
			return
		}
		file := tagToFile(tag)
		if got, ok := fileToTag(file); !ok || got != tag || len(file) > 255 || strings.ToLower(file) != file || strings.HasSuffix(file, ".") {
			t.Errorf("%q is in %q, which is of %q", tag, file, got)
		}
		mu.Lock()
		defer mu.Unlock()
		if other, there := files[file]; there && other != tag {
			t.Errorf("%q and %q are in %q", tag, other, file)
		}
		files[file] = tag
	})
}

// FuzzRequests: no request panics, and none has a path of the machine in its answer.
func FuzzRequests(f *testing.F) {
	for _, seed := range [][4]string{
		{"GET", "/v2/a/tags/list?n=-1&last=x", "", ""},
		{"GET", "/v2/_catalog?n=1", "", ""},
		{"GET", "/v2/a/blobs/" + digest.FromString("config").String(), "bytes=1-", ""},
		{"PATCH", "/v2/a/blobs/uploads/x", "0-1", "ab"},
		{"PUT", "/v2/a/manifests/v1", "", `{"schemaVersion":2,"manifests":[]}`},
		{"PUT", "/v2/a/manifests/v1", "", `{"mediaType":{}}`},
		{"POST", "/v2/a/blobs/uploads/?mount=&from=", "", ""},
		{"DELETE", "/v2//manifests/", "", ""},
		{"HEAD", "/v2/a/referrers/sha256:", "", ""},
		{"GET", "/v2/../../etc/passwd", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	dir := f.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	var told bytes.Buffer
	h := NewRegistry(s, nil, log.New(&told, "", 0))
	f.Fuzz(func(t *testing.T, method, target, ranged, content string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader(content))
		if err != nil {
			return
		}
		r.Host = "localhost"
		r.Header.Set("Range", ranged)
		r.Header.Set("Content-Range", ranged)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 || strings.Contains(w.Body.String(), dir) {
			t.Errorf("%d %s %s", w.Code, w.Body, told.String())
		}
		told.Reset()
	})
}
