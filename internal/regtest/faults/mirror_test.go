package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/registry"
)

// registries is a mirror's store without local places.
type registries struct {
	*registry.Client
	beforeGet func() // nil calls nothing
}

func (s registries) Get(ctx context.Context, ref string) (manifest.Content, error) {
	if s.beforeGet != nil {
		s.beforeGet()
	}
	return s.Client.Get(ctx, ref)
}

func (s registries) PutAll(ctx context.Context, all ...manifest.Named) error {
	for _, one := range all {
		if err := s.Put(ctx, one.Ref, one.Content); err != nil {
			return err
		}
	}
	return nil
}

func (s registries) List(ctx context.Context, repo string) (list []local.Holding, err error) {
	tags, err := s.Tags(ctx, repo)
	for _, tag := range tags {
		list = append(list, local.Holding{Name: tag})
	}
	return list, err
}

// A route is two registries: a mirror copies from one to the other.
type route struct {
	from, to   *bench
	atFrom, at *registry.Client // without faults
}

func newRoute(t *testing.T, o regtest.Options) route {
	t.Helper()
	from, to := start(t, o), start(t, regtest.Options{})
	return route{from, to, from.direct(), to.direct()}
}

// entry copies repo:v1 to the same name at the target.
func (r route) entry(repo string) *mirror.Entry {
	return &mirror.Entry{Name: repo, Image: r.from.Host + "/" + repo + ":v1", Targets: []string{r.to.Host + "/" + repo + ":v1"}}
}

// prepare stores next as repo:v1 at the source and old at the target.
func (r route) prepare(t *testing.T, repo string, old, next v1.ImageIndex) {
	t.Helper()
	if err := r.atFrom.Put(t.Context(), r.from.Judge()+"/"+repo+":v1", next); err != nil {
		t.Fatal(err)
	}
	if err := r.at.Put(t.Context(), r.to.Judge()+"/"+repo+":v1", old); err != nil {
		t.Fatal(err)
	}
}

// app prepares app:v1.
func (r route) app(t *testing.T) (old, next v1.ImageIndex) {
	t.Helper()
	old, next = program(t, 300), program(t, 300)
	r.prepare(t, "app", old, next)
	return old, next
}

// mirror copies repo:v1 with a new client.
func (r route) mirror(t *testing.T, repo string) (mirror.Result, *clock) {
	t.Helper()
	c, clock := r.to.client()
	return r.run(t, &mirror.Runner{Store: registries{Client: c}}, r.entry(repo)), clock
}

// run runs an entry of one image.
func (r route) run(t *testing.T, runner *mirror.Runner, e *mirror.Entry) mirror.Result {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	report := runner.Run(ctx, []*mirror.Entry{e})
	if len(report.Entries) != 1 || len(report.Entries[0].Images) != 1 {
		t.Fatalf("not one image: %+v", report)
	}
	return report.Entries[0].Images[0]
}

// converges requires that a run without faults makes the target next, without waiting.
func (r route) converges(t *testing.T, repo string, next manifest.Content) {
	t.Helper()
	r.from.Reset()
	r.to.Reset()
	got, clock := r.mirror(t, repo)
	if got.Err != nil || clock.naps != 0 || !r.to.verifyTag(t, repo, nil, next) {
		t.Errorf("the clean run of %s: %v, %d waits", repo, got.Err, clock.naps)
	}
	r.to.Reset()
	r.from.Reset()
}

// rests requires that there is nothing to copy, with two HEADs.
func (r route) rests(t *testing.T, repo string) {
	t.Helper()
	r.from.Reset()
	r.to.Reset()
	got, _ := r.mirror(t, repo)
	if asked := append(r.from.asked(), r.to.asked()...); got.Status != mirror.Unchanged || !slices.Equal(asked, []string{"HEAD manifest", "HEAD manifest"}) {
		t.Errorf("nothing to do for %s: %s after %v, %v", repo, got.Status, asked, got.Err)
	}
}

// asked returns the requests with credentials, except those that had to wait.
func (b *bench) asked() (kinds []string) {
	for _, one := range b.Requests() {
		if one.Authorized == "Bearer" && one.Status != http.StatusTooManyRequests {
			kinds = append(kinds, one.Kind())
		}
	}
	return kinds
}

