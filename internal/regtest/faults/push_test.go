package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// requests are the kinds of requests of a push, as faults match them. Those of attached are
// made by a push that attaches what refers to the index.
var requests = []struct {
	name, method, path string
	attached           bool
}{
	{"token", "GET", "^/token", false},
	{"HEAD tag", "HEAD", "/manifests/v1", false},
	{"HEAD child", "HEAD", "/manifests/sha256", false},
	{"HEAD blob", "HEAD", "/blobs/sha256", false},
	{"POST upload", "POST", "/uploads/", false},
	{"PUT blob", "PUT", "/uploads/", false},
	{"PUT child", "PUT", "/manifests/sha256", false},
	{"PUT tag", "PUT", "/manifests/v1", false},
	{"GET referrers", "GET", "/referrers/", true},
	{"GET list", "GET", "/manifests/sha256-", true},
	{"PUT list", "PUT", "/manifests/sha256-", true},
	{"PUT index or referrer", "PUT", "/manifests/sha256:", true},
}

// An outcome is a possible result of the run with faults.
type outcome int

const (
	done outcome = iota
	credentials
	refusedByRegistry // exit code 4
	content           // exit code 5
)

// holds reports whether err is the outcome.
func (o outcome) holds(err error) bool {
	wrong, denied := errors.Is(err, manifest.ErrMismatch), errors.Is(err, registry.ErrCredentials)
	of := errors.As(err, new(*registry.Error))
	switch o {
	case credentials:
		return denied && of
	case refusedByRegistry:
		return of && !denied && !wrong
	case content:
		return wrong
	}
	return err == nil
}

// A kase is a fault and its expected result.
type kase struct {
	fault regtest.Fault
	first []regtest.Fault // faults that strike earlier
	want  outcome
	cut   bool // the run could not close its upload session
	// attached: artifacts that refer to the index are stored before the tag moves.
	attached bool
	new      bool // the tag does not exist before
	size     int64
	least    time.Duration // the run waits at least so long
}

// name is the name of the test for k at the nth request.
func (k kase) name(nth int) string {
	f := k.fault
	moment := []string{"before", "up", "answer", "down"}[f.Phase]
	action := []string{"status", "close", "abort", "stall", "slow", "flip"}[f.Action]
	if f.Action == regtest.Respond {
		action = fmt.Sprint("status ", f.Status)
	}
	if v := f.Header.Get("Retry-After"); v != "" {
		action += " retry-after"
	}
	return strings.ReplaceAll(fmt.Sprintf("%s %s %d, %d times, at request %d", action, moment, f.After, f.Times, nth), " ", "_")
}

func (k kase) String() string {
	f := k.fault
	return fmt.Sprintf("%s %s from %d ×%d: phase %d action %d status %d after %d", f.Method, f.Path, f.Nth, f.Times, f.Phase, f.Action, f.Status, f.After)
}

// begin makes c learn from another push what k's first faults teach, so that it knows that
// from its first request on.
func (b *bench) begin(t *testing.T, c *registry.Client, k kase) {
	t.Helper()
	if k.first == nil {
		return
	}
	c.MaxPerHost = 1
	b.Inject(k.first...)
	repo := fmt.Sprintf("begin%d", b.cases.Add(1))
	if err := push(t.Context(), c, b.Host+"/"+repo, program(t, 300)); err != nil {
		t.Fatal(err)
	}
	b.Reset()
}

// strike pushes to a new repository while k's fault strikes the nth matching request, then
// once more without faults, and checks both results.
func (b *bench) strike(t *testing.T, k kase, nth int) {
	t.Helper()
	repo := fmt.Sprintf("case%d", b.cases.Add(1))
	k.size = max(k.size, 300)
	old, next := manifest.Content(nil), program(t, k.size)
	if !k.new {
		idx := regtest.RandomIndex(t, 100, 1, "amd64")
		if err := b.direct().Put(t.Context(), b.Judge()+"/"+repo+":v1", idx); err != nil {
			t.Fatal(err)
		}
		old = idx
	}
	k.fault.Nth = nth
	c, clock := b.client()
	b.begin(t, c, k)
	b.Inject(k.fault)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	attached := k.attachments(t, next)
	err := push(ctx, c, b.Host+"/"+repo, next, attached...)
	struck := b.struck(k.fault)
	b.Reset()
	if !struck {
		t.Fatalf("the fault never struck: %s", k)
	}
	if !k.want.holds(err) {
		t.Errorf("%s ended with %v", k, err)
	}
	moved := b.verifyTag(t, repo, old, next)
	if moved != (err == nil) {
		t.Errorf("%s ended with %v, the tag moved: %t", k, err, moved)
	}
	if moved {
		b.verifyReferrers(t, repo, next, attached)
	}
	b.checkError(t, err, repo)
	if clock.slept > 10*time.Minute || clock.slept < k.least {
		t.Errorf("%s: waited %v", k, clock.slept)
	}
	if open, err := b.Sessions(repo); err != nil || len(open) != 0 && !k.cut {
		t.Errorf("%s left %d uploads open, %v", k, len(open), err)
	}
	b.again(t, repo, next, attached...)
}

