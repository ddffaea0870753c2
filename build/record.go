package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/semver"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A storedRecord is what a package was compiled to while its sources were as Listing
// has them. While they still are, the compiler would only say the same again.
//
// It is believed only when everything that could make a difference is proved to
// be equal, and kept only when the sources were the same before and after the
// compiler ran. Whatever is in doubt is left to the go command.
type storedRecord struct {
	Main     crosscompile.Package `json:"main"`
	Scope    scope                `json:"scope"`
	Listing  string               `json:"listing"`
	Programs map[string]compiled  `json:"programs"` // by platform and flags
	Aimed    map[string]bool      `json:"aimed"`    // platforms that something is said for, which Go builds for
}

// compiled identifies a program.
type compiled struct {
	Content string `json:"content"` // its sha256
	Size    int64  `json:"size"`
}

// A buildRecord is the memory of one package, from Resolve to the end of Build.
type buildRecord struct {
	key        string    // "": nothing can be remembered
	before     string    // the listing at Resolve, "" when it says nothing
	dirChanged time.Time // of that listing

	mu     sync.Mutex
	record storedRecord
	fresh  bool // memory still holds
	news   bool // memory has programs that the cache has not

	// contradicted says that a program came out otherwise than remembered: the
	// listing does not tell all that it is made of, or the sources have changed.
	contradicted bool
}

// recall returns what is remembered of s's package, and whether it holds as the
// sources are now.
func (b *Builder) recall(s Spec) *buildRecord {
	key, err := b.recordKey(s)
	if err != nil {
		return &buildRecord{}
	}
	r := &buildRecord{key: key}
	if !b.cache.Load("memory", key, &r.record) {
		return r
	}
	start := time.Now()
	if now, err := b.listings.list(r.record.Scope); err == nil && now.settledBefore(start) && now.digest == r.record.Listing {
		r.fresh, r.before, r.dirChanged = true, now.digest, now.moved
	}
	return r
}

// recordKey identifies the question that the go command would be asked: by whom,
// where, and with which settings.
func (b *Builder) recordKey(s Spec) (string, error) {
	if b.cache == nil {
		return "", errUnlisted
	}
	if _, version, ok := strings.Cut(s.Package, "@"); ok && semver.Canonical(version) != version {
		return "", errUnlisted // the module proxy is to be asked what it is today
	}
	fingerprint, err := b.goc.Fingerprint()
	if err != nil {
		return "", err
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %d %q %q %q %v", formatVersion, self, info.Size(), info.ModTime().UnixNano(), fingerprint, dir, s.Package, s.AsMain)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// begin lists the sources of a package before anything is compiled. It was found
// since start: what changed after that may have changed under the eyes of those who
// looked for it.
func (b *Builder) begin(r *buildRecord, main crosscompile.Package, start time.Time) {
	if r.key == "" || r.fresh {
		return
	}
	if main.Version != "" { // which its finding may just have laid there, for good
		start = time.Now()
	}
	sc, err := scopeOf(b.goc, main.Dir)
	if err != nil {
		return
	}
	if now, err := b.listings.list(sc); err == nil && now.settledBefore(start) {
		r.before, r.dirChanged = now.digest, now.moved
		r.record = storedRecord{Main: main, Scope: sc, Listing: now.digest, Programs: map[string]compiled{}}
	}
}

// program returns the program for p, if it is remembered.
func (r *buildRecord) program(p ocispec.Platform, how Compile) (compiled, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fresh {
		return compiled{}, false
	}
	c, ok := r.record.Programs[programKey(p, how)]
	return c, ok
}

// covers reports whether nothing of s needs the go command: its package and all
// of its programs are remembered.
func (r *buildRecord) covers(s Spec) bool {
	if !r.fresh || s.All {
		return false
	}
	if r.record.Main.Version != "" {
		s.Vars.Version = r.record.Main.Version
	}
	for _, p := range s.Platforms {
		how, err := s.compile(p).expand(s.Vars)
		if err != nil {
			return false
		}
		if _, ok := r.program(p, how); !ok {
			return false
		}
	}
	return true
}

// add adds a program that was compiled.
func (r *buildRecord) add(p ocispec.Platform, how Compile, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" || how.Cgo || how.profiled() { // a C compiler reads what nobody lists
		return
	}
	key, is := programKey(p, how), compiled{Content: e.content, Size: e.size}
	if was, known := r.record.Programs[key]; known && was != is {
		r.contradicted, r.fresh = true, false
	}
	r.record.Programs[key], r.news = is, true
}

// storeRecord stores the memory, if the sources are still what they were before the
// compiler read them.
func (b *Builder) storeRecord(r *buildRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.news {
		return
	}
	if r.contradicted { // nothing of it is to be believed
		_ = b.cache.Forget("memory", r.key)
		return
	}
	// A file that came and went meanwhile may have been compiled.
	if now, err := b.listings.list(r.record.Scope); err != nil || now.digest != r.before || !now.moved.Equal(r.dirChanged) {
		return
	}
	b.keeping.Lock()
	defer b.keeping.Unlock()
	r.join(b)
	if b.cache.Store("memory", r.key, r.record) == nil {
		r.news = false
	}
}

// join takes over what others remember of the same sources: the same package with
// other flags. r.mu is held.
func (r *buildRecord) join(b *Builder) {
	var now storedRecord
	if !b.cache.Load("memory", r.key, &now) || now.Listing != r.record.Listing || now.Main != r.record.Main {
		return
	}
	for key, program := range now.Programs {
		if _, ok := r.record.Programs[key]; !ok {
			r.record.Programs[key] = program
		}
	}
	for key := range now.Aimed {
		r.record.aim(key)
	}
}

// aimed reports whether Go is known to build for p.
func (r *buildRecord) aimed(p ocispec.Platform) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.Aimed[platform.Key(p)]
}

// aim notes that Go builds for p.
func (r *buildRecord) aim(p ocispec.Platform) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" || r.record.Aimed[platform.Key(p)] {
		return
	}
	r.record.aim(platform.Key(p))
	r.news = true
}

// aim notes that Go builds for a platform of which something is said.
func (m *storedRecord) aim(key string) {
	if m.Aimed == nil {
		m.Aimed = map[string]bool{}
	}
	m.Aimed[key] = true
}

// programKey identifies what the compiler is told beside the sources.
func programKey(p ocispec.Platform, how Compile) string {
	b, err := json.Marshal([]any{platform.Key(target(p)), how})
	if err != nil { // strings and booleans
		panic(err)
	}
	return string(b)
}
