package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// recordsDir is where older versions of mabuild kept manifests: one JSON record for each
// reference, in a file named by a hash. Blobs have kept their format.
const recordsDir = "manifests"

// maxRecord bounds the size of a record in bytes: a manifest in base64 with its names.
const maxRecord = 8 << 20

// migrate moves the manifests in recordsDir to the store's format. A manifest is accepted
// only if its parts exist, so children must come before their index. The names do not
// tell the order: migrate repeats the pass until one moves nothing. A record is removed
// after its manifest is stored, so that migrate can be interrupted at any time and
// repeated. A record that cannot be moved stays and gets a line in the log.
func (s *Store) migrate() error {
	blobs, err := s.list(blobsDir)
	if err != nil {
		return err
	}
	for _, name := range blobs {
		if strings.HasPrefix(name, "upload-") { // an unfinished blob
			if err := s.remove(path.Join(blobsDir, name)); err != nil {
				return err
			}
		}
	}
	waiting, err := s.list(recordsDir)
	if err != nil {
		return err
	}
	slices.Sort(waiting)
	causes := map[string]error{}
	// Each pass moves at least one record or is the last.
	for before := -1; len(waiting) != before; {
		before = len(waiting)
		left := waiting[:0]
		for _, name := range waiting {
			file := path.Join(recordsDir, name)
			if strings.HasSuffix(name, ".new") { // an unfinished record
				causes[name] = nil
			} else {
				causes[name] = s.takeOver(file)
			}
			if causes[name] == nil {
				causes[name] = s.remove(file)
			}
			if causes[name] != nil {
				left = append(left, name)
			}
		}
		waiting = left
	}
	for _, name := range waiting {
		s.log.Printf("%s: %s", s.root.Name()+"/"+path.Join(recordsDir, name), causes[name])
	}
	_ = s.root.Remove(recordsDir) // fails if a record is left
	return nil
}

// takeOver stores the manifest of one record. The error says what a log line needs; it is
// nil if the record can be removed.
func (s *Store) takeOver(file string) error {
	raw, err := s.read(file, maxRecord)
	if err != nil {
		return err
	}
	// A record is a manifest under one reference, a tag or a digest.
	var r struct {
		Repository string `json:"repository"`
		Reference  string `json:"reference"`
		MediaType  string `json:"mediaType"`
		Body       []byte `json:"body"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("is not a record: %w", err)
	}
	err = s.restore(r.Repository, r.Reference, r.MediaType, r.Body)
	var e *Error
	if errors.As(err, &e) {
		return fmt.Errorf("%s of %s is on disk but is not served: %d %w", r.Reference, r.Repository, e.Status, e)
	}
	return err
}

// restore checks the manifest of a record as [Store.PutManifest] checks a request, and
// stores it. A tag that the store already has is newer than the record and stays.
func (s *Store) restore(repository, reference, mediaType string, body []byte) error {
	if err := checkRepository(repository); err != nil {
		return err
	}
	d, err := parseReference(reference)
	if err != nil {
		return err
	}
	tag := ""
	if d == "" {
		d, tag = digest.FromBytes(body), reference
	} else if d != d.Algorithm().FromBytes(body) {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the manifest has another digest")
	}
	doc, err := parseDocument(body, mediaType)
	if err != nil {
		return err
	}
	if err := errors.Join(s.removeDamaged(doc), s.missing(repository, doc)); err != nil {
		return err
	}
	if err := s.writeManifest(repository, d, doc, body); err != nil || tag == "" {
		return err
	}
	if _, err := s.stat(tagFile(repository, tag)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.write(tagFile(repository, tag), []byte(d+"\n"))
}

// reportIncomplete writes a line to the log for each manifest with a missing part and for
// each tag without its manifest. It also removes damaged blobs, see removeDamaged. It is
// not an error of the store: content may have been deleted through the API.
func (s *Store) reportIncomplete() error {
	repositories, err := s.Repositories()
	if err != nil {
		return err
	}
	for _, repository := range repositories {
		tags, err := s.Tags(repository)
		if err != nil {
			return err
		}
		// named has the tags of each manifest, for the text of its log line.
		named := map[digest.Digest][]string{}
		for _, tag := range tags {
			d, err := s.tagged(repository, tag)
			if err == nil {
				_, err = s.stat(manifestFile(repository, d))
			}
			if err != nil {
				s.log.Printf("%s of %s is on disk but is not served: %s", tag, repository, err)
			}
			named[d] = append(named[d], tag+" of ")
		}
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			files, err := s.list(path.Join(repositoriesDir, repository, manifestsDir, algorithm.String()))
			if err != nil {
				return err
			}
			for _, encoded := range files {
				d := digest.NewDigestFromEncoded(algorithm, encoded)
				if err := s.whole(repository, d); err != nil {
					s.log.Printf("%s%s is incomplete: %s of it: %s", strings.Join(named[d], ""), repository, d, err)
				}
			}
		}
	}
	return nil
}

// whole returns what is missing of a manifest on disk, or nil.
func (s *Store) whole(repository string, d digest.Digest) error {
	doc, err := s.document(manifestFile(repository, d))
	if err != nil {
		return err
	}
	if err := s.removeDamaged(doc); err != nil {
		return err
	}
	return s.missing(repository, doc)
}

// removeDamaged removes each blob of a manifest whose size differs from the descriptor's
// and whose digest differs from its name. Older versions did not sync blobs, so a crash
// could leave a shorter file. Without it a client can push the blob again. A blob of the
// right size is not read: that would read the whole store at each start.
func (s *Store) removeDamaged(doc *document) error {
	for _, p := range slices.Concat(doc.blobs, doc.children) {
		name := blobFile(p.Digest)
		if info, err := s.stat(name); err != nil || info.Size() == p.Size {
			continue
		}
		if got, err := s.sum(name, p.Digest.Algorithm()); err == nil && got != p.Digest {
			s.log.Printf("the blob %s is damaged and is removed", p.Digest)
			if err := s.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}