// A leg is a kind of request of a mirror at one of the registries.
type leg struct {
	name, method, path string
	source             bool
}

// legs are those for an index of two images that is new at the target under an existing
// tag.
var legs = []leg{
	{"token of the source", "GET", "^/token", true},
	{"HEAD source", "HEAD", "/manifests/v1", true},
	{"GET manifest", "GET", "/manifests/sha256", true},
	{"GET blob", "GET", "/blobs/sha256", true},
	{"token of the target", "GET", "^/token", false},
	{"HEAD target", "HEAD", "/manifests/v1", false},
	{"HEAD child", "HEAD", "/manifests/sha256", false},
	{"HEAD blob", "HEAD", "/blobs/sha256", false},
	{"POST upload", "POST", "/uploads/", false},
	{"PUT blob", "PUT", "/uploads/", false},
	{"PUT child", "PUT", "/manifests/sha256", false},
	{"PUT tag", "PUT", "/manifests/v1", false},
}

func (l leg) where(r route) *bench {
	if l.source {
		return r.from
	}
	return r.to
}

// count returns the number of requests of a leg in a copy without faults.
func (r route) count(t *testing.T, l leg, old, next v1.ImageIndex) int {
	t.Helper()
	repo := fmt.Sprintf("count%d", r.to.cases.Add(1))
	r.prepare(t, repo, old, next)
	if got, _ := r.mirror(t, repo); got.Status != mirror.Copied {
		t.Fatalf("%s: %v", got.Status, got.Err)
	}
	n, pattern := 0, regexp.MustCompile(l.path)
	for _, one := range l.where(r).Requests() {
		if one.Method == l.method && pattern.MatchString(one.Path) {
			n++
		}
	}
	if n == 0 {
		t.Fatalf("a mirror makes no %s", l.name)
	}
	r.from.Reset()
	r.to.Reset()
	return n
}

// strikes copies while each of the faults strikes the first, the middle and the last
// request of l, or one of them in turn. It checks that the target is old or new and
// complete, and that a run without faults completes the copy.
func (r route) strikes(t *testing.T, l leg, size int64, faults ...kase) {
	t.Helper()
	old, next := program(t, 300), program(t, size)
	n := r.count(t, l, old, next)
	for _, k := range faults {
		for _, nth := range struckAt(n, r.to.turn) {
			t.Run(k.name(nth), func(t *testing.T) {
				regtest.Repeat(t)
				r.strike(t, l, k, nth, old, next)
			})
		}
		r.to.turn++
	}
}

func (r route) strike(t *testing.T, l leg, k kase, nth int, old, next v1.ImageIndex) {
	t.Helper()
	repo := fmt.Sprintf("case%d", r.to.cases.Add(1))
	r.prepare(t, repo, old, next)
	k.fault.Method, k.fault.Path, k.fault.Nth = l.method, l.path, nth
	l.where(r).Inject(k.fault)
	got, clock := r.mirror(t, repo)
	if !l.where(r).struck(k.fault) {
		t.Fatalf("%s: the fault never struck: %s", l.name, k)
	} else if !k.want.holds(got.Err) || clock.slept < k.least || clock.slept > 10*time.Minute {
		t.Errorf("%s, %s: waited %v, ended with %v", l.name, k, clock.slept, got.Err)
	}
	if moved := r.to.verifyTag(t, repo, old, next); moved != (got.Err == nil) || moved != (got.Status == mirror.Copied) {
		t.Errorf("%s: %s with %v, the tag moved: %t", l.name, got.Status, got.Err, moved)
	}
	r.checkCause(t, l, got.Err, repo)
	r.converges(t, repo, next)
}

// checkCause requires that an error names the request that failed, at either registry.
func (r route) checkCause(t *testing.T, l leg, err error, repo string) {
	t.Helper()
	for outer := (*registry.Error)(nil); errors.As(err, &outer); {
		if inner := (*registry.Error)(nil); !errors.As(outer.Err, &inner) {
			break
		}
		err = outer.Err // the upload failed because its source could not be read
	}
	l.where(r).checkError(t, err, repo)
}

