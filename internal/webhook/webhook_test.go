package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// platforms is a lookup that knows images by their names: example.com/ARCH-ARCH:TAG.
func platforms(_ context.Context, ref string) ([]ocispec.Platform, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(ref, "example.com/"), ":")
	if name == "gone" {
		return nil, errors.New("404")
	}
	var list []ocispec.Platform
	for arch := range strings.SplitSeq(name, "-") {
		list = append(list, ocispec.Platform{OS: "linux", Architecture: arch})
	}
	return list, nil
}

func handler(lookup func(context.Context, string) ([]ocispec.Platform, error)) *Handler {
	h := &Handler{Images: &Cache{Lookup: lookup}, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	h.Start()
	return h
}

// review sends a pod and returns the answer.
func ask(t *testing.T, h http.Handler, pod string) *response {
	t.Helper()
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "object": %s}}`, pod)
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
	families, err := h.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(families); !strings.Contains(got, `value:"placed"`) || !strings.Contains(got, "value:2") {
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

// The patch of a pod gives the same pod as mabuild place does with the file.
func TestPatchIsThatOfPlace(t *testing.T) {
	h := handler(platforms)
	for _, in := range []string{
		pod("example.com/arm64:1"),
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"a/b": "~"}}, "spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, {}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}, {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64", "amd64"]}]}]}}}, "containers": [{"image": "example.com/arm64:1"}]}}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"affinity": {"podAffinity": {}}, "initContainers": [{"image": "example.com/s390x-arm64:1"}], "containers": [{"image": "example.com/arm64:1"}]}}`,
	} {
		r := ask(t, h, in)
		var object any
		if err := json.Unmarshal([]byte(in), &object); err != nil {
			t.Fatal(err)
		}
		var operations []struct {
			Op, Path string
			Value    any
		}
		if err := json.Unmarshal(r.Patch, &operations); err != nil {
			t.Fatalf("%s: %v", r.Patch, err)
		}
		for _, o := range operations {
			object = apply(t, object, strings.Split(o.Path, "/")[1:], o.Op, o.Value)
		}
		f, err := kube.Parse("pod", []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		w := f.Workloads()[0]
		supported, err := h.Images.Supported(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		patches, err := kube.Place(w, supported, nil, kube.Placing{Always: true})
		if err != nil {
			t.Fatal(err)
		}
		data, err := f.Apply([]kube.Edit{{Doc: w.Doc, Object: w.Object, Patches: patches}})
		if err != nil {
			t.Fatal(err)
		}
		var file any
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(object)
		b, _ := json.Marshal(file)
		if !bytes.Equal(a, b) {
			t.Errorf("the webhook makes\n%s\nplace makes\n%s", a, b)
		}
	}
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
	h := handler(func(ctx context.Context, ref string) ([]ocispec.Platform, error) {
		select {
		case <-down:
			return platforms(ctx, ref)
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
		Lookup: func(ctx context.Context, ref string) ([]ocispec.Platform, error) {
			asked.Add(1)
			if fail.Load() {
				return nil, errors.New("down")
			}
			return platforms(ctx, ref)
		},
	}
	get := func(image string, want int64, wantErr bool) {
		t.Helper()
		f, err := kube.Parse("pod", []byte(pod(image)))
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Supported(t.Context(), f.Workloads()[0])
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
	h := handler(func(ctx context.Context, ref string) ([]ocispec.Platform, error) {
		image, err := (&kube.Images{Source: &registry.Client{}}).Get(ctx, ref)
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
