package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrInUse is returned by [Open] for a directory that another process serves.
var ErrInUse = errors.New("another process serves this directory")

// maxManifest bounds a manifest in bytes. The specification asks registries to accept at
// least this size ("Pushing Manifests").
const maxManifest = 4 << 20

// A Store is the content of a registry in a directory. Its methods are safe for
// concurrent use. One process at a time opens a directory.
//
//	blobs/ALGORITHM/HEX                                     the bytes of a blob, of all repositories
//	repositories/NAME/_manifests/ALGORITHM/HEX              a line with the media type, then the manifest
//	repositories/NAME/_tags/TAG                             the digest that the tag names
//	repositories/NAME/_referrers/ALGORITHM/HEX/ALGORITHM-HEX  the descriptor of a manifest whose subject is HEX
//	uploads/                                                unfinished files; removed on opening
//
// Files appear complete and synced, by a rename. The order of writes keeps the store
// valid after a crash: the descriptor among the referrers first, then the manifest, then
// the tag. A descriptor whose manifest does not exist is ignored. Reads take no lock,
// since each file is complete. The store reads only regular files below real directories
// and never follows a link.
//
// Repositories share blobs, and a blob is not removed with the manifests that name it.
// The store therefore does not hide a blob of one repository from users of another.
type Store struct {
	// root confines every access to the directory, also through links that are made
	// later.
	root *os.Root
	lock *flock.Flock
	log  *log.Logger

	// mu is held while manifests, tags and referrers change and while a blob is removed.
	mu sync.Mutex
	// uploads are the open uploads. They are not kept over a restart. Their mu is never
	// held while that of the store is taken.
	uploads struct {
		mu    sync.Mutex
		open  map[string]*Upload
		bytes int64 // on disk, of all open uploads

		most, mostBytes, mostOfOne int64 // the bounds
	}

	fault func(step string) error // a test's failure for a step of writing; nil otherwise
}

