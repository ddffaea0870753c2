package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/smoke"
	"github.com/mabuild/mabuild/manifest/platform"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

func TestMain(m *testing.M) {
	smoke.Child()
	testscript.Main(roomy{m}, map[string]func(){"mabuild": main, "deaf": deaf})
}

// roomy runs tests, and the programs that they start, with fewer garbage collections than
// Go's default. A push limits itself to 32 MiB, which this program exceeds at its start, more
// so under the race detector: half of the time of the tests was garbage collection. Tests
// that measure memory run mabuild without it.
//
// Under the race detector a program sleeps for a second before it ends, unless GORACE says
// otherwise. The scripts start a thousand.
type roomy struct{ *testing.M }

const memoryLimit, garbage, raceOptions = "GOMEMLIMIT", "GOGC", "GORACE"

func (r roomy) Run() int {
	debug.SetGCPercent(400)
	err := errors.Join(os.Setenv(memoryLimit, "off"), os.Setenv(garbage, "400"))
	if os.Getenv(raceOptions) == "" {
		err = errors.Join(err, os.Setenv(raceOptions, "atexit_sleep_ms=0"))
	}
	if err != nil {
		panic(err)
	}
	return r.M.Run()
}

// TestScripts runs testdata/script/*.txtar: the program as people run it,
// against Docker Distribution. The scripts of this test, of TestDocs and of TestAction wait
// for no others, so that no core idles while the longest script of one test ends.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, params(t, "../../testdata/script"))
}

// params says how to run the scripts of a directory: with a home of their own
// and Go's caches as they are.
func params(t *testing.T, dir string) testscript.Params {
	goEnv := func(key string) string {
		out, err := exec.CommandContext(t.Context(), "go", "env", key).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	settings := map[string]string{}
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE"} {
		settings[key] = goEnv(key)
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return testscript.Params{
		Dir:           dir,
		UpdateScripts: *update,
		// In CI nothing that is missing is a reason to skip a script.
		Condition: func(name string) (bool, error) {
			if name != "ci" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Getenv("CI") != "", nil
		},
		Setup: func(env *testscript.Env) error {
			for key, value := range settings {
				env.Setenv(key, value)
			}
			home := filepath.Join(env.WorkDir, ".home")
			env.Setenv("HOME", home)
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, ".tmp"))
			env.Setenv("MABUILD_CACHE_KEY", "of the scripts") // whose home is inside the source tree that they build
			env.Setenv("SOURCE", repository)
			env.Setenv("HOSTARCH", runtime.GOARCH)
			env.Setenv(memoryLimit, os.Getenv(memoryLimit))
			env.Setenv(garbage, os.Getenv(garbage))
			env.Setenv(raceOptions, os.Getenv(raceOptions))
			bin, _, _ := strings.Cut(env.Getenv("PATH"), string(os.PathListSeparator))
			env.Setenv("BIN", bin) // has mabuild and nothing else
			env.Values["registries"] = map[string]*regtest.Registry{}
			return os.MkdirAll(home, 0o755)
		},
		Cmds: withImages(map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"registry": startRegistry, "requests": countRequests, "fault": injectFault, "base": pushBase,
			"validate": validateRef, "absent": absent, "exit": exit, "setdigest": setDigest, "expand": expand, "forget": forget, "never": never, "await": await, "unseen": unseen, "stall": stall, "website": startWebsite, "setminisign": setMinisign, "login": setLogin, "asked": asked, "archive": writeArchive,
		}),
	}
}

func registries(ts *testscript.TestScript) map[string]*regtest.Registry {
	return ts.Value("registries").(map[string]*regtest.Registry)
}

// startRegistry: registry NAME [user=U:P] [bearer] [tls] starts one and sets
// $NAME to its host; with tls $NAME_CA is the file of its authority.
func startRegistry(ts *testscript.TestScript, _ bool, args []string) {
	var o regtest.Options
	for _, arg := range args[1:] {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "user":
			o.User, o.Password, _ = strings.Cut(value, ":")
		case "bearer":
			o.Bearer = true
		case "tls":
			o.TLS = true
		default:
			ts.Fatalf("registry: what is %s?", arg)
		}
	}
	r, err := regtest.New(o)
	ts.Check(err)
	ts.Defer(func() { ts.Check(r.Close()) })
	registries(ts)[args[0]] = r
	ts.Setenv(args[0], r.Host)
	if o.TLS {
		file, err := r.CA(ts.MkAbs("."))
		ts.Check(err)
		ts.Setenv(args[0]+"_CA", file)
	}
}