// A request that fails temporarily at either registry is repeated. One that always fails
// leaves the target unchanged.
func TestMirrorTemporary(t *testing.T) {
	for _, l := range legs {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			r := newRoute(t, regtest.Options{})
			told := http.Header{"Retry-After": {"2"}}
			limited := "You have exceeded a secondary rate limit. Please wait."
			r.strikes(t, l, 300,
				kase{fault: regtest.Fault{Status: 429, Header: told}, least: 2 * time.Second},
				kase{fault: regtest.Fault{Status: 503, Times: 3}, least: time.Second},
				kase{fault: regtest.Fault{Status: 503, Times: -1}, want: refusedByRegistry},
			)
			if l.method != "HEAD" { // responses without a body
				r.strikes(t, l, 300, kase{fault: regtest.Fault{Status: 403, Body: limited}, least: time.Second / 4})
			}
			if l.source && l.method != "HEAD" {
				r.strikes(t, l, 300, kase{fault: regtest.Fault{Status: 403, Body: limited, Times: -1}, want: refusedByRegistry})
			}
		})
	}
}

// A connection that ends before a request, in its body or before its response is replaced,
// also for the PUT of the tag.
func TestMirrorCut(t *testing.T) {
	for _, l := range legs {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			r := newRoute(t, regtest.Options{})
			cases := []kase{
				{fault: regtest.Fault{Action: regtest.Close}},
				{fault: regtest.Fault{Phase: regtest.Answer, Action: regtest.Abort}},
			}
			if l.method == "PUT" {
				cases = append(cases,
					kase{fault: regtest.Fault{Phase: regtest.Up, After: 100, Action: regtest.Close}},
					kase{fault: regtest.Fault{Phase: regtest.Up, After: 1, Action: regtest.Abort}},
					kase{fault: regtest.Fault{Phase: regtest.Answer, Action: regtest.Close}},
				)
			}
			r.strikes(t, l, 300, cases...)
		})
	}
}

// A download that is sent on may be interrupted anywhere, also without support for ranges:
// the blob arrives complete.
func TestMirrorCutDownload(t *testing.T) {
	const size = 200_000
	for _, ranges := range []bool{true, false} {
		for _, l := range legs[2:4] {
			t.Run(fmt.Sprintf("%s, ranges %t", l.name, ranges), func(t *testing.T) {
				t.Parallel()
				r := newRoute(t, regtest.Options{NoRanges: !ranges})
				var cases []kase
				for i, after := range []int64{0, 1, 100, 64 << 10, size - 1} {
					action := []regtest.Action{regtest.Close, regtest.Abort}[i%2]
					cases = append(cases, kase{fault: regtest.Fault{Phase: regtest.Down, After: after, Action: action}})
				}
				r.strikes(t, l, size, cases...)
			})
		}
	}
}

// One wrong bit from the source, in a manifest, a config or a layer, ends the copy before
// the tag changes.
func TestMirrorFlippedBit(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	old, next := program(t, 300), program(t, 300)
	for _, l := range legs[2:4] {
		for nth := 1; nth <= r.count(t, l, old, next); nth++ {
			repo := fmt.Sprintf("flip%d", r.to.cases.Add(1))
			r.prepare(t, repo, old, next)
			r.from.Inject(regtest.Fault{Method: l.method, Path: l.path, Nth: nth, Times: -1, Phase: regtest.Down, After: 60, Action: regtest.Flip})
			got, _ := r.mirror(t, repo)
			if !content.holds(got.Err) || r.to.verifyTag(t, repo, old, next) {
				t.Errorf("%s %d: %v", l.name, nth, got.Err)
			}
			r.converges(t, repo, next)
		}
	}
}

// If a tag at the source changes during the copy, the digest that was resolved is copied,
// or the new one if the old content no longer exists. The report names it.
func TestMirrorTagMoves(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	for _, gone := range []bool{false, true} {
		repo := fmt.Sprintf("moves%t", gone)
		old, seen, next := program(t, 300), program(t, 300), program(t, 300)
		r.prepare(t, repo, old, seen)
		c, _ := r.to.client()
		moved := false
		store := registries{c, func() {
			if moved {
				return
			}
			moved = true
			if err := r.from.direct().Put(t.Context(), r.from.Judge()+"/"+repo+":v1", next); err != nil {
				t.Error(err)
			}
			if gone {
				if err := r.from.Delete(repo + "/manifests/" + must(seen.Digest())(t).String()); err != nil {
					t.Error(err)
				}
			}
		}}
		got := r.run(t, &mirror.Runner{Store: store}, r.entry(repo))
		want := seen
		if gone {
			want = next
		}
		if !r.to.verifyTag(t, repo, old, want) || got.Status != mirror.Copied || got.Digest != must(want.Digest())(t).String() {
			t.Errorf("gone %t: %s %s, %v", gone, got.Status, got.Digest, got.Err)
		}
		r.converges(t, repo, next)
	}
}