// attachments returns two artifacts that refer to idx, if k attaches any.
func (k kase) attachments(t *testing.T, idx v1.ImageIndex) (all []v1.Image) {
	t.Helper()
	if !k.attached {
		return nil
	}
	subject, err := manifest.Describe(idx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		img := mutate.MediaType(regtest.Image(t, "amd64", 40, 1+i), types.OCIManifestSchema1)
		all = append(all, mutate.Subject(img, subject).(v1.Image))
	}
	return all
}

// verifyReferrers checks in the judge that all that was attached to next is listed.
func (b *bench) verifyReferrers(t *testing.T, repo string, next v1.ImageIndex, attached []v1.Image) {
	t.Helper()
	if len(attached) == 0 {
		return
	}
	subject, err := next.Digest()
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.direct().Referrers(t.Context(), b.Judge()+"/"+repo, subject)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range attached {
		want, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(list, func(r manifest.Referrer) bool { return r.Digest == want }) {
			t.Errorf("the tag of %s moved, and %s is not among its %d referrers", repo, want, len(list))
		}
	}
}

// again is the run without faults after one with a fault.
func (b *bench) again(t *testing.T, repo string, next v1.ImageIndex, attached ...v1.Image) {
	t.Helper()
	c, clock := b.client()
	if err := push(t.Context(), c, b.Host+"/"+repo, next, attached...); err != nil || clock.naps != 0 {
		t.Errorf("the clean run: %v, %d waits", err, clock.naps)
	}
	if !b.verifyTag(t, repo, nil, next) {
		t.Error("the clean run left the tag as it was")
	}
	b.verifyReferrers(t, repo, next, attached)
	b.Reset()
}

// struck reports whether a fault struck any request of f's kind.
func (b *bench) struck(f regtest.Fault) bool {
	return slices.ContainsFunc(b.Requests(), func(r regtest.Request) bool { return r.Faulted && r.Method == f.Method })
}

// checkError requires that an error names host, request and number of attempts, on one
// clean line without a secret.
func (b *bench) checkError(t *testing.T, err error, repo string) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if e := (*registry.Error)(nil); errors.As(err, &e) {
		if e.Host != b.Host || e.Repository != repo || e.Op == "" || e.Attempts < 1 {
			t.Errorf("incomplete: %+v", e)
		}
	} else if !strings.Contains(text, repo) {
		t.Errorf("does not say where: %s", text)
	}
	if strings.Contains(text, password) || strings.ContainsAny(text, "\r\n\x1b") || len(text) > 1024 {
		t.Errorf("%q", text)
	}
}

// struckAt returns which of n requests the case of this number strikes: the first, the
// middle and the last, or one of them unless MABUILD_FAULTS is whole.
func struckAt(n, number int) []int {
	if n == 0 {
		return nil
	}
	all := slices.Compact([]int{1, (n + 1) / 2, n})
	if os.Getenv("MABUILD_FAULTS") != "whole" {
		at := number % len(all)
		return all[at : at+1]
	}
	return all
}

// moments runs try as a test for the first, the middle and the last matching request of a
// push, or for one of them in turn.
func (b *bench) moments(t *testing.T, k kase, try func(t *testing.T, nth int)) {
	t.Helper()
	key := fmt.Sprint(k.fault.Method, k.fault.Path, k.new, k.attached, k.first)
	if b.counts[key] == 0 {
		b.counts[key] = b.count(t, k)
	}
	n := b.counts[key]
	for _, nth := range struckAt(n, b.turn) {
		t.Run(k.name(nth), func(t *testing.T) {
			regtest.Repeat(t)
			try(t, nth)
		})
	}
	b.turn++
	if n == 0 {
		t.Errorf("a push makes no %s %s", k.fault.Method, k.fault.Path)
	}
}

