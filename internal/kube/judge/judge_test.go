// Package judge compares the matcher of internal/kube with the library that kube-scheduler
// uses. It is a module of its own, so that mabuild itself links nothing of Kubernetes.
package judge

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"sigs.k8s.io/yaml"

	"github.com/mabuild/mabuild/internal/kube"
)

// nodes are the labels of the nodes that each pod is compared with.
var nodes = []map[string]string{
	{"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "n": "5"},
	{"kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux", "gpu": "true", "n": "10"},
	{"kubernetes.io/arch": "s390x", "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "s390x", "n": "x"},
	{"kubernetes.io/arch": "amd64", "kubernetes.io/os": "windows"},
	{},
}

// FuzzMatch gives the same pod to both. Pods that the API server would refuse have no right
// answer and are left out, as far as the library says that they are wrong.
func FuzzMatch(f *testing.F) {
	for _, seed := range []string{
		`{"nodeSelector": {"kubernetes.io/arch": "arm64"}}`,
		`{"nodeSelector": {"gpu": "true", "n": "10"}, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64", "amd64"]}]}]}}}}`,
		`{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["true"]}]}, {}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]}]}}}}`,
		`{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["7"]}]}, {"matchExpressions": [{"key": "n", "operator": "Lt", "values": ["7"]}, {"key": "gpu", "operator": "DoesNotExist"}]}]}}}}`,
		`{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-0"]}], "matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}]}}}}`,
		`{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var spec corev1.PodSpec
		if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
			return
		}
		spec.NodeName = ""
		spec.Tolerations = nil
		spec.Containers = []corev1.Container{{Name: "c", Image: "example.com/x:1"}}
		spec.InitContainers, spec.EphemeralContainers, spec.Volumes = nil, nil, nil
		pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: spec}
		written, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		file, err := kube.Parse("pod.json", written)
		if err != nil {
			return // what is not text
		}
		workloads := file.Workloads()
		if len(workloads) != 1 {
			t.Fatalf("%d workloads in %s", len(workloads), written)
		}
		required := nodeaffinity.GetRequiredNodeAffinity(pod)
		for i, labels := range nodes {
			name := "node-" + string(rune('0'+i))
			want, err := required.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
			if err != nil {
				continue
			}
			got := workloads[0].Scheduling.Match(&kube.Node{Name: name, Labels: labels})
			if (got == kube.Yes) != want || got == kube.May {
				t.Errorf("%s lands on %v: %d, want %v", written, labels, got, want)
			}
		}
	})
}
