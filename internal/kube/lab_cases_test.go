//go:build lab

package kube_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/manifest/registry"
)

// podOf returns a pod with the spec of a workload as an element of a list. arch, if it is not
// empty, is one more condition.
func podOf(t *testing.T, i int, spec *yaml.Node, arch string) string {
	t.Helper()
	var s map[string]any
	if err := spec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	s["automountServiceAccountToken"] = false
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := s[list].([]any)
		for n, c := range containers {
			if m := c.(map[string]any); m["name"] == nil {
				m["name"] = fmt.Sprintf("c%d", n)
			}
		}
	}
	if arch != "" {
		selector, _ := s["nodeSelector"].(map[string]any)
		if selector == nil {
			selector = map[string]any{}
		}
		if own := selector[kube.LabelArch]; own != nil && own != arch {
			t.Fatalf("the workload selects %v, and the finding is about %s", own, arch)
		}
		selector[kube.LabelArch] = arch
		s["nodeSelector"] = selector
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": fmt.Sprintf("p%d", i)}, "spec": s})
	if err != nil {
		t.Fatal(err)
	}
	return "- " + string(text) + "\n"
}

// What check says of the cases in its script is what the scheduler does: where it says that a
// pod may land, one lands; a pod lands nowhere that check did not warn of; and what place
// writes lands only where all images run. LAB_REPOSITORY has the images, CHILD is a digest of
// multi:1.
func TestLabCases(t *testing.T) {
	archive, err := txtar.ParseFile("../../testdata/script/check.txtar")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "cases.yaml" })
	repository, child := os.Getenv("LAB_REPOSITORY"), os.Getenv("CHILD")
	if at < 0 || repository == "" || child == "" {
		t.Fatal("no cases, LAB_REPOSITORY or CHILD")
	}
	text := strings.NewReplacer("$REG", repository, "$CHILD", child).Replace(string(archive.Files[at].Data))
	f, err := kube.Parse("cases.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	live, err := kube.Cluster(t.Context(), "", false)
	if err != nil {
		t.Fatal(err)
	}
	nodes, byName := live[0].Nodes(), map[string]*kube.Node{}
	for _, n := range nodes {
		byName[n.Name] = n
	}
	images := &kube.Images{Source: &registry.Client{}}
	result, err := (&check.Checker{Images: images, Nodes: nodes, Now: time.Now()}).Run(t.Context(), []*kube.File{f})
	if err != nil {
		t.Fatal(err)
	}
	// The pods of all workloads, and what has to hold for the node of each.
	var pods []string
	var holds []func(n *kube.Node)
	add := func(spec *yaml.Node, arch string, hold func(n *kube.Node)) {
		pods, holds = append(pods, podOf(t, len(pods), spec, arch)), append(holds, hold)
	}
	warned := 0
	for _, w := range f.Workloads() {
		if w.Spec == nil {
			continue
		}
		var findings []check.Finding
		for _, one := range result.Findings {
			if one.Workload == w.String() {
				findings = append(findings, one)
			}
		}
		// An image named by a child's digest is one finding, whatever it lacks.
		says := func(n *kube.Node, c kube.Container) bool {
			return slices.ContainsFunc(findings, func(one check.Finding) bool {
				ours := one.Container == c.Name
				return ours && one.Rule == "platform-missing" && slices.Contains(one.Platforms, n.Key()) || ours && one.Rule == "digest-is-child" || one.Rule == "no-common-platform"
			})
		}
		for range 4 {
			add(w.Spec, "", func(n *kube.Node) {
				unschedulable := slices.ContainsFunc(findings, func(one check.Finding) bool { return one.Rule == "unschedulable" })
				if unschedulable != (n == nil) {
					t.Errorf("%s: unschedulable is %t, and it lands on %v", w, unschedulable, n)
				}
				for _, c := range w.Containers {
					if n == nil || w.DataOnly(c) {
						continue
					}
					if image, err := images.Get(t.Context(), c.Image); err != nil || !kube.Runs(image.Have, n) && !says(n, c) {
						t.Errorf("%s lands on %s, where %s does not run (%v), and check is silent", w, n.Name, c.Image, err)
					}
				}
			})
		}
		for _, one := range findings {
			if one.Rule != "platform-missing" {
				continue
			}
			for _, key := range one.Platforms {
				_, arch, _ := strings.Cut(key, "/")
				warned++
				add(w.Spec, arch, func(n *kube.Node) {
					if n == nil {
						t.Errorf("%s cannot land on %s, and check says it may", w, key)
					}
				})
			}
		}
		supported, err := images.Supported(t.Context(), w, nodes)
		if err != nil {
			t.Fatal(err)
		}
		patches, err := kube.Place(w, supported, nodes, kube.Placing{Always: true})
		if err != nil {
			continue // and no file is written
		}
		data, err := f.Apply([]kube.Edit{{Doc: w.Doc, Object: w.Object, Patches: patches}})
		if err != nil {
			t.Fatal(err)
		}
		placed, err := kube.Parse("placed", data)
		if err != nil {
			t.Fatal(err)
		}
		after := placed.Workloads()[slices.IndexFunc(placed.Workloads(), func(other *kube.Workload) bool { return other.String() == w.String() })]
		for range 4 {
			add(after.Spec, "", func(n *kube.Node) {
				if n != nil && !kube.Runs(supported, n) {
					t.Errorf("%s is placed on %s, and its images run on %v", w, n.Name, supported)
				}
			})
		}
	}
	if warned < 8 {
		t.Errorf("check warns of %d platforms", warned)
	}
	for i, node := range kube.Land(t, "cases", pods) {
		holds[i](byName[node])
	}
}
