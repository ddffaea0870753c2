package regtest

import (
	"hash/fnv"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seedKey is the variable with the seed of tests: a number, or "random" for one that is
// drawn once for all tests of a program.
const seedKey = "MABUILD_SEED"

var drawn = sync.OnceValue(func() int64 { return time.Now().UnixNano() % 1e9 })

// Seed returns the seed of the random decisions of t: 1, unless MABUILD_SEED has another.
// If t fails, it prints the command that repeats it, like [Repeat].
func Seed(t testing.TB, flags ...string) int64 {
	t.Helper()
	seed := int64(1)
	switch text := os.Getenv(seedKey); text {
	case "":
	case "random":
		seed = drawn()
	default:
		var err error
		if seed, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedKey, err)
		}
	}
	repeat(t, seed, flags)
	return seed
}

// Repeat makes t print the command that repeats it, if it fails. The flags are additional
// flags for go test.
func Repeat(t testing.TB, flags ...string) {
	t.Helper()
	Seed(t, flags...)
}

var repeated sync.Map // what was printed for a test, by its name

func repeat(t testing.TB, seed int64, flags []string) {
	t.Helper()
	name := t.Name()
	if _, said := repeated.LoadOrStore(name, true); said {
		return
	}
	t.Cleanup(func() {
		repeated.Delete(name)
		if t.Failed() {
			t.Logf("repeat: %s", Command(name, seed, flags...))
		}
	})
}

// Command returns the command, run in the module's root, that repeats the test of this name
// with a seed.
func Command(name string, seed int64, flags ...string) string {
	words := []string{seedKey + "=" + strconv.FormatInt(seed, 10)}
	for _, key := range []string{"MABUILD_FAULTS", "MABUILD_STEPS"} {
		if value := os.Getenv(key); value != "" {
			words = append(words, key+"="+value)
		}
	}
	words = append(append(words, "go", "test"), flags...)
	var pattern []string
	for _, part := range strings.Split(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	return strings.Join(append(words, packageDir(), "-run", "'"+strings.Join(pattern, "/")+"'"), " ")
}

// packageDir returns the directory of the package under test, relative to the module's
// root.
func packageDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for root := dir; root != filepath.Dir(root); root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			if rel, err := filepath.Rel(root, dir); err == nil {
				return "./" + filepath.ToSlash(rel)
			}
		}
	}
	return "."
}

// sources counts the sources of chance of a test, by its name.
var sources sync.Map // of *atomic.Int64

// Source returns a new random source. A test gets the same sources in the same order in
// each run with the same [Seed].
func Source(t testing.TB) rand.Source {
	t.Helper()
	seed, name := Seed(t), t.Name()
	value, before := sources.LoadOrStore(name, new(atomic.Int64))
	if !before {
		t.Cleanup(func() { sources.Delete(name) })
	}
	n := value.(*atomic.Int64).Add(1)
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.NewSource(seed ^ int64(h.Sum64()) + n)
}