// Open opens the store in dir, which it creates if it is missing, for this process alone
// ([ErrInUse]). It converts what older versions wrote and logs what is incomplete. logger
// may be nil. The caller closes the store.
func Open(dir string, logger *log.Logger) (*Store, error) {
	if logger == nil {
		logger = log.New(io.Discard, "", 0)
	}
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() { // it may be a link
		return nil, fmt.Errorf("%s is not a directory; use the target of the link", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(root, logger)
	if err := s.lockDir(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newStore returns a store without open uploads. Its directory is not locked yet.
func newStore(root *os.Root, logger *log.Logger) *Store {
	s := &Store{root: root, log: logger}
	s.uploads.open = map[string]*Upload{}
	s.uploads.most, s.uploads.mostBytes, s.uploads.mostOfOne = maxUploads, maxUnfinished, maxUploadBytes
	return s
}

// lockDir locks the directory without waiting. The lock ends with the process.
func (s *Store) lockDir() error {
	const name = ".lock"
	if info, err := s.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", filepath.Join(s.root.Name(), name))
	}
	s.lock = flock.New(filepath.Join(s.root.Name(), name))
	held, err := s.lock.TryLock()
	if err == nil && !held {
		err = fmt.Errorf("%s: %w", s.root.Name(), ErrInUse)
	}
	return err
}

// prepare creates the directories, removes unfinished uploads, converts what older
// versions wrote and logs what is incomplete.
func (s *Store) prepare() error {
	if err := s.removeUploads(); err != nil {
		return err
	}
	for _, dir := range []string{blobsDir, repositoriesDir, uploadsDir} {
		if err := s.mkdir(dir); err != nil {
			return err
		}
	}
	if err := s.migrate(); err != nil {
		return err
	}
	return s.reportIncomplete()
}

// removeUploads removes the files of unfinished uploads. They are recognised by their
// names, because a user may have chosen a directory with other files.
func (s *Store) removeUploads() error {
	entries, err := fs.ReadDir(s.root.FS(), uploadsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		if e.Type().IsRegular() && isUpload(e.Name()) {
			errs = append(errs, err, s.root.Remove(uploadFile(e.Name())))
		}
	}
	return errors.Join(append(errs, err)...)
}

// Close ends all uploads and unlocks the directory. No other method may be called
// afterwards.
func (s *Store) Close() error {
	s.endUploads()
	err := s.root.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Repositories returns the sorted names of the repositories that have a manifest.
func (s *Store) Repositories() ([]string, error) {
	var names []string
	err := fs.WalkDir(s.root.FS(), repositoriesDir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another request removed it
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case d.Name() == manifestsDir:
			repository := strings.TrimPrefix(path.Dir(name), repositoriesDir+"/")
			if known, err := s.hasManifests(repository); err != nil || !known {
				return err
			}
			names = append(names, repository)
			return fs.SkipDir // no repository is below its manifests
		case strings.HasPrefix(d.Name(), "_"):
			return fs.SkipDir
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// hasManifests reports whether a repository has a manifest, which is what makes it exist.
func (s *Store) hasManifests(repository string) (bool, error) {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		files, err := s.list(path.Join(repositoriesDir, repository, manifestsDir, algorithm.String()))
		if err != nil || len(files) > 0 {
			return len(files) > 0, err
		}
	}
	return false, nil
}

// Tags returns the tags of a repository, sorted by their bytes. A repository without
// manifests is NAME_UNKNOWN.
func (s *Store) Tags(repository string) ([]string, error) {
	if err := checkRepository(repository); err != nil {
		return nil, err
	}
	if known, err := s.hasManifests(repository); err != nil || !known {
		return nil, errors.Join(err, absent(!known, nameUnknown(repository)))
	}
	files, err := s.list(path.Join(repositoriesDir, repository, tagsDir))
	tags := make([]string, 0, len(files))
	for _, file := range files {
		if tag, ok := fileToTag(file); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, err
}

// absent returns e if applies, else a nil error. A nil *Error in an error would not be
// nil.
func absent(applies bool, e *Error) error {
	if applies {
		return e
	}
	return nil
}

// A Manifest is a stored manifest. Body is read from the disk and is valid until Close.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Size      int64
	Body      io.ReadSeeker
	file      *os.File
}

// Close closes the file that Body reads.
func (m *Manifest) Close() error { return m.file.Close() }

// Manifest returns the manifest that a tag or digest names, or MANIFEST_UNKNOWN. The
// content is not compared with the digest; clients do that. The caller closes it.
func (s *Store) Manifest(repository, reference string) (*Manifest, error) {
	if err := checkRepository(repository); err != nil {
		return nil, err
	}
	d, err := parseReference(reference)
	if err == nil && d == "" {
		d, err = s.tagged(repository, reference)
	}
	if err != nil {
		return nil, err
	}
	m, err := s.openManifest(manifestFile(repository, d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, manifestUnknown(repository, reference)
	case err != nil:
		return nil, err
	}
	m.Digest = d
	return m, nil
}

// tagged returns the digest that a tag names.
func (s *Store) tagged(repository, tag string) (digest.Digest, error) {
	text, err := s.read(tagFile(repository, tag), 1<<10)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", manifestUnknown(repository, tag)
	case err != nil:
		return "", err
	}
	d := digest.Digest(strings.TrimSuffix(string(text), "\n"))
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("the file of tag %s of %s: %w", tag, repository, err)
	}
	return d, nil
}

// openManifest opens the file of a manifest and reads its first line, the media type.
// Body and Size do not include that line.
func (s *Store) openManifest(file string) (*Manifest, error) {
	f, size, err := s.open(file)
	if err != nil {
		return nil, err
	}
	line := make([]byte, maxMediaType+1)
	n, err := io.ReadFull(f, line)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	mediaType, _, found := bytes.Cut(line[:n], []byte("\n"))
	if !found {
		return nil, errors.Join(fmt.Errorf("%s does not begin with a media type", file), f.Close())
	}
	begin := int64(len(mediaType) + 1)
	body := io.NewSectionReader(f, begin, size-begin)
	return &Manifest{MediaType: string(mediaType), Size: size - begin, Body: body, file: f}, nil
}

// PutManifest stores the manifest in body and makes reference, a tag or the digest of
// body, name it. mediaType is the client's, or "". A manifest that is invalid or has a
// missing part is refused. On an error reference names what it named before. subject is
// "" for a manifest without one.
//
// The lock is held from the check of the parts to the last write, so that no part is
// deleted in between.
func (s *Store) PutManifest(repository, reference, mediaType string, body io.Reader) (d, subject digest.Digest, err error) {
	if err := checkRepository(repository); err != nil {
		return "", "", err
	}
	d, err = parseReference(reference)
	if err != nil {
		return "", "", err
	}
	// The body is received on disk and without the lock: many slow clients would use much
	// memory and keep each other waiting.
	temp, err := s.spool(body, maxManifest)
	if err != nil {
		return "", "", err
	}
	defer s.root.Remove(temp) //nolint:errcheck // removed again when the store is opened
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := s.read(temp, maxManifest)
	if err != nil {
		return "", "", err
	}
	tag := ""
	if d == "" {
		d, tag = digest.FromBytes(raw), reference
	} else if d != d.Algorithm().FromBytes(raw) {
		return "", "", refuse(http.StatusBadRequest, "DIGEST_INVALID", "the manifest's digest is %s", d.Algorithm().FromBytes(raw))
	}
	doc, err := parseDocument(raw, mediaType)
	if err != nil {
		return "", "", err
	}
	if err := s.missing(repository, doc); err != nil {
		return "", "", err
	}
	if err := s.writeManifest(repository, d, doc, raw); err != nil {
		return "", "", err
	}
	if tag != "" {
		err = s.write(tagFile(repository, tag), []byte(d+"\n"))
	}
	return d, doc.subject, err
}

// writeManifest writes a manifest, after its descriptor among the referrers of its
// subject: a manifest that exists is listed. The caller holds s.mu, except while the
// store is opened.
func (s *Store) writeManifest(repository string, d digest.Digest, doc *document, raw []byte) error {
	if doc.subject != "" {
		descriptor, err := json.Marshal(ocispec.Descriptor{
			MediaType: doc.mediaType, Digest: d, Size: int64(len(raw)),
			ArtifactType: doc.artifactType, Annotations: doc.annotations,
		})
		if err != nil {
			return err
		}
		if err := s.write(referrerFile(repository, doc.subject, d), descriptor); err != nil {
			return err
		}
	}
	return s.write(manifestFile(repository, d), append([]byte(doc.mediaType+"\n"), raw...))
}

// missing returns an error if a part of a manifest does not exist or has another size
// than its descriptor.
func (s *Store) missing(repository string, doc *document) error {
	check := func(d ocispec.Descriptor, size int64, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return refuse(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "%s is not in the repository", d.Digest)
		case err != nil:
			return err
		case size != d.Size:
			return manifestInvalid("the descriptor of %s has size %d, but the blob has %d bytes", d.Digest, d.Size, size)
		}
		return nil
	}
	for _, d := range doc.blobs {
		size, err := s.blobSize(d.Digest)
		if err := check(d, size, err); err != nil {
			return err
		}
	}
	for _, d := range doc.children {
		size, err := s.childSize(repository, d)
		if err := check(d, size, err); err != nil {
			return err
		}
	}
	return nil
}

// blobSize returns the size of a blob.
func (s *Store) blobSize(d digest.Digest) (int64, error) {
	info, err := s.stat(blobFile(d))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// childSize returns the size of a child of an index. A child whose media type is not that
// of a manifest may be a blob, as in the caches of BuildKit.
func (s *Store) childSize(repository string, d ocispec.Descriptor) (int64, error) {
	m, err := s.openManifest(manifestFile(repository, d.Digest))
	switch {
	case err == nil:
		return m.Size, m.Close()
	case errors.Is(err, fs.ErrNotExist) && !isManifest(d.MediaType):
		return s.blobSize(d.Digest)
	}
	return 0, err
}

// DeleteManifest deletes a tag, or a manifest with all tags that name it. Manifests that
// name it as a child or subject stay, and so do its blobs. The tags are removed first: a
// crash in between leaves a manifest without tags, not a tag without manifest.
func (s *Store) DeleteManifest(repository, reference string) error {
	if err := checkRepository(repository); err != nil {
		return err
	}
	d, err := parseReference(reference)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A tag is removed alone; a digest replaces the file below.
	file := tagFile(repository, reference)
	var subject digest.Digest
	if d != "" {
		file = manifestFile(repository, d)
		doc, err := s.document(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return manifestUnknown(repository, reference)
		case err == nil: // otherwise its descriptor stays and is ignored
			subject = doc.subject
		}
		if err := s.untag(repository, d); err != nil {
			return err
		}
	}
	switch err := s.remove(file); {
	case errors.Is(err, fs.ErrNotExist):
		return manifestUnknown(repository, reference)
	case err != nil:
		return err
	}
	if subject != "" {
		_ = s.remove(referrerFile(repository, subject, d)) // ignored without the manifest
		_ = s.root.Remove(referrerDir(repository, subject))
	}
	return s.prune(repository)
}

// document reads the manifest in a file. Its parts need not exist.
func (s *Store) document(file string) (*document, error) {
	m, err := s.openManifest(file)
	if err != nil {
		return nil, err
	}
	defer m.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(m.Body, maxManifest+1))
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(raw, m.MediaType)
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// untag removes the tags that name a manifest. The caller holds s.mu.
func (s *Store) untag(repository string, d digest.Digest) error {
	files, err := s.list(path.Join(repositoriesDir, repository, tagsDir))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := path.Join(repositoriesDir, repository, tagsDir, file)
		text, err := s.read(name, 1<<10)
		if err != nil {
			return err
		}
		if strings.TrimSuffix(string(text), "\n") == d.String() {
			if err := s.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// prune removes the directories of a repository without manifests, up to the first that
// another repository uses. The caller holds s.mu.
func (s *Store) prune(repository string) error {
	if known, err := s.hasManifests(repository); err != nil || known {
		return err
	}
	dir := path.Join(repositoriesDir, repository)
	for _, sub := range []string{tagsDir, referrersDir, manifestsDir} {
		if err := s.root.RemoveAll(path.Join(dir, sub)); err != nil {
			return err
		}
	}
	for ; dir != repositoriesDir; dir = path.Dir(dir) {
		if s.root.Remove(dir) != nil { // not empty: another repository is below it
			break
		}
	}
	return nil
}

// Referrers returns the descriptors of the manifests with a subject, sorted by digest,
// beginning after last. An empty artifactType returns all. more is true if the page is
// cut at the size of a manifest: a client reads the answer as an index and limits its
// size. A repository that does not exist has no referrers.
func (s *Store) Referrers(repository string, subject digest.Digest, artifactType, last string) (list []ocispec.Descriptor, more bool, err error) {
	if err := checkRepository(repository); err != nil {
		return nil, false, err
	}
	list = []ocispec.Descriptor{}
	dir := referrerDir(repository, subject)
	files, err := s.list(dir)
	if err != nil {
		return nil, false, err
	}
	slices.Sort(files)
	size := 0
	for _, file := range files {
		algorithm, encoded, _ := strings.Cut(file, "-")
		d, err := parseDigest(algorithm + ":" + encoded)
		if err != nil || file <= strings.Replace(last, ":", "-", 1) {
			continue
		}
		if _, err := s.stat(manifestFile(repository, d)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		raw, err := s.read(path.Join(dir, file), maxManifest)
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			continue
		}
		var descriptor ocispec.Descriptor
		if err := errors.Join(err, json.Unmarshal(raw, &descriptor)); err != nil {
			return nil, false, fmt.Errorf("%s: %w", path.Join(dir, file), err)
		}
		if artifactType != "" && descriptor.ArtifactType != artifactType {
			continue
		}
		// A page has at least one entry, so that the listing makes progress.
		if size += len(raw); size > maxManifest && len(list) > 0 {
			return list, true, nil
		}
		list = append(list, descriptor)
	}
	return list, false, nil
}

// Blob opens a blob, or returns BLOB_UNKNOWN. The caller closes it.
func (s *Store) Blob(d digest.Digest) (*os.File, error) {
	f, _, err := s.open(blobFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(http.StatusNotFound, "BLOB_UNKNOWN", "there is no blob %s", d)
	}
	return f, err
}

// HasBlob reports whether the store has a blob. It does not read it.
func (s *Store) HasBlob(d digest.Digest) (bool, error) {
	_, err := s.stat(blobFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// DeleteBlob deletes a blob for all repositories. Manifests that name it stay and are
// incomplete.
func (s *Store) DeleteBlob(d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.remove(blobFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "BLOB_UNKNOWN", "there is no blob %s", d)
	}
	return err
}
