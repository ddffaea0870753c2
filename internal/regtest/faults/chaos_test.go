//go:build chaos && unix

package faults

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
)

// count returns the number in the environment variable, or n.
func count(t *testing.T, key string, n int) int {
	t.Helper()
	text, ok := os.LookupEnv(key)
	if !ok {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return n
}

// dice returns a random source with the seed of [regtest.Seed].
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := regtest.Seed(t, "-tags", "chaos")
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

// requestsOf returns the number of requests of a complete push to a new repository.
func (p *plant) requestsOf(t *testing.T) int {
	t.Helper()
	cmd, out := p.push(t.Context(), "count", 0)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := len(p.Requests())
	p.Reset()
	return n
}

// interrupt pushes program n to repo and sends a signal at the given request. It returns
// the time from the signal to the end, and the exit code.
func (p *plant) interrupt(t *testing.T, repo string, n, request int, s syscall.Signal) (time.Duration, int, string) {
	t.Helper()
	cmd, out := p.push(t.Context(), repo, n)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var sent time.Time
	var waiting sync.WaitGroup
	waiting.Go(func() {
		p.at(request, done, func() {
			sent = time.Now()
			_ = cmd.Process.Signal(s)
		})
	})
	_ = cmd.Wait() // the exit code shows it
	close(done)
	waiting.Wait()
	p.Reset()
	if sent.IsZero() {
		sent = time.Now()
	}
	return time.Since(sent), cmd.ProcessState.ExitCode(), out.String()
}

// again pushes program n once more, which must succeed.
func (p *plant) again(t *testing.T, repo string, n int, flags ...string) {
	t.Helper()
	cmd, out := p.push(t.Context(), repo, n, flags...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("the clean run: %v\n%s", err, out)
	}
	p.Reset()
	if is, err := p.Verify(repo, "v1"); err != nil || is.Hex == "" || !bytes.Contains(out.Bytes(), []byte(is.String())) {
		t.Fatalf("%s after the clean run: %s, %v\n%s", repo, is, err, out)
	}
}

// If a run is killed at any request, the tag is unchanged or complete, and the next run
// completes the push.
func TestChaosKill(t *testing.T) {
	p, chance := newPlant(t), dice(t)
	n := p.requestsOf(t)
	for i := range count(t, "MABUILD_CHAOS_KILLS", 500) {
		repo := fmt.Sprintf("kill%d", i/5)
		before, err := p.Verify(repo, "v1")
		if err != nil {
			t.Fatal(err)
		}
		p.interrupt(t, repo, i, 1+chance.IntN(n), syscall.SIGKILL)
		after, err := p.Verify(repo, "v1")
		if err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
		p.again(t, repo, i)
		if is, _ := p.Verify(repo, "v1"); after != before && after != is {
			t.Fatalf("run %d: the tag names %s, neither %s nor %s", i, after, before, is)
		}
	}
}

// If a run that signs is killed at any request, the tag is unchanged, or names an index with
// its signature and its provenance. Every second run moves a tag that exists, and every fourth
// pair also writes the tags .sig.
func TestChaosKillSigned(t *testing.T) {
	p, chance := newPlant(t), dice(t)
	keys, err := filepath.Abs("../../../testdata/keys")
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "MABUILD_SIGN="+filepath.Join(keys, "plain.key"), "MABUILD_PROVENANCE=min", "MABUILD_ATTACH=all")
	env := p.env
	n, signed := p.requestsOf(t), 0
	for i := range count(t, "MABUILD_CHAOS_KILLS", 200) {
		repo := fmt.Sprintf("signed%d", i/2)
		if p.env = env; i/2%4 == 3 {
			p.env = append(slices.Clone(env), "MABUILD_SIGN_FORMAT=both")
		}
		p.interrupt(t, repo, i, 1+chance.IntN(n+4), syscall.SIGKILL)
		tags := map[string]v1.Hash{} // also those that list what refers to the images
		if err := p.VerifyTags(repo, tags); err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
		if tags["v1"].Hex != "" {
			signed++
			p.signed(t, filepath.Join(keys, "plain.pub"), repo)
		}
		cmd, out := p.push(t.Context(), repo, i)
		if err := cmd.Run(); err != nil {
			t.Fatalf("the clean run: %v\n%s", err, out)
		}
		p.signed(t, filepath.Join(keys, "plain.pub"), repo)
	}
	t.Logf("%d of the runs had moved the tag", signed)
}

