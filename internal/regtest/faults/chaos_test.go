//go:build chaos && unix

package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// count returns what the environment says, or n.
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

// dice returns a source of chance whose seed is told, and can be given.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := count(t, "MABUILD_CHAOS_SEED", int(time.Now().UnixNano()%1e9))
	t.Logf("MABUILD_CHAOS_SEED=%d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

// A plant is the real program and what it needs to push.
type plant struct {
	*bench
	program, module, temp string
	env                   []string
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	p := &plant{bench: start(t, regtest.Options{}), program: filepath.Join(dir, "mabuild"), module: filepath.Join(dir, "module"), temp: filepath.Join(dir, "tmp")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "github.com/mabuild/mabuild/cmd/mabuild")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for file, text := range map[string]string{
		"module/go.mod": "module example.com/app\n\ngo 1.26\n", "module/main.go": "package main\n\nfunc main() { println(1) }\n",
		"home/.docker/config.json": fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, p.Host, secret),
	} {
		file = filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.MkdirAll(p.temp, 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p.env = append(os.Environ(), "TMPDIR="+p.temp, "DOCKER_CONFIG="+filepath.Join(dir, "home/.docker"), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "GOCACHE="+string(bytes.TrimSpace(cache)), "GOFLAGS=")
	return p
}

// push begins to push what number n is to repo:v1.
func (p *plant) push(ctx context.Context, repo string, n int) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, p.program, "push", "--platforms", "linux/amd64,linux/arm64", "--base", "scratch", "--env", "N="+strconv.Itoa(n), "-t", p.Host+"/"+repo+":v1")
	out := &bytes.Buffer{}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.module, p.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, out
}

// requestsOf counts the requests of a whole push to a new repository.
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

// at calls act once the registry was asked n times, or when done is closed.
func (p *plant) at(n int, done <-chan struct{}, act func()) {
	for len(p.Requests()) < n {
		select {
		case <-done:
			return
		case <-time.After(200 * time.Microsecond):
		}
	}
	act()
}

// interrupt pushes number n to repo and sends a signal at the request asked for. It
// returns how long the end took after that, and the exit code.
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
	_ = cmd.Wait() // the code says it
	close(done)
	waiting.Wait()
	p.Reset()
	if sent.IsZero() {
		sent = time.Now()
	}
	return time.Since(sent), cmd.ProcessState.ExitCode(), out.String()
}

// again pushes number n once more, which must succeed.
func (p *plant) again(t *testing.T, repo string, n int) {
	t.Helper()
	cmd, out := p.push(t.Context(), repo, n)
	if err := cmd.Run(); err != nil {
		t.Fatalf("the clean run: %v\n%s", err, out)
	}
	p.Reset()
	if is, err := p.Verify(repo, "v1"); err != nil || is.Hex == "" || !bytes.Contains(out.Bytes(), []byte(is.String())) {
		t.Fatalf("%s after the clean run: %s, %v\n%s", repo, is, err, out)
	}
}

// A run that is killed at any request leaves the tag as it was or whole, and the
// next run finishes the work.
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

// A run that is asked to end does so in less than two seconds, says so by its exit
// code, and leaves neither files nor upload sessions.
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

// Sixteen processes push to one tag with one cache.
func TestChaosProcesses(t *testing.T) {
	p := newPlant(t)
	for round := range count(t, "MABUILD_CHAOS_ROUNDS", 20) {
		repo := fmt.Sprintf("round%d", round)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				cmd, out := p.push(t.Context(), repo, round*16+i)
				if err := cmd.Run(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		all.Wait()
		if is, err := p.Verify(repo, "v1"); err != nil || is.Hex == "" {
			t.Fatalf("round %d: %s, %v", round, is, err)
		}
	}
}

var six = []string{"amd64", "arm64", "arm", "ppc64le", "s390x", "riscv64"}

// load pushes n images of six platforms at once through one client and returns how
// many requests that took, and the most memory.
func load(t *testing.T, b *bench, n int) (requests int, memory uint64) {
	t.Helper()
	c := &registry.Client{Keychain: login{user, password}}
	images := make([]v1.ImageIndex, n)
	for i := range images {
		images[i] = regtest.RandomIndex(t, 2_000, 2, six...)
	}
	runtime.GC()
	stop := make(chan struct{})
	var watching, pushing sync.WaitGroup
	watching.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			memory = max(memory, m.Sys-m.HeapReleased)
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	for i, idx := range images {
		pushing.Go(func() {
			repo := fmt.Sprintf("load%d", i)
			if err := push(t.Context(), c, b.Host+"/"+repo, idx); err != nil {
				t.Error(err)
				return
			}
			b.verifyTag(t, repo, nil, idx)
		})
	}
	pushing.Wait()
	close(stop)
	watching.Wait()
	for _, r := range b.Requests() {
		if r.Path != "/token" {
			requests++
		}
	}
	return requests, memory
}

// Two hundred pushes at once in one process.
func TestChaosLoad(t *testing.T) {
	b := start(t, regtest.Options{})
	began := time.Now()
	requests, memory := load(t, b, count(t, "MABUILD_CHAOS_PUSHES", 200))
	t.Logf("%d requests in %v, %d MiB, %d connections", requests, time.Since(began).Round(time.Second), memory>>20, b.MostConnections())
	if memory > 300<<20 || b.MostConnections() > 64 {
		t.Errorf("%d MiB, %d connections", memory>>20, b.MostConnections())
	}
}

// The same when one request in a hundred fails, one in a hundred is cut, and a
// bucket of fifty requests a second answers 429.
func TestChaosSoak(t *testing.T) {
	chance := dice(t)
	n := count(t, "MABUILD_CHAOS_SOAK", 40)
	calm := start(t, regtest.Options{})
	least, _ := load(t, calm, n)
	b := start(t, regtest.Options{Rate: 50})
	b.Inject(
		regtest.Fault{Chance: chance, Times: -1, Status: 503},
		regtest.Fault{Chance: chance, Times: -1, Action: regtest.Abort},
	)
	requests, _ := load(t, b, n)
	t.Logf("%d requests where %d would do", requests, least)
	if float64(requests) > 1.3*float64(least) {
		t.Errorf("%d requests, %d without faults", requests, least)
	}
}