// A deleted image below a tag at the target is not noticed with two HEADs. With Verify it
// is stored again, and existing images cost one HEAD each.
func TestMirrorHeals(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	_, next := r.app(t)
	r.converges(t, "app", next)
	r.rests(t, "app")
	im := must(next.IndexManifest())(t)
	if err := r.to.Delete("app/manifests/" + im.Manifests[1].Digest.String()); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.mirror(t, "app"); got.Status != mirror.Unchanged {
		t.Errorf("%s, %v", got.Status, got.Err)
	}
	if _, err := r.to.Verify("app", "v1"); err == nil {
		t.Fatal("the oracle sees nothing")
	}
	for range 2 {
		r.to.Reset()
		c, _ := r.to.client()
		got := r.run(t, &mirror.Runner{Store: registries{Client: c}, Verify: true}, r.entry("app"))
		if got.Err != nil || !r.to.verifyTag(t, "app", nil, next) {
			t.Errorf("%s, %v", got.Status, got.Err)
		}
	}
	if asked := r.to.asked(); !slices.Equal(asked, []string{"HEAD manifest", "HEAD manifest", "HEAD manifest"}) {
		t.Errorf("to look at what is whole: %v", asked)
	}
}

// beside runs an entry that fails and an entry of another registry. The second one is
// complete, and the error of the first has the time to try again, or that this is useless.
func (r route) beside(t *testing.T, bad *mirror.Entry, c *registry.Client) mirror.Result {
	t.Helper()
	good := r
	good.from = start(t, regtest.Options{})
	good.atFrom = good.from.direct()
	repo := fmt.Sprintf("good%d", r.to.cases.Add(1))
	next := program(t, 300)
	good.prepare(t, repo, program(t, 300), next)
	report := (&mirror.Runner{Store: registries{Client: c}}).Run(t.Context(), []*mirror.Entry{bad, good.entry(repo)})
	if report.Copied != 1 || report.Failed != 1 || !r.to.verifyTag(t, repo, nil, next) {
		t.Fatalf("%+v", report)
	}
	if _, some := report.Err(); !some {
		t.Error("nothing is whole, says the report")
	}
	return report.Entries[0].Images[0]
}

// If a source asks for a pause of an hour, its entry fails at once with that time. The
// others are copied.
func TestMirrorPutOff(t *testing.T) {
	for _, l := range legs[1:4] {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			r := newRoute(t, regtest.Options{})
			old, next := r.app(t)
			r.from.Inject(regtest.Fault{Method: l.method, Path: l.path, Times: -1, Status: 429, Header: http.Header{"Retry-After": {"3600"}}})
			c, clock := r.to.client()
			got := r.beside(t, r.entry("app"), c)
			report := mirror.Report{Entries: []mirror.EntryReport{{Images: []mirror.Result{got}}}}
			if wait := time.Until(report.RetryAt()); !refusedByRegistry.holds(got.Err) || wait < 50*time.Minute || wait > time.Hour {
				t.Errorf("to come back in %v: %v", wait, got.Err)
			}
			if clock.slept > time.Minute || r.to.verifyTag(t, "app", old, next) {
				t.Errorf("waited %v", clock.slept)
			}
			r.converges(t, "app", next)
		})
	}
}