// countRequests: requests NAME [KIND=N…] requires exactly these requests since the last
// call, and resets the count.
func countRequests(ts *testscript.TestScript, _ bool, args []string) {
	r := registries(ts)[args[0]]
	got := r.Tally()
	want := map[string]int{}
	for _, arg := range args[1:] {
		kind, n, _ := strings.Cut(arg, "=")
		count, err := strconv.Atoi(n)
		ts.Check(err)
		want[kind] = count
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		ts.Fatalf("requests: %v, want %v", got, want)
	}
	r.Reset()
}

// never: never NAME KIND requires that there was no such request since then.
func never(ts *testscript.TestScript, _ bool, args []string) {
	if n := registries(ts)[args[0]].Tally()[args[1]]; n > 0 {
		ts.Fatalf("%s: %d times", args[1], n)
	}
}

// forget: forget NAME forgets faults and requests.
func forget(ts *testscript.TestScript, _ bool, args []string) { registries(ts)[args[0]].Reset() }

// stall: stall NAME METHOD PATH makes the registry not answer such requests.
func stall(ts *testscript.TestScript, _ bool, args []string) {
	registries(ts)[args[0]].Inject(regtest.Fault{Method: args[1], Path: args[2], Action: regtest.Stall, Times: -1})
}

// await: await NAME METHOD waits until the registry is asked in that way.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for range 1000 {
		for _, r := range registries(ts)[args[0]].Requests() {
			if r.Method == args[1] {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("no %s came", args[1])
}

// unseen: unseen NAME SECRET… requires that no file that a run wrote, below the working
// directory and inside layers, contains a secret or a token of the registry: unchanged, in
// base64 at any offset, in hexadecimal digits or URL-encoded. Files below .docker are
// Docker's.
func unseen(ts *testscript.TestScript, _ bool, args []string) {
	secrets := slices.Concat(args[1:], registries(ts)[args[0]].Tokens())
	if len(secrets) == len(args[1:]) {
		ts.Fatalf("%s issued no token", args[0])
	}
	forms := map[string]string{}
	for _, secret := range secrets {
		for _, form := range spellings(secret) {
			forms[form] = secret
		}
	}
	files := 0
	err := filepath.WalkDir(ts.MkAbs("."), func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".docker":
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if z, err := gzip.NewReader(bytes.NewReader(raw)); err == nil {
			inner, err := io.ReadAll(z)
			ts.Check(err)
			raw = append(raw, inner...)
		}
		for form, secret := range forms {
			if bytes.Contains(raw, []byte(form)) || strings.Contains(path, form) {
				ts.Fatalf("%s holds %s, as %s", path, secret, form)
			}
		}
		return nil
	})
	ts.Check(err)
	ts.Logf("%d files, %d secrets", files, len(secrets))
}

// spellings returns what a text looks like in what is written.
func spellings(text string) []string {
	all := []string{text, hex.EncodeToString([]byte(text)), url.QueryEscape(text), url.PathEscape(text)}
	for offset := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			whole := enc.EncodeToString([]byte(strings.Repeat("x", offset) + text))
			first, last := (offset*8+5)/6, len(whole)
			if (offset+len(text))%3 != 0 {
				last-- // shares its bits with what follows
			}
			all = append(all, whole[first:last])
		}
	}
	return all
}

// injectFault: fault NAME METHOD PATH STATUS [TIMES].
func injectFault(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[3])
	ts.Check(err)
	f := regtest.Fault{Method: args[1], Path: args[2], Status: status, Times: -1}
	if len(args) > 4 {
		f.Times, err = strconv.Atoi(args[4])
		ts.Check(err)
	}
	registries(ts)[args[0]].Inject(f)
}

