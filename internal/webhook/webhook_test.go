package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/metrics"

	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// platforms is a lookup that knows images by their names: example.com/ARCH-ARCH:TAG.
func platforms(_ context.Context, p Pull) ([]ocispec.Platform, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(p.Image, "example.com/"), ":")
	if name == "gone" {
		return nil, errors.New("404")
	}
	var list []ocispec.Platform
	for arch := range strings.SplitSeq(name, "-") {
		list = append(list, ocispec.Platform{OS: "linux", Architecture: arch})
	}
	return list, nil
}

func handler(lookup func(context.Context, Pull) ([]ocispec.Platform, error)) *Handler {
	h := &Handler{Images: &Cache{Lookup: lookup}, Log: slog.New(slog.DiscardHandler), Metrics: metrics.New()}
	return h
}

// review sends a pod and returns the answer.
func ask(t *testing.T, h http.Handler, pod string) *response {
	t.Helper()
	return askIn(t, h, "default", pod)
}

// askIn is ask for a pod of a namespace.
func askIn(t *testing.T, h http.Handler, namespace, pod string) *response {
	t.Helper()
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "namespace": %q, "object": %s}}`, namespace, pod)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/place", strings.NewReader(body)))
	var r review
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || r.Response == nil || r.Response.UID != "u" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return r.Response
}

func pod(images ...string) string {
	var containers []string
	for i, image := range images {
		containers = append(containers, fmt.Sprintf(`{"name": "c%d", "image": %q}`, i, image))
	}
	return `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}, "spec": {"futureField": {"a": [1]}, "containers": [` + strings.Join(containers, ", ") + `]}}`
}

func TestAnswers(t *testing.T) {
	h := handler(platforms)
	for name, c := range map[string]struct{ pod, patch, warning string }{
		"one architecture": {pod("example.com/arm64:1"), `"values":["arm64"]`, ""},
		"the common ones":  {pod("example.com/arm64-amd64:1", "example.com/amd64-s390x:1"), `"values":["amd64"]`, ""},
		"nothing common":   {pod("example.com/arm64:1", "example.com/amd64:1"), "", "its images have no platform in common"},
		"an unknown image": {pod("example.com/gone:1"), "", "404"},
		"no reference":     {pod("Not A Reference"), "", "is not the name of an image"},
		"a selector":       {`{"kind": "Pod", "spec": {"nodeSelector": {"kubernetes.io/arch": "s390x"}, "containers": [{"image": "example.com/arm64:1"}]}}`, "", ""},
		"opted out":        {`{"kind": "Pod", "metadata": {"annotations": {"mabuild.dev/place": "false"}}, "spec": {"containers": [{"image": "example.com/arm64:1"}]}}`, "", ""},
		"of a DaemonSet":   {`{"kind": "Pod", "metadata": {"ownerReferences": [{"kind": "DaemonSet", "controller": true}]}, "spec": {"containers": [{"image": "example.com/arm64:1"}]}}`, "", ""},
		"not a pod":        {`{"kind": "Service", "spec": {}}`, "", ""},
		"not an object":    {`[1, "\u0000"]`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(t, h, c.pod)
			if !r.Allowed {
				t.Errorf("denied: %+v", r)
			}
			if (c.patch == "") != (len(r.Patch) == 0) || !strings.Contains(string(r.Patch), c.patch) {
				t.Errorf("patch %s, want %s", r.Patch, c.patch)
			}
			if got := strings.Join(r.Warnings, "\n"); (c.warning == "") != (got == "") || !strings.Contains(got, c.warning) {
				t.Errorf("warnings %q, want %s", got, c.warning)
			}
			for _, warning := range r.Warnings {
				if len(warning) > 256 {
					t.Errorf("a warning has %d bytes", len(warning))
				}
			}
		})
	}
	answer := httptest.NewRecorder()
	h.Metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if got := answer.Body.String(); !strings.Contains(got, `mabuild_webhook_reviews_total{result="placed"} 2`) || !strings.Contains(got, `mabuild_webhook_review_seconds_bucket{le="+Inf"}`) {
		t.Errorf("metrics: %s", got)
	}
	h.Deny = true
	if r := ask(t, h, pod("example.com/arm64:1", "example.com/amd64:1")); r.Allowed || r.Status == nil || r.Status.Code != http.StatusForbidden {
		t.Errorf("not denied: %+v", r)
	}
	if r := ask(t, h, pod("example.com/gone:1")); !r.Allowed {
		t.Errorf("an unknown image is denied: %+v", r)
	}
	h.Deny = false
	h.Nodes, _ = kube.ParsePlatforms([]string{"linux/amd64,linux/arm64"})
	if r := ask(t, h, pod("example.com/arm64-amd64:1")); len(r.Patch) > 0 {
		t.Errorf("runs on all nodes: %s", r.Patch)
	}
}

func TestInvalidReviews(t *testing.T) {
	h := handler(platforms)
	for _, body := range []string{"", "{", `{"request": {}}`, `[]`, strings.Repeat("x", maxReview+1)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/place", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%.20q: %d", body, w.Code)
		}
	}
}

// Pods with other pull secrets are answered separately, and only those of namespaces that the
// webhook was told. What a Secret that is not there or that it may not read leaves is an image
// that is not known.
func TestPullSecrets(t *testing.T) {
	s := &apiServer{pull: []byte(`{"auths": {"*.example/team": {"username": "u", "password": "p"}}}`)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	api := &API{URL: server.URL, Client: server.Client(), Token: func() (string, error) { return "token", nil }}
	var asked sync.Map
	h := handler(func(ctx context.Context, p Pull) ([]ocispec.Platform, error) {
		asked.Store(p, true)
		if p.Secrets == "" {
			return nil, errors.New("refused")
		}
		logins, err := api.PullSecrets(ctx, p.Namespace, strings.Split(p.Secrets, ","))
		if err != nil {
			return nil, err
		}
		if want := []kube.Login{{Pattern: "*.example/team", Username: "u", Password: "p"}}; !slices.Equal(logins, want) {
			return nil, fmt.Errorf("%v", logins)
		}
		return []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, nil
	})
	h.Images.Namespaces = []string{"shop"}
	h.Budget = time.Minute
	const image = "r.example/team/app:1"
	for _, c := range []struct{ namespace, secrets, warning string }{
		{"shop", `{"name": "none"}, {"name": "pull"}, {"name": "pull"}`, ""},
		{"shop", ``, "refused"},
		{"shop", `{"name": "other"}`, "403"},
		{"elsewhere", `{"name": "pull"}`, "refused"},
	} {
		pod := fmt.Sprintf(`{"kind": "Pod", "spec": {"imagePullSecrets": [%s], "containers": [{"image": %q}]}}`, c.secrets, image)
		r := askIn(t, h, c.namespace, pod)
		if placed := strings.Contains(string(r.Patch), "arm64"); placed != (c.warning == "") || !strings.Contains(strings.Join(r.Warnings, ""), c.warning) {
			t.Errorf("%+v: %s %q", c, r.Patch, r.Warnings)
		}
	}
	for _, want := range []Pull{{image, "shop", "none,pull"}, {image, "", ""}, {image, "shop", "other"}} {
		if _, ok := asked.LoadAndDelete(want); !ok {
			t.Errorf("not asked: %v", want)
		}
	}
	asked.Range(func(p, _ any) bool { t.Errorf("asked: %v", p); return true })
}

// The patch of a pod gives the same pod as mabuild place does with the file.
func FuzzPatchIsThatOfPlace(f *testing.F) {
	h := handler(platforms)
	for _, in := range []string{
		pod("example.com/arm64:1"),
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"a/b": "~"}}, "spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, {}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}, {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64", "amd64"]}]}]}}}, "containers": [{"image": "example.com/arm64:1"}]}}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"affinity": {"podAffinity": {}}, "initContainers": [{"image": "example.com/s390x-arm64:1"}], "containers": [{"image": "example.com/arm64:1"}]}}`,
	} {
		f.Add([]byte(in))
	}
	// Pods of odd shapes, which the fuzzer changes: choices are bytes of the seed.
	for seed := range uint64(50) {
		f.Add([]byte(randomPod(rand.New(rand.NewPCG(seed, 0)))))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var object map[string]any
		if json.Unmarshal(in, &object) != nil || !bytes.Equal(bytes.TrimSpace(in), in) {
			return // the API server sends objects
		}
		r := ask(t, h, string(in))
		if !r.Allowed {
			t.Fatalf("denied: %+v", r)
		}
		var changed any = object
		if len(r.Patch) > 0 {
			var operations []struct {
				Op, Path string
				Value    any
			}
			if err := json.Unmarshal(r.Patch, &operations); err != nil {
				t.Fatalf("%s: %v", r.Patch, err)
			}
			for _, o := range operations {
				changed = apply(t, changed, strings.Split(o.Path, "/")[1:], o.Op, o.Value)
			}
		}
		file, err := kube.Parse("pod", in)
		if err != nil {
			if len(r.Patch) > 0 {
				t.Fatalf("a patch for what cannot be parsed: %v", err)
			}
			return
		}
		if want, ok := placed(t, h, file); ok {
			got, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the webhook makes\n%s\nplace makes\n%s", got, want)
			}
		}
	})
}

