//go:build chaos && linux

package faults

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/regtest"
)

// A fleet is the real program with two registries, of which the first has a repository of
// many tags.
type fleet struct {
	*plant
	from *bench
	tags int
}

func newFleet(t *testing.T, tags int, from regtest.Options) *fleet {
	t.Helper()
	f := &fleet{newPlant(t), start(t, from), tags}
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q},%q:{"auth":%[2]q}}}`, f.Host, secret, f.from.Host)
	file := filepath.Join(filepath.Dir(f.module), "home/.docker/config.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := f.from.direct()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	for i := range tags {
		group.Go(func() error {
			return c.Put(ctx, fmt.Sprintf("%s/many:v1.%d.0", f.from.Judge(), i), regtest.RandomIndex(t, 200, 1, six...))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return f
}

// mirror starts to copy all tags to repo.
func (f *fleet) mirror(t *testing.T, repo string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	plan := filepath.Join(f.temp, repo+".yaml")
	text := fmt.Sprintf("entries:\n  - {source: %s/many, tags: {semver: \">=1\"}, target: %s/%s}\n", f.from.Host, f.Host, repo)
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), f.program, "mirror", "-f", plan, "--progress", "none")
	out := &bytes.Buffer{}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = f.module, f.env, out, out
	return cmd, out
}

// whole copies all tags to repo, which must succeed. It logs the requests and the memory,
// and returns the time.
func (f *fleet) whole(t *testing.T, repo, summary string) time.Duration {
	t.Helper()
	f.Reset()
	f.from.Reset()
	return f.finish(t, repo, summary)
}

// finish is whole with the current faults.
func (f *fleet) finish(t *testing.T, repo, summary string) time.Duration {
	t.Helper()
	began := time.Now()
	cmd, out := f.mirror(t, repo)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	most := 0
	watching.Go(func() { most = watchPeak(cmd.Process.Pid, done) })
	err := cmd.Wait()
	took := time.Since(began)
	close(done)
	watching.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := lines[len(lines)-1]
	t.Logf("%s: %d requests at the source, %d at the target, %v, %d MiB", last, f.from.Total(), f.Total(), took.Round(time.Second/10), most)
	if err != nil || !strings.HasPrefix(last, summary) {
		t.Fatalf("%v\n%s", err, out)
	}
	if most > 200 || most == 0 {
		t.Errorf("%d MiB", most)
	}
	return took
}

// watchPeak returns the highest memory, in MiB, that a process had until done. The value of
// wait4 would be at least that of its parent.
func watchPeak(pid int, done <-chan struct{}) (most int) {
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, text, ok := strings.Cut(string(raw), "VmHWM:"); ok && err == nil {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			if err == nil {
				most = max(most, kib>>10)
			}
		}
		select {
		case <-done:
			return most
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// idle requires that there is nothing to copy, with two HEADs for each tag and the pages of
// tags.
func (f *fleet) idle(t *testing.T, repo string) {
	t.Helper()
	f.whole(t, repo, fmt.Sprintf("0 copied, %d unchanged, 0 skipped, 0 failed", f.tags))
	tags, heads := 0, 0
	for _, kind := range append(f.from.asked(), f.asked()...) {
		switch kind {
		case "GET tags":
			tags++
		case "HEAD manifest":
			heads++
		default:
			t.Errorf("there was nothing to do, and there is a %s", kind)
		}
	}
	if heads > 2*f.tags || tags > 1+f.tags/100 {
		t.Errorf("%d HEADs and %d pages for %d tags", heads, tags, f.tags)
	}
}

// killed kills the program at random moments of a copy to repo, and checks after each that
// all existing tags are complete.
func (f *fleet) killed(t *testing.T, chance *rand.Rand, repo string, within time.Duration) {
	t.Helper()
	known := map[string]v1.Hash{}
	struck := 0
	for i := range count(t, "MABUILD_CHAOS_MIRROR_KILLS", 20) {
		cmd, _ := f.mirror(t, repo)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(chance.Int64N(int64(within))), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			struck++
		}
		timer.Stop()
		if err := f.VerifyTags(repo, known); err != nil {
			t.Fatalf("after kill %d: %v", i, err)
		}
	}
	t.Logf("killed %d times: %d of %d tags are there, whole", struck, len(known), f.tags)
	if struck < count(t, "MABUILD_CHAOS_MIRROR_KILLS", 20)*3/4 {
		t.Error("too few were struck before they had done all")
	}
	f.whole(t, repo, "")
	f.complete(t, repo)
}

// complete requires that repo has all tags, complete, with the same digests as the source.
func (f *fleet) complete(t *testing.T, repo string) {
	t.Helper()
	there, want := map[string]v1.Hash{}, map[string]v1.Hash{}
	if err := f.VerifyTags(repo, there); err != nil {
		t.Fatal(err)
	}
	if err := f.from.VerifyTags("many", want); err != nil {
		t.Fatal(err)
	}
	for tag, digest := range want {
		if there[tag] != digest {
			t.Fatalf("%s:%s names %s, not %s", repo, tag, there[tag], digest)
		}
	}
	if len(there) != len(want) || len(want) != f.tags {
		t.Errorf("%d tags of %d", len(there), f.tags)
	}
}

// A repository of a thousand tags of six platforms can be copied, needs no second copy, and
// can be copied by a program that is killed at random.
func TestChaosMirror(t *testing.T) {
	chance := dice(t)
	f := newFleet(t, count(t, "MABUILD_CHAOS_TAGS", 1000), regtest.Options{})
	took := f.whole(t, "copy", fmt.Sprintf("%d copied, 0 unchanged, 0 skipped, 0 failed", f.tags))
	f.complete(t, "copy")
	f.idle(t, "copy")
	f.killed(t, chance, "killed", took/25)
}

// The same if one request in a hundred fails at both registries, and if the source answers
// more than fifty requests a second with 429.
func TestChaosMirrorSoak(t *testing.T) {
	chance := dice(t)
	f := newFleet(t, count(t, "MABUILD_CHAOS_MIRROR_SOAK", 100), regtest.Options{Rate: 50})
	f.Inject(regtest.Fault{Chance: rand.New(rand.NewPCG(chance.Uint64(), 0)), Times: -1, Status: 503})
	f.from.Inject(regtest.Fault{Chance: chance, Times: -1, Status: 503})
	f.finish(t, "copy", fmt.Sprintf("%d copied, 0 unchanged, 0 skipped, 0 failed", f.tags))
	if inside := insidePauses(t, f.from.Requests()); inside > 0 {
		t.Errorf("%d requests inside a pause", inside)
	}
	f.complete(t, "copy")
	f.idle(t, "copy")
}