// reference is a reference for go-containerregistry, which is our oracle: it
// asks the judge itself, past faults, credentials and counting.
func reference(ts *testscript.TestScript, text string) name.Reference {
	for _, r := range registries(ts) {
		if rest, ok := strings.CutPrefix(text, r.Host+"/"); ok {
			text = r.Judge() + "/" + rest
		}
	}
	ref, err := name.ParseReference(text, name.Insecure)
	ts.Check(err)
	return ref
}

// pushBase: base REF PLATFORM… publishes an index of an image of two layers for
// each platform; base REF @PLATFORM a single image. PLATFORM!CLAIM has a config
// that claims another platform.
func pushBase(ts *testscript.TestScript, _ bool, args []string) {
	ref := reference(ts, args[0])
	if text, single := strings.CutPrefix(args[1], "@"); single {
		img, _ := baseImage(ts, text)
		ts.Check(remote.Write(ref, img))
		return
	}
	var adds []mutate.IndexAddendum
	for _, text := range args[1:] {
		img, p := baseImage(ts, text)
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	index := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, adds...), types.DockerManifestList)
	ts.Check(remote.WriteIndex(ref, index))
}

func baseImage(ts *testscript.TestScript, text string) (v1.Image, *v1.Platform) {
	declared, claimed, lies := strings.Cut(text, "!")
	if !lies {
		claimed = declared
	}
	p, err := platform.Parse(declared)
	ts.Check(err)
	c, err := platform.Parse(claimed)
	ts.Check(err)
	img, err := random.Image(512, 2, random.WithSource(source(text)))
	ts.Check(err)
	config, err := img.ConfigFile()
	ts.Check(err)
	config.OS, config.Architecture, config.Variant, config.OSVersion = c.OS, c.Architecture, c.Variant, c.OSVersion
	config.Config.Env = []string{"PATH=/usr/bin:/bin"}
	config.Config.Labels = map[string]string{"org.opencontainers.image.title": "the base"}
	img, err = mutate.ConfigFile(img, config)
	ts.Check(err)
	return img, platform.ToV1(p)
}

// validateRef: validate REF PLATFORM… has go-containerregistry pull and check
// everything below an index, which has exactly these platforms.
func validateRef(ts *testscript.TestScript, _ bool, args []string) {
	ref := reference(ts, args[0])
	index, err := remote.Index(ref)
	ts.Check(err)
	ts.Check(validate.Index(index))
	im, err := index.IndexManifest()
	ts.Check(err)
	var got []string
	for _, d := range im.Manifests {
		got = append(got, platform.Key(platform.FromV1(d.Platform)))
	}
	if !slices.Equal(got, args[1:]) {
		ts.Fatalf("%s has %v, want %v", args[0], got, args[1:])
	}
}

// absent: absent REF… requires that the references do not exist.
func absent(ts *testscript.TestScript, _ bool, args []string) {
	for _, arg := range args {
		ref := reference(ts, arg)
		if d, err := remote.Head(ref); err == nil {
			ts.Fatalf("%s names %s", arg, d.Digest)
		}
	}
}

// setDigest: setdigest VAR REF sets $VAR to the digest of REF, or with REF%PLATFORM to that
// of its image.
func setDigest(ts *testscript.TestScript, _ bool, args []string) {
	text, child, ofIndex := strings.Cut(args[1], "%")
	ref := reference(ts, text)
	d, err := remote.Get(ref)
	ts.Check(err)
	digest := d.Digest
	if ofIndex {
		index, err := d.ImageIndex()
		ts.Check(err)
		im, err := index.IndexManifest()
		ts.Check(err)
		for _, c := range im.Manifests {
			if platform.Key(platform.FromV1(c.Platform)) == child {
				digest = c.Digest
			}
		}
	}
	ts.Setenv(args[0], digest.String())
}

// exit: exit CODE COMMAND… runs a command and requires this exit code.
func exit(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if ee := (*exec.ExitError)(nil); err != nil {
		if !errors.As(err, &ee) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = ee.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with %d, want %s", args[1], got, args[0])
	}
}

// source makes random images the same for the same text.
func source(text string) rand.Source {
	h := fnv.New64()
	_, _ = h.Write([]byte(text))
	return rand.NewSource(int64(h.Sum64()))
}

// expand: expand FILE… fills in the variables in files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}
