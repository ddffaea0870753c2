package regtest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Verify checks with the judge itself, without faults, whether repo:tag is complete, and
// returns its digest, or the zero hash if it does not exist. Complete means that everything
// below the tag exists with the size, digest and media type of its descriptor, and that
// repo has no other tag than lists of referrers, which are complete and whose subjects exist.
func (r *Registry) Verify(repo, tag string) (v1.Hash, error) {
	tags, err := r.tags(repo)
	if err != nil {
		return v1.Hash{}, err
	}
	for _, list := range tags {
		if !isList(list) {
			continue
		}
		if _, _, err := r.ask(repo + "/manifests/" + strings.Replace(list, "-", ":", 1)); err != nil {
			return v1.Hash{}, fmt.Errorf("the subject of %s:%s: %w", repo, list, err)
		}
		if _, err := r.tag(repo, list); err != nil {
			return v1.Hash{}, err
		}
	}
	if tags = slices.DeleteFunc(tags, isList); len(tags) == 0 {
		return v1.Hash{}, nil
	}
	if !slices.Equal(tags, []string{tag}) {
		return v1.Hash{}, fmt.Errorf("%s has stray tags: %v", repo, tags)
	}
	return r.tag(repo, tag)
}

// isList reports whether a tag is that of a list of referrers (distribution-spec, "Referrers
// Tag Schema"), for the digests of the judge.
func isList(tag string) bool {
	return strings.HasPrefix(tag, "sha256-") && len(tag) == len("sha256-")+sha256.Size*2
}

// VerifyTags is [Registry.Verify] for a repository with many tags. It adds their digests to
// known and skips tags that are in it.
func (r *Registry) VerifyTags(repo string, known map[string]v1.Hash) error {
	tags, err := r.tags(repo)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if _, ok := known[tag]; ok {
			continue
		}
		if known[tag], err = r.tag(repo, tag); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	return nil
}

// tags returns the tags of repo, or none if the repository does not exist.
func (r *Registry) tags(repo string) ([]string, error) {
	raw, _, err := r.ask(repo + "/tags/list")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	var list struct{ Tags []string }
	err = json.Unmarshal(raw, &list)
	return list.Tags, err
}

// tag returns the digest of repo:tag, which must be complete.
func (r *Registry) tag(repo, tag string) (v1.Hash, error) {
	raw, sent, err := r.ask(repo + "/manifests/" + tag)
	if err != nil {
		return v1.Hash{}, err
	}
	is := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(raw))}
	return is, r.whole(repo, raw, sent)
}

// whole checks everything below a manifest.
func (r *Registry) whole(repo string, raw []byte, sent string) error {
	var m struct {
		MediaType string
		Manifests []v1.Descriptor
		Config    *v1.Descriptor
		Layers    []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if m.MediaType != "" && m.MediaType != sent {
		return fmt.Errorf("%s: a manifest that says %s is sent as %s", repo, m.MediaType, sent)
	}
	seen := map[string]bool{}
	for _, d := range m.Manifests {
		below, sent, err := r.claimed(repo+"/manifests/", d)
		if err == nil && string(d.MediaType) != sent {
			err = fmt.Errorf("%s@%s: %s against %s", repo, d.Digest, d.MediaType, sent)
		}
		if err == nil {
			err = r.whole(repo, below, sent)
		}
		if err != nil {
			return err
		}
		if key := fmt.Sprint(d.Platform); d.Platform != nil && key != "unknown/unknown" && seen[key] {
			return fmt.Errorf("%s has %s twice", repo, key)
		} else {
			seen[key] = true
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, d := range blobs {
		if _, _, err := r.claimed(repo+"/blobs/", d); err != nil {
			return err
		}
	}
	return nil
}

// claimed reads the content of d and compares it with d.
func (r *Registry) claimed(place string, d v1.Descriptor) ([]byte, string, error) {
	raw, sent, err := r.ask(place + d.Digest.String())
	if err != nil {
		return nil, "", err
	}
	if is := fmt.Sprintf("sha256:%x", sha256.Sum256(raw)); is != d.Digest.String() || int64(len(raw)) != d.Size {
		return nil, "", fmt.Errorf("%s%s: %d bytes of %s for %d", place, d.Digest, len(raw), is, d.Size)
	}
	return raw, sent, nil
}

// ask reads from the judge. The error for a 404 wraps os.ErrNotExist.
func (r *Registry) ask(path string) ([]byte, string, error) {
	req, err := http.NewRequest(http.MethodGet, r.judge.String()+"/v2/"+path, nil)
	if err != nil {
		return nil, "", err
	}
	for _, kind := range []string{"oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2", "docker.distribution.manifest.v2"} {
		req.Header.Add("Accept", "application/vnd."+kind+"+json")
	}
	resp, err := r.toJudge.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, "", err
	case resp.StatusCode == http.StatusNotFound:
		return nil, "", fmt.Errorf("%s: %w", path, os.ErrNotExist)
	case resp.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("%s: %s", path, resp.Status)
	}
	sent, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return raw, sent, err
}

// Sessions returns the upload sessions in repo that are still open. The registry must have
// a Dir.
func (r *Registry) Sessions(repo string) ([]string, error) {
	if r.options.Dir == "" {
		return nil, errors.New("regtest: only a registry on disk knows its sessions")
	}
	// A closed session may leave an empty directory, or one of hashes.
	return filepath.Glob(filepath.Join(r.options.Dir, "docker/registry/v2/repositories", filepath.FromSlash(repo), "_uploads/*/startedat"))
}

// Delete removes what the judge has at path below /v2/, as another client could.
func (r *Registry) Delete(path string) error {
	req, err := http.NewRequest(http.MethodDelete, r.judge.String()+"/v2/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := r.toJudge.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}
