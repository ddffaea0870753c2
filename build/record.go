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

// A storedRecord says what a package was compiled to from the sources that have the
// digest Listing. While the sources are the same, the go command would make the same
// programs.
//
// A record is used only if all inputs are proved to be equal, and it is stored only if
// the sources were the same before and after the compiler ran. In all other cases the go
// command decides. What makes a record valid is split in three: its key has the go
// command, its settings and this program; Listing has the source files; the keys of
// Programs have the platform and the flags.
type storedRecord struct {
	Main     crosscompile.Package `json:"main"`
	Scope    scope                `json:"scope"`
	Listing  string               `json:"listing"`
	Programs map[string]compiled  `json:"programs"` // by programKey
	Aimed    map[string]bool      `json:"aimed"`    // other platforms with settings that Go supports
}

// A compiled identifies a program by its content.
type compiled struct {
	Content string `json:"content"` // sha256 in hexadecimal digits
	Size    int64  `json:"size"`
}

// A buildRecord is the record of one package during a build, from Resolve to the end of
// Build. Platforms that are compiled at the same time add to it.
type buildRecord struct {
	key        string    // of the record in the cache; "": no record can be used or stored
	before     string    // digest of the listing at Resolve; "": no listing that can be relied on
	dirChanged time.Time // as in that listing

	// mu guards the fields below. It is held before Builder.keeping.
	mu     sync.Mutex
	record storedRecord
	fresh  bool // record is valid for the sources as they are
	news   bool // record has something that is not in the cache

	// contradicted is set if a program differs from the recorded one. Then the listing
	// misses an input, or the sources changed during the build, and the whole record is
	// removed.
	contradicted bool
}

// recall loads the record of s's package, and compares it with a new listing of the
// sources. A listing that is not settled proves nothing, so the record is not used then.
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
	// The listing of all files is compared by one digest. It must not have changed
	// shortly before it was made.
	if now, err := b.list(r.record.Scope); err == nil && now.settledBefore(start) && now.digest == r.record.Listing {
		r.fresh, r.before, r.dirChanged = true, now.digest, now.moved
	}
	return r
}

// recordKey returns the key of a record: the go command with its settings, the directory,
// the package as it was written, and the file of this process. A new version of mabuild
// may call the go command in another way, so it uses no older record.
func (b *Builder) recordKey(s Spec) (string, error) {
	if b.cache == nil {
		return "", errUnlisted
	}
	// A version such as latest may be another one today, so the module proxy is asked.
	if _, version, ok := strings.Cut(s.Package, "@"); ok && semver.Canonical(version) != version {
		return "", errUnlisted
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

// begin lists the sources of a package before anything is compiled, and starts a new
// record with this listing. The package was searched for since start. A file that changed
// later than that may have been read by the go command in its older version, so such a
// listing is not used.
func (b *Builder) begin(r *buildRecord, main crosscompile.Package, start time.Time) {
	if r.key == "" || r.fresh {
		return
	}
	// Finding module/path@version may have written its files just now. They never change
	// afterwards, so the time counts from here.
	if main.Version != "" {
		start = time.Now()
	}
	sc, err := scopeOf(b.goc, main.Dir)
	if err != nil {
		return
	}
	if now, err := b.list(sc); err == nil && now.settledBefore(start) {
		r.before, r.dirChanged = now.digest, now.moved
		r.record = storedRecord{Main: main, Scope: sc, Listing: now.digest, Programs: map[string]compiled{}}
	}
}

// program returns the recorded program for p, if the record is valid and has it.
func (r *buildRecord) program(p ocispec.Platform, how Compile) (compiled, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fresh {
		return compiled{}, false
	}
	c, ok := r.record.Programs[programKey(p, how)]
	return c, ok
}

// covers reports whether s can be built without the go command: the record is valid and
// has the programs of all platforms. With All the platforms are not known yet.
func (r *buildRecord) covers(s Spec) bool {
	if !r.fresh || s.All {
		return false
	}
	// The linker flags may use the version of the module.
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

// add adds a program that was compiled. Programs with cgo or with a named profile are not
// recorded: they depend on files outside the listing.
func (r *buildRecord) add(p ocispec.Platform, how Compile, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" || how.Cgo || how.profiled() {
		return
	}
	key, is := programKey(p, how), compiled{Content: e.content, Size: e.size}
	if was, known := r.record.Programs[key]; known && was != is {
		r.contradicted, r.fresh = true, false
	}
	r.record.Programs[key], r.news = is, true
}

// storeRecord stores the record if it has something new and the sources are still those
// that were listed before the compiler read them. A record that was contradicted is
// removed from the cache instead. A failure only means that the next build compiles
// again.
func (b *Builder) storeRecord(r *buildRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.news {
		return
	}
	if r.contradicted {
		_ = b.cache.Forget("memory", r.key)
		return
	}
	// A file that was created and removed meanwhile may have been compiled. It is in
	// neither listing, but moved has changed.
	if now, err := b.list(r.record.Scope); err != nil || now.digest != r.before || !now.moved.Equal(r.dirChanged) {
		return
	}
	// Builds of other settings of the same package merge their programs one after
	// another.
	b.keeping.Lock()
	defer b.keeping.Unlock()
	r.join(b)
	if b.cache.Store("memory", r.key, r.record) == nil {
		r.news = false
	}
}

// join adds what other builds have stored for the same sources, such as the same package
// with other flags. r.mu and Builder.keeping are held. Two processes may still overwrite
// each other's record, which costs a compilation and no wrong result.
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

// aimed reports whether the record says that Go supports p.
func (r *buildRecord) aimed(p ocispec.Platform) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.Aimed[platform.Key(p)]
}

// aim records that Go supports p, a platform with settings that is not built.
func (r *buildRecord) aim(p ocispec.Platform) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" || r.record.Aimed[platform.Key(p)] {
		return
	}
	r.record.aim(platform.Key(p))
	r.news = true
}

// aim records that Go supports the platform with this key.
func (m *storedRecord) aim(key string) {
	if m.Aimed == nil {
		m.Aimed = map[string]bool{}
	}
	m.Aimed[key] = true
}

// programKey identifies a program among those of one package: its platform without the
// version of the operating system, and its compile settings with templates expanded.
func programKey(p ocispec.Platform, how Compile) string {
	b, err := json.Marshal([]any{platform.Key(target(p)), how})
	if err != nil { // cannot happen: there is nothing that JSON cannot hold
		panic(err)
	}
	return string(b)
}