// count returns the number of requests of a push that k's fault matches.
func (b *bench) count(t *testing.T, k kase) int {
	t.Helper()
	repo := fmt.Sprintf("count%d", b.cases.Add(1))
	if !k.new {
		if err := b.direct().Put(t.Context(), b.Judge()+"/"+repo+":v1", program(t, 300)); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := b.client()
	b.begin(t, c, k)
	b.Inject(regtest.Fault{Method: k.fault.Method, Path: k.fault.Path, Times: -1, Phase: regtest.Down, After: 1 << 40, Action: regtest.Flip})
	next := program(t, 300)
	if err := push(t.Context(), c, b.Host+"/"+repo, next, k.attachments(t, next)...); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range b.Requests() {
		if r.Faulted && r.Method == k.fault.Method {
			n++
		}
	}
	b.Reset()
	return n
}

// A request that fails once or three times, whichever it is, is repeated. One that always
// fails ends the push with an error that names it.
func TestPushTemporary(t *testing.T) {
	for _, kind := range requests {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{})
			for i, status := range []int{500, 502, 503, 504, 408, 429, 499, 522} {
				fault := regtest.Fault{Method: kind.method, Path: kind.path, Status: status, Times: 1 + 2*(i%2)}
				k := kase{fault: fault, attached: kind.attached}
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
			for _, status := range []int{503, 429} {
				fault := regtest.Fault{Method: kind.method, Path: kind.path, Status: status, Times: -1}
				k := kase{fault: fault, want: refusedByRegistry, new: kind.name != "HEAD child", attached: kind.attached} // new ones are not requested
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
		})
	}
}

// A lost response, and a connection that ends before or during a request, cost a
// repetition.
func TestPushCut(t *testing.T) {
	for _, kind := range requests {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{})
			for _, action := range []regtest.Action{regtest.Close, regtest.Abort} {
				for _, phase := range []regtest.Phase{regtest.Before, regtest.Answer, regtest.Up} {
					if phase == regtest.Up && kind.method != "PUT" {
						continue
					}
					fault := regtest.Fault{Method: kind.method, Path: kind.path, Phase: phase, After: 100, Action: action}
					k := kase{fault: fault, cut: true, new: kind.method == "POST", attached: kind.attached}
					b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
				}
			}
		})
	}
}

// refusals are the statuses of responses that refuse a request or are useless.
var refusals = []int{200, 204, 400, 401, 403, 404, 405, 409, 411, 413, 415, 416, 418, 501}

// refusal is the result of a push that always gets this status for a request of this kind.
func refusal(kind string, status int) outcome {
	head := strings.HasPrefix(kind, "HEAD ")
	switch {
	case status == 401:
		return credentials
	case kind == "GET referrers" && status != 200:
		return done // there is no referrers API, so the list is under the tag
	case kind == "GET list" && (status == 403 || status == 404):
		return done // there is no list yet
	case kind == "GET referrers", kind == "GET list" && status == 200:
		return content // a page, not a list
	case kind == "HEAD blob" && status == 200:
		return content // the size differs from that of the blob
	case head && status == 200:
		return done // the response has no digest, so the content may exist or not
	case head && status == 204:
		return refusedByRegistry // no registry answers with this status
	case head:
		return done // a refusal does not say whether the content exists
	case status == 403, kind == "token" && status == 400:
		return credentials
	}
	return refusedByRegistry
}

// A response that refuses a request or is useless leads to a clear error, or to another
// request.
func TestPushRefused(t *testing.T) {
	for _, kind := range requests {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{})
			for _, status := range refusals {
				fault := regtest.Fault{Method: kind.method, Path: kind.path, Status: status, Times: -1, Header: http.Header{"Content-Type": {"text/html"}}}
				if status != 204 {
					fault.Body = []string{"", "<html>\x1b[31m\r\nplease log in</html>", `{"errors":[{"code":"DENIED","message":"no\r\n\u001b[31m\u202e"}]}`}[status%3]
				}
				k := kase{fault: fault, want: refusal(kind.name, status), cut: status < 300, attached: kind.attached}
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
		})
	}
}
