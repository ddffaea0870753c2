//go:build lab

package kube

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
)

// These tests ask the scheduler of the lab in .ci/kube, which kubectl reaches: make kube.

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// land creates pods and returns the node of each, or "" for one that stays pending.
func land(t *testing.T, namespace string, pods []string) []string {
	t.Helper()
	kubectl(t, "", "create", "namespace", namespace)
	t.Cleanup(func() { _ = exec.Command("kubectl", "delete", "namespace", namespace, "--wait=false").Run() })
	kubectl(t, "apiVersion: v1\nkind: List\nitems:\n"+strings.Join(pods, ""), "create", "-n", namespace, "-f", "-")
	deadline := time.Now().Add(time.Minute)
	for {
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Spec     struct{ NodeName string }
				Status   struct {
					Conditions []struct{ Type, Status, Reason string }
				}
			}
		}
		if err := json.Unmarshal([]byte(kubectl(t, "", "get", "pods", "-n", namespace, "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		nodes, decided := make([]string, len(pods)), 0
		for _, pod := range list.Items {
			var i int
			if _, err := fmt.Sscanf(pod.Metadata.Name, "p%d", &i); err != nil {
				t.Fatal(err)
			}
			nodes[i] = pod.Spec.NodeName
			for _, c := range pod.Status.Conditions {
				if c.Type == "PodScheduled" && (c.Status == "True" || c.Reason == "Unschedulable") {
					decided++
				}
			}
			if pod.Spec.NodeName != "" && len(pod.Status.Conditions) == 0 {
				decided++ // nodeName
			}
		}
		if decided >= len(pods) {
			return nodes
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d pods are decided", decided, len(pods))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Land is land for TestLabCases, which is outside of this package.
var Land = land

// item returns a pod as an element of a list.
func item(i int, spec string) string {
	text := fmt.Sprintf("- apiVersion: v1\n  kind: Pod\n  metadata: {name: p%d}\n  spec:\n    automountServiceAccountToken: false\n", i)
	for line := range strings.Lines(spec + "\ncontainers: [{name: c, image: 'example.com/x:1'}]\n") {
		text += "    " + line
	}
	return text
}

// What Match says is what the scheduler does.
func TestLabMatch(t *testing.T) {
	var pods []string
	for i, c := range podCases {
		pods = append(pods, item(i, strings.Replace(c.spec, "kubernetes.io/arch: arm64, kubernetes.io/arch: s390x", "kubernetes.io/arch: s390x", 1)))
	}
	for i, node := range land(t, "match", pods) {
		c := podCases[i]
		if node == "" && c.nodes != "" || node != "" && !slices.Contains(strings.Fields(c.nodes), node) {
			t.Errorf("%s: lands on %q, want one of %q", c.name, node, c.nodes)
		}
	}
}

// A pod that place has edited lands only where its image runs, and lands nowhere only if it
// could have landed nowhere else.
func TestLabPlace(t *testing.T) {
	random := rand.New(regtest.Source(t))
	var pods []string
	var want [][]string
	for len(pods) < 60 {
		archs := pick(random, "amd64", "arm64", "s390x")
		if len(archs) == 0 {
			continue
		}
		w := workload(t, randomAffinity(random))
		patches, err := Place(w, platforms(archs...), lab(), Placing{Always: true})
		if err != nil {
			continue
		}
		out, err := w.Doc.File.Apply([]Edit{{w.Doc, w.Object, patches}})
		if err != nil {
			t.Fatal(err)
		}
		chosen := slices.ContainsFunc(w.Scheduling.Selector, func(r Requirement) bool { return IsArch(r.Key) })
		var nodes []string
		for _, n := range lab() {
			if w.Scheduling.Match(n) == Yes && (chosen || Runs(platforms(archs...), n)) {
				nodes = append(nodes, n.Name)
			}
		}
		_, spec, _ := strings.Cut(string(out), "spec:\n")
		text := fmt.Sprintf("- apiVersion: v1\n  kind: Pod\n  metadata: {name: p%d}\n  spec:\n", len(pods))
		for line := range strings.Lines(spec) {
			text += "  " + line
		}
		pods, want = append(pods, text), append(want, nodes)
	}
	for i, node := range land(t, "place", pods) {
		if node == "" && len(want[i]) > 0 || node != "" && !slices.Contains(want[i], node) {
			t.Errorf("lands on %q, want one of %v:\n%s", node, want[i], pods[i])
		}
	}
}
