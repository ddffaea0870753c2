package unchanged

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/gocommand"
)

// kind is the kind of the records in the cache.
const kind = "memory"

// A Store has the records of all packages. The fields must not change after the first
// call. It is safe for concurrent use.
type Store struct {
	Cache *cache.Cache // nil: nothing is remembered
	Go    *crosscompile.Go
	Skip  []string // files and directories that are not listed, such as the cache's own

	listings sync.Map   // of batchedListing, by scope
	joining  sync.Mutex // held while a record is joined with the stored one
}

// A Program identifies a program by its content.
type Program struct {
	Content string `json:"content"` // sha256 in hexadecimal digits
	Size    int64  `json:"size"`    // in bytes
	// Source is the key of the sources that the program is proved to be compiled from; "": it is
	// not proved. It is [Unforeseen] if there is no proof.
	Source string `json:"source,omitempty"`
	// Shared says that other machines fill the cache with which the go command compiled it.
	Shared bool `json:"shared,omitempty"`
}

// Unforeseen is the Source of a program that the go command compiles from other files than
// [Sources] has.
const Unforeseen = "unforeseen"

// same reports whether p and other have the same content.
func (p Program) same(other Program) bool { return p.Content == other.Content && p.Size == other.Size }

// A Record is the record of one package during a build, from before the package is looked
// for to the end of the build. The zero Record knows nothing and records nothing. It is
// safe for concurrent use: platforms that are compiled at the same time add to it.
type Record struct {
	store *Store
	key   string // in the cache; "": no record can be used or stored

	mu         sync.Mutex // held before Store.joining
	before     string     // digest of the listing before the build; "": none that can be relied on
	dirChanged time.Time  // as in that listing
	stored     storedRecord
	fresh      bool // stored is valid for the sources as they are
	news       bool // stored has something that is not in the cache

	// contradicted is set if a program differs from the recorded one. Then the listing
	// misses an input, or the sources changed during the build, and the whole record is
	// removed.
	contradicted bool
}

// A storedRecord says what a package was compiled to from the sources that have the digest
// Listing.
type storedRecord struct {
	Main     crosscompile.Package  `json:"main"`
	Scope    scope                 `json:"scope"`
	Listing  string                `json:"listing"`
	Programs map[string]Program    `json:"programs"` // by the caller's key
	Aimed    map[string]bool       `json:"aimed"`    // further platforms that Go supports, by key
	Settings crosscompile.Settings `json:"settings"` // in the directory of the package
}

// Recall loads the record of the package pkg, as it was written, in dir, and compares it
// with a new listing of the sources. format is increased if the caller compiles in another
// way than before. A listing that is not settled proves nothing, so the record is not used
// then.
func (s *Store) Recall(format int, dir, pkg string, asMain bool) *Record {
	key, err := s.recordKey(format, dir, pkg, asMain)
	if err != nil {
		return &Record{}
	}
	r := &Record{store: s, key: key}
	if !s.Cache.Load(kind, key, &r.stored) {
		return r
	}
	start := time.Now()
	if now, err := s.list(r.stored.Scope); err == nil && now.settledBefore(start) && now.digest == r.stored.Listing {
		r.fresh, r.before, r.dirChanged = true, now.digest, now.moved
	}
	return r
}

// command returns the go command, of which only files are read.
func (s *Store) command() gocommand.Command {
	return gocommand.Command{Name: s.Go.Command, Environ: s.Go.Environ}
}

// Release returns the name of the release that the go command belongs to, such as go1.26.8, or
// "".
func (s *Store) Release() string {
	release, err := s.command().Release()
	if err != nil {
		return ""
	}
	return release.Version
}