// placed returns the file as place writes it, or false if the webhook leaves such a pod alone.
func placed(t *testing.T, h *Handler, f *kube.File) ([]byte, bool) {
	data := f.Data
	for _, w := range f.Workloads() {
		if w.Certainty != kube.Certain || w.Kind != "Pod" || w.Owner == "DaemonSet" || w.Annotations[kube.AnnotationPlace] == "false" {
			continue
		}
		supported, err := h.Images.Supported(t.Context(), "default", w)
		if err != nil {
			continue
		}
		patches, err := kube.Place(w, supported, nil, kube.Placing{Always: true})
		if err != nil {
			continue
		}
		if data, err = f.Apply([]kube.Edit{{Doc: w.Doc, Object: w.Object, Patches: patches}}); err != nil {
			return nil, false // place refuses what it cannot write byte-exact
		}
	}
	var object any
	if json.Unmarshal(data, &object) != nil {
		t.Fatalf("place wrote %s", data)
	}
	out, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return out, true
}

// randomPod returns a pod with terms of any shape.
func randomPod(r *rand.Rand) string {
	pick := func(choices ...string) string { return choices[r.IntN(len(choices))] }
	expression := func() string {
		return pick(
			`{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64", "amd64"]}`, `{"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["s390x"]}`,
			`{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}`, `{"key": "gpu", "operator": "Exists"}`, `{"key": "a/b~c", "operator": "Gt", "values": ["1"]}`)
	}
	list := func(one func() string) string {
		var all []string
		for range r.IntN(3) {
			all = append(all, one())
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	term := func() string {
		return pick(`{}`, `{"matchExpressions": `+list(expression)+`}`, `{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}`,
			`{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}], "matchExpressions": `+list(expression)+`}`)
	}
	affinity := pick(``, `"affinity": null,`, `"affinity": {},`, `"affinity": {"podAffinity": {}},`, `"affinity": {"nodeAffinity": {}},`,
		`"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": `+list(term)+`}}},`,
		`"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": `+term()+`}], "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": `+list(term)+`}}},`)
	image := func() string {
		return fmt.Sprintf(`{"image": "example.com/%s:1"}`, pick("arm64", "amd64", "arm64-amd64", "amd64-s390x", "gone"))
	}
	return fmt.Sprintf(`{"kind": "Pod", "metadata": %s, "spec": {%s %s "future": {"a": [1]}, "initContainers": %s, "containers": [%s]}}`,
		pick(`{}`, `{"annotations": {"mabuild.dev/placed": "arm64"}}`, `{"annotations": {"a/b": "~"}, "labels": null}`),
		affinity, pick(``, `"nodeSelector": {"kubernetes.io/os": "linux"},`, `"nodeSelector": {"kubernetes.io/arch": "arm64"},`, `"nodeSelector": null,`), list(image), image())
}

// apply carries out one operation of a JSON patch (RFC 6902).
func apply(t *testing.T, object any, path []string, op string, value any) any {
	t.Helper()
	if len(path) == 0 {
		return value
	}
	key := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	switch o := object.(type) {
	case map[string]any:
		if _, there := o[key]; len(path) > 1 && !there || op == "replace" && !there {
			t.Fatalf("no %s for %s", key, op)
		}
		o[key] = apply(t, o[key], path[1:], op, value)
		return o
	case []any:
		var i int
		if _, err := fmt.Sscan(key, &i); err != nil || i > len(o) {
			t.Fatalf("position %s of %d", key, len(o))
		}
		if len(path) == 1 && op == "add" {
			return append(append(append([]any{}, o[:i]...), value), o[i:]...)
		}
		o[i] = apply(t, o[i], path[1:], op, value)
		return o
	}
	t.Fatalf("%v has no %s", object, key)
	return nil
}

// A registry that does not answer delays no pod beyond the budget: 500 pods at once are
// admitted unchanged, with a warning. When the registry answers again, the next pod is placed.
func TestRegistryDown(t *testing.T) {
	down := make(chan struct{})
	h := handler(func(ctx context.Context, p Pull) ([]ocispec.Platform, error) {
		select {
		case <-down:
			return platforms(ctx, p)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	h.Budget = 50 * time.Millisecond
	var wg sync.WaitGroup
	var late, wrong atomic.Int64
	for i := range 500 {
		wg.Go(func() {
			began := time.Now()
			r := ask(t, h, pod(fmt.Sprintf("example.com/arm64:%d", i)))
			if time.Since(began) > 30*time.Second { // what a test on a busy machine can say
				late.Add(1)
			}
			if !r.Allowed || len(r.Patch) > 0 || len(r.Warnings) != 1 {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if late.Load() > 0 || wrong.Load() > 0 {
		t.Errorf("%d late, %d wrong", late.Load(), wrong.Load())
	}
	h.Images.mu.Lock()
	if running := h.Images.running; running > maxLookups {
		t.Errorf("%d lookups at once", running)
	}
	h.Images.mu.Unlock()
	close(down)
	idle(h.Images)
	h.Budget = time.Minute
	if r := ask(t, h, pod("example.com/arm64:0")); !strings.Contains(string(r.Patch), "arm64") {
		t.Errorf("not placed after the registry answered: %+v", r)
	}
}

// idle waits until no lookup runs.
func idle(c *Cache) {
	for {
		c.mu.Lock()
		running := c.running
		c.mu.Unlock()
		if running == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Answers have their lifetimes: a digest for ever, a tag ten minutes and then the old answer
// until the new one is there, an error half a minute. A failure never replaces an answer.
func TestLifetimes(t *testing.T) {
	now := time.Now()
	var asked atomic.Int64
	var fail atomic.Bool
	c := &Cache{
		Now: func() time.Time { return now },
		Lookup: func(ctx context.Context, p Pull) ([]ocispec.Platform, error) {
			asked.Add(1)
			if fail.Load() {
				return nil, errors.New("down")
			}
			return platforms(ctx, p)
		},
	}
	get := func(image string, want int64, wantErr bool) {
		t.Helper()
		f, err := kube.Parse("pod", []byte(pod(image)))
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Supported(t.Context(), "default", f.Workloads()[0])
		idle(c)
		if asked.Load() != want || (err != nil) != wantErr || err == nil && len(list) != 1 {
			t.Errorf("%s: asked %d times, want %d; %v %v", image, asked.Load(), want, list, err)
		}
	}
	digest := "example.com/arm64@sha256:" + strings.Repeat("a", 64)
	get("example.com/arm64:1", 1, false)
	get(digest, 2, false)
	now = now.Add(fresh + time.Second)
	get(digest, 2, false)
	get("example.com/arm64:1", 3, false) // the old answer, and a lookup beside it
	fail.Store(true)
	now = now.Add(fresh + time.Second)
	get("example.com/arm64:1", 4, false)
	get("example.com/arm64:2", 5, true)
	get("example.com/arm64:2", 5, true)
	now = now.Add(failed + time.Second)
	fail.Store(false)
	get("example.com/arm64:2", 6, true) // the old error; the lookup beside it succeeds
	get("example.com/arm64:2", 6, false)
	now = now.Add(-time.Hour) // a clock that jumps back
	get("example.com/arm64:2", 7, false)
}

// BenchmarkReview answers reviews of a known image. The goal is 1 ms.
func BenchmarkReview(b *testing.B) {
	h := handler(platforms)
	body := []byte(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "object": ` + pod("example.com/arm64:1", "example.com/arm64-amd64:1") + `}}`)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/place", bytes.NewReader(body)))
		if !bytes.Contains(w.Body.Bytes(), []byte("patch")) {
			b.Fatal(w.Body)
		}
	}
}

// Against a real registry: one request for an index, and the credentials of no pod.
func TestRealRegistry(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/acme/app:v1"
	client := &registry.Client{}
	if err := client.Put(t.Context(), ref, regtest.RandomIndex(t, 10, 1, "amd64", "arm64")); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	h := handler(func(ctx context.Context, p Pull) ([]ocispec.Platform, error) {
		image, err := (&kube.Images{Source: &registry.Client{}}).Get(ctx, p.Image)
		if err != nil {
			return nil, err
		}
		return image.Have, nil
	})
	h.Budget = time.Minute
	for range 3 {
		if got := ask(t, h, pod(ref)); !strings.Contains(string(got.Patch), `["amd64","arm64"]`) {
			t.Errorf("%+v", got)
		}
	}
	if got := fmt.Sprint(r.Tally()); got != "map[GET manifest:1]" {
		t.Errorf("requests: %s", got)
	}
}