// The reserve of a quota is never used: an entry that needs it fails with the time to try
// again. Entries that read nothing succeed.
func TestMirrorQuotaReserve(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	old, next := r.app(t)
	d := must(manifest.Describe(next))(t)
	quota := regtest.Fault{Method: "HEAD", Path: "/manifests/v1", Times: -1, Status: 200, Header: http.Header{
		"Content-Type": {string(d.MediaType)}, "Content-Length": {strconv.FormatInt(d.Size, 10)}, "Docker-Content-Digest": {d.Digest.String()},
		"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"20;w=21600"},
	}}
	r.from.Inject(quota)
	c, clock := r.to.client()
	c.QuotaReserve = 20
	got := r.beside(t, r.entry("app"), c)
	report := mirror.Report{Entries: []mirror.EntryReport{{Images: []mirror.Result{got}}}}
	if wait := time.Until(report.RetryAt()); wait < 5*time.Hour || wait > 6*time.Hour || clock.naps != 0 || r.to.verifyTag(t, "app", old, next) {
		t.Errorf("to come back in %v, %d waits: %v", wait, clock.naps, got.Err)
	}
	if n := r.from.Tally()["GET manifest"]; n != 0 {
		t.Errorf("%d manifests were read", n)
	}
	r.converges(t, "app", next)
	r.from.Inject(quota)
	c, _ = r.to.client()
	c.QuotaReserve = 20
	if got := r.run(t, &mirror.Runner{Store: registries{Client: c}}, r.entry("app")); got.Status != mirror.Unchanged {
		t.Errorf("%s, %v", got.Status, got.Err)
	}
}

// The entry of an unreachable registry fails. The others are copied.
func TestMirrorDown(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old, next := r.app(t)
	e := r.entry("app")
	e.Image = nobody + "/app:v1"
	c, clock := r.to.client()
	got := r.beside(t, e, c)
	if !refusedByRegistry.holds(got.Err) || clock.slept > 5*time.Second || r.to.verifyTag(t, "app", old, next) {
		t.Errorf("waited %v: %v", clock.slept, got.Err)
	}
	e = r.entry("app")
	e.Targets[0] = nobody + "/app:v1"
	c, clock = r.to.client()
	if got := r.beside(t, e, c); !refusedByRegistry.holds(got.Err) || clock.slept > 5*time.Second {
		t.Errorf("waited %v: %v", clock.slept, got.Err)
	}
	r.converges(t, "app", next)
}

// Of ten images of a source, those for a silent registry do not delay the others.
func TestMirrorSilent(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	_, next := r.app(t)
	silent := start(t, regtest.Options{})
	silent.Inject(regtest.Fault{Times: -1, Action: regtest.Stall})
	var entries []*mirror.Entry
	for i := range 10 {
		e := r.entry("app")
		e.Name = fmt.Sprintf("silent%d", i)
		e.Targets = []string{fmt.Sprintf("%s/app%d:v1", silent.Host, i)}
		entries = append(entries, e)
	}
	last := r.entry("app") // comes last, since it lists tags
	last.Image, last.Tags.Glob = r.from.Host+"/app", []string{"v*"}
	c, _ := r.to.client()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	runner := &mirror.Runner{Store: registries{Client: c}, Now: func() time.Time {
		if is, err := r.to.Verify("app", "v1"); err == nil && is == must(next.Digest())(t) {
			stop()
		}
		return time.Now()
	}}
	report := runner.Run(ctx, append(entries, last))
	if report.Copied != 1 || report.Failed != 10 || !r.to.verifyTag(t, "app", nil, next) {
		t.Errorf("%d copied, %d failed", report.Copied, report.Failed)
	}
}

// If one of two targets refuses the image, the other is complete.
func TestMirrorTargetDenied(t *testing.T) {
	r := newRoute(t, regtest.Options{})
	old, next := r.app(t)
	e := r.entry("app")
	e.Targets = append(e.Targets, r.to.Host+"/other:v1")
	r.to.Inject(regtest.Fault{Method: "PUT", Path: "/app/manifests/v1", Times: -1, Status: 403})
	c, _ := r.to.client()
	report := (&mirror.Runner{Store: registries{Client: c}}).Run(t.Context(), []*mirror.Entry{e})
	err, some := report.Err()
	if !credentials.holds(err) || !some || report.Copied != 1 || report.Failed != 1 {
		t.Errorf("%+v", report)
	}
	if r.to.verifyTag(t, "app", old, next) || !r.to.verifyTag(t, "other", nil, next) {
		t.Error("the wrong one moved")
	}
	r.converges(t, "app", next)
}