// signed requires that mabuild verify accepts the tag of a repository.
func (p *plant) signed(t *testing.T, key, repo string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.program, "verify", "--key", key, "--require", "signature,provenance", p.Host+"/"+repo+":v1")
	cmd.Dir, cmd.Env = p.module, p.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.Reset()
}

// A signal ends a run in less than two seconds with its exit code, and the run leaves
// neither files nor upload sessions.
func TestChaosSignal(t *testing.T) {
	p, chance := newPlant(t), dice(t)
	n := p.requestsOf(t)
	for s, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		interrupted := 0
		for i := range count(t, "MABUILD_CHAOS_SIGNALS", 200) {
			repo := fmt.Sprintf("signal%d-%d", s, i/3)
			took, got, out := p.interrupt(t, repo, i, 1+chance.IntN(n), s)
			if got != 0 && got != code || took > 2*time.Second {
				t.Errorf("run %d: exit code %d after %v\n%s", i, got, took, out)
			}
			if got != 0 {
				interrupted++
			}
			if _, err := p.Verify(repo, "v1"); err != nil {
				t.Fatalf("run %d: %v", i, err)
			}
			if open, err := p.Sessions(repo); err != nil || len(open) > 0 {
				t.Errorf("run %d: %d uploads are open, %v\n%s", i, len(open), err, out)
			}
			if left, err := filepath.Glob(filepath.Join(p.temp, "*")); err != nil || len(left) > 0 {
				t.Fatalf("run %d left %v, %v", i, left, err)
			}
			p.again(t, repo, i)
		}
		t.Logf("%v: %d runs were interrupted", s, interrupted)
	}
}

// Two to sixteen processes push to one tag with one cache: the tag is complete.
func TestChaosProcesses(t *testing.T) {
	p, chance := newPlant(t), dice(t)
	for round := range count(t, "MABUILD_CHAOS_ROUNDS", 100) {
		p.crowd(t, fmt.Sprintf("round%d", round), 2+chance.IntN(15), round*16)
	}
}

// crowd runs n processes that push to repo:v1 at once, programs from number from on. In the
// end the tag is one of them, complete.
func (p *plant) crowd(t *testing.T, repo string, n, from int, flags ...string) {
	t.Helper()
	var all sync.WaitGroup
	printed := make([][]byte, n)
	for i := range n {
		all.Go(func() {
			cmd, out := p.push(t.Context(), repo, from+i, flags...)
			if err := cmd.Run(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			printed[i] = out.Bytes()
		})
	}
	all.Wait()
	is, err := p.Verify(repo, "v1")
	if err != nil || is.Hex == "" || !bytes.Contains(bytes.Join(printed, nil), []byte(is.String())) {
		t.Fatalf("%s: %s, %v", repo, is, err)
	}
	p.Reset()
}

// Two processes share a cache that is empty or full and that loses files: no content with a
// wrong digest is ever used.
func TestChaosCache(t *testing.T) {
	p, chance := newPlant(t), dice(t)
	dir := filepath.Join(t.TempDir(), "cache")
	for round := range count(t, "MABUILD_CHAOS_CACHES", 50) {
		if chance.IntN(5) == 0 {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		p.crowd(t, fmt.Sprintf("cache%d", round), 2, round/2*2, "--cache", dir)
		blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
		if err != nil || len(blobs) == 0 {
			t.Fatalf("%d blobs, %v", len(blobs), err)
		}
		for _, blob := range blobs {
			raw, err := os.ReadFile(blob)
			if err != nil {
				t.Fatal(err)
			}
			if is := fmt.Sprintf("%x", sha256.Sum256(raw)); is != filepath.Base(blob) {
				t.Errorf("round %d: %s holds %s", round, blob, is)
			}
		}
		if lost := blobs[chance.IntN(len(blobs))]; chance.IntN(3) == 0 {
			if err := os.Truncate(lost, 7); err != nil {
				t.Fatal(err)
			}
			p.again(t, fmt.Sprintf("cache%d", round), round/2*2, "--cache", dir)
		}
	}
}
