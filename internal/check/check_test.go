package check

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// cluster is a registry with images of two platforms, and workloads that use each of them
// several times.
func cluster(t testing.TB, images, workloads int) (*regtest.Registry, *kube.File) {
	t.Helper()
	r := regtest.Start(t, regtest.Options{})
	client := &registry.Client{}
	index := regtest.RandomIndex(t, 10, 1, "amd64", "arm64")
	for i := range images {
		if err := client.Put(t.Context(), fmt.Sprintf("%s/app-%d:v1", r.Host, i), index); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	for i := range workloads {
		fmt.Fprintf(&text, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w%d}\nspec: {template: {spec: {containers: [{name: c, image: %q}]}}}\n", i, fmt.Sprintf("%s/app-%d:v1", r.Host, i%images))
	}
	f, err := kube.Parse("in.yaml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	r.Reset()
	return r, f
}

// run checks the workloads as a new process with a cache does.
func run(t testing.TB, f *kube.File, dir string) {
	t.Helper()
	records, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := kube.ParsePlatforms([]string{"linux/amd64,linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	c := &Checker{Images: &kube.Images{Source: &registry.Client{CacheDir: dir}, Fresh: &registry.Client{}, Records: records}, Nodes: nodes, Now: time.Now()}
	result, err := c.Run(t.Context(), []*kube.File{f})
	if err != nil || len(result.Findings) > 0 || result.Workloads != len(f.Docs) {
		t.Fatalf("%v, %d workloads: %v", err, result.Workloads, result.Findings)
	}
}

// The first run costs three requests for an image of two platforms, and the next ones one
// HEAD for its tag, however many workloads use it.
func TestRequests(t *testing.T) {
	const images = 10
	r, f := cluster(t, images, 3*images)
	dir := t.TempDir()
	run(t, f, dir)
	if got, want := fmt.Sprint(r.Tally()), fmt.Sprintf("map[GET manifest:%d]", 3*images); got != want {
		t.Errorf("cold: %s, want %s", got, want)
	}
	r.Reset()
	run(t, f, dir)
	if got, want := fmt.Sprint(r.Tally()), fmt.Sprintf("map[HEAD manifest:%d]", images); got != want {
		t.Errorf("warm: %s, want %s", got, want)
	}
}

// BenchmarkCheck checks 500 workloads with 200 images. The goal is a second with a warm
// cache.
func BenchmarkCheck(b *testing.B) {
	_, f := cluster(b, 200, 500)
	dir := b.TempDir()
	run(b, f, dir)
	b.ReportAllocs()
	for b.Loop() {
		run(b, f, dir)
	}
}

func TestIgnores(t *testing.T) {
	now := time.Date(2027, 1, 31, 23, 0, 0, 0, time.UTC)
	c := &Checker{Now: now}
	for _, one := range []struct {
		ignore Ignore
		hides  bool
	}{
		{Ignore{Rule: "platform-missing"}, true},
		{Ignore{Rule: "unschedulable"}, false},
		{Ignore{Image: "ghcr.io/acme/*"}, true},
		{Ignore{Image: "ghcr.io/acme/app"}, true},
		{Ignore{Image: "ghcr.io/acme/app:v1"}, true},
		{Ignore{Image: "ghcr.io/acme/app:v2"}, false},
		{Ignore{Workload: "Deployment/app"}, true},
		{Ignore{Workload: "prod/Deployment/app"}, true},
		{Ignore{Workload: "test/Deployment/*"}, false},
		{Ignore{Workload: "[", Rule: "platform-missing"}, false},
		{Ignore{Rule: "platform-missing", Until: now.AddDate(0, 0, 0)}, true},
		{Ignore{Rule: "platform-missing", Until: now.AddDate(0, 0, -2)}, false},
	} {
		c.Ignores = []Ignore{one.ignore}
		finding := Finding{Rule: "platform-missing", Level: Error, Workload: "prod/Deployment/app", Image: "ghcr.io/acme/app:v1"}
		kept, ignored := c.ignore(nil, []Finding{finding})
		warned := len(kept) > 0 && kept[len(kept)-1].Rule == "ignore-unused"
		if (ignored == 1) != one.hides || warned == one.hides {
			t.Errorf("%s: %d ignored, kept %v", one.ignore, ignored, kept)
		}
	}
}

// A fingerprint stays when the tag, the line or the file changes, and differs for another
// container.
func TestFingerprint(t *testing.T) {
	a := Finding{Rule: "r", Workload: "w", Container: "c", Image: "x/y:1", File: "a", Line: 1}
	b := Finding{Rule: "r", Workload: "w", Container: "c", Image: "x/y:2@sha256:00", File: "b", Line: 2}
	d := Finding{Rule: "r", Workload: "w", Container: "d", Image: "x/y:1"}
	for _, f := range []*Finding{&a, &b, &d} {
		f.seal()
	}
	if a.Fingerprint != b.Fingerprint || a.Fingerprint == d.Fingerprint {
		t.Errorf("%s %s %s", a.Fingerprint, b.Fingerprint, d.Fingerprint)
	}
}