// recordKey returns the key of a record: the go command with its settings, the directory,
// the package as it was written, and the file of this process. A new version of mabuild may
// call the go command in another way, so it uses no older record.
func (s *Store) recordKey(format int, dir, pkg string, asMain bool) (string, error) {
	if s.Cache == nil {
		return "", errUnlisted
	}
	// A version such as latest may be another one today, so the module proxy is asked.
	if _, version, ok := strings.Cut(pkg, "@"); ok && semver.Canonical(version) != version {
		return "", errUnlisted
	}
	fingerprint, err := s.command().Fingerprint()
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
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
	fmt.Fprintf(h, "%d %q %d %d %q %q %q %v", format, self, info.Size(), info.ModTime().UnixNano(), fingerprint, dir, pkg, asMain)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Main returns the recorded package, if the record is valid for the sources as they are.
func (r *Record) Main() (main crosscompile.Package, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fresh {
		return main, false
	}
	return r.stored.Main, true
}

// Expects reports whether the record has the package and programs with these keys, from the
// sources as they are or as they were when it was stored.
func (r *Record) Expects(main crosscompile.Package, programs []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range programs {
		if _, ok := r.stored.Programs[key]; !ok {
			return false
		}
	}
	return r.key != "" && r.stored.Main == main
}

// Settings returns the settings of the go command that compiled the recorded programs; nil: they
// are not known. The go command and what it reads from the environment are the same now. A
// go.mod or go.work may have changed them, so they are only expected.
func (r *Record) Settings() crosscompile.Settings {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored.Settings
}

// Begin lists the sources of a package before anything is compiled, and starts a new record
// with this listing, unless the record is valid. The package was looked for since start. A
// file that changed later than that may have been read by the go command in its older
// version, so such a listing is not used.
func (r *Record) Begin(main crosscompile.Package, start time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key == "" || r.fresh {
		return
	}
	// Finding module/path@version may have written its files just now. They never change
	// afterwards, so the time counts from here.
	if main.Version != "" {
		start = time.Now()
	}
	sc, err := scopeOf(r.store.Go, main.Dir)
	if err != nil {
		return
	}
	if now, err := r.store.list(sc); err == nil && now.settledBefore(start) {
		r.before, r.dirChanged = now.digest, now.moved
		r.stored = storedRecord{Main: main, Scope: sc, Listing: now.digest, Programs: map[string]Program{}}
	}
}

// Program returns the recorded program with this key, if the record is valid and has it.
func (r *Record) Program(key string) (Program, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fresh {
		return Program{}, false
	}
	p, ok := r.stored.Programs[key]
	return p, ok
}

// Add adds a program that was compiled. The caller does not add one that depends on files
// outside of the sources. What was proved of the same program stays.
func (r *Record) Add(key string, is Program) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" {
		return
	}
	if was, known := r.stored.Programs[key]; known && was.same(is) {
		is.Source, is.Shared = was.Source, was.Shared && is.Shared
	} else if known {
		r.contradicted, r.fresh = true, false
	}
	r.stored.Programs[key], r.news = is, true
}

// Prove adds to a program the key of the sources that it is proved to be compiled from.
func (r *Record) Prove(key, source string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is, known := r.stored.Programs[key]; known && r.before != "" {
		is.Source = source
		r.stored.Programs[key], r.news = is, true
	}
}

// Holds reports whether the record is valid, and the sources are still those that were listed.
func (r *Record) Holds() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh && r.still()
}

// still reports whether the sources are those that were listed. r.mu is held.
func (r *Record) still() bool {
	now, err := r.store.list(r.stored.Scope)
	return err == nil && now.digest == r.before && now.moved.Equal(r.dirChanged)
}

// Supports reports whether the record says that Go supports a platform that is not built.
func (r *Record) Supports(platform string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored.Aimed[platform]
}

// AddSupport records that Go supports a platform that is not built.
func (r *Record) AddSupport(platform string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == "" || r.stored.Aimed[platform] {
		return
	}
	r.stored.aim(platform)
	r.news = true
}

// Store stores the record if it has something new and the sources are still those that were
// listed before the compiler read them. A record that was contradicted is removed from the
// cache instead. A failure only means that the next build compiles again.
func (r *Record) Store() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.news {
		return
	}
	if r.contradicted {
		_ = r.store.Cache.Forget(kind, r.key)
		return
	}
	if !r.still() {
		return
	}
	// Builds of other settings of the same package merge their programs one after another.
	r.store.joining.Lock()
	defer r.store.joining.Unlock()
	r.join()
	if asked := r.store.Go.Asked(r.stored.Main.Dir); asked != nil {
		r.stored.Settings = asked
	}
	if r.store.Cache.Store(kind, r.key, r.stored) == nil {
		r.news = false
	}
}

// join adds what other builds have stored for the same sources, such as the same package
// with other flags. r.mu and Store.joining are held. Two processes may still overwrite each
// other's record, which costs a compilation and no wrong result.
func (r *Record) join() {
	var now storedRecord
	if !r.store.Cache.Load(kind, r.key, &now) || now.Listing != r.stored.Listing || now.Main != r.stored.Main {
		return
	}
	for key, program := range now.Programs {
		if _, ok := r.stored.Programs[key]; !ok {
			r.stored.Programs[key] = program
		}
	}
	for key := range now.Aimed {
		r.stored.aim(key)
	}
}

// aim records that Go supports the platform with this key.
func (m *storedRecord) aim(key string) {
	if m.Aimed == nil {
		m.Aimed = map[string]bool{}
	}
	m.Aimed[key] = true
}
