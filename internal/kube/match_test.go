package kube

import (
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lab are nodes like those of the lab in .ci/kube, whose scheduler gave the answers of
// TestMatch.
func lab() []*Node {
	var nodes []*Node
	for _, text := range strings.Fields("amd-1=linux/amd64 amd-2=linux/amd64,gpu arm-1=linux/arm64 arm-2=linux/arm64,gpu gke-arm-1=linux/arm64,taint pi-1=linux/arm power-1=linux/ppc64le z-1=linux/s390x riscv-1=linux/riscv64 win-1=windows/amd64,windows") {
		name, rest, _ := strings.Cut(text, "=")
		fields := strings.Split(rest, ",")
		os, arch, _ := strings.Cut(fields[0], "/")
		n := OfPlatform(ocispec.Platform{OS: os, Architecture: arch})
		n.Name = name
		n.Labels["kubernetes.io/hostname"] = name
		for _, f := range fields[1:] {
			switch f {
			case "gpu":
				n.Labels["gpu"] = "true"
			case "taint":
				n.Taints = append(n.Taints, Taint{LabelArch, "arm64", "NoSchedule"})
			case "windows":
				n.Taints = append(n.Taints, Taint{"os", "windows", "NoSchedule"})
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// podCases are pod specs and the nodes on which kube-scheduler v1.36.3 put them; .ci/e2e-kube
// asks a real one.
var podCases = []struct {
	name, spec string
	nodes      string // as in lab; "" means Pending
}{
	{"selector", `nodeSelector: {kubernetes.io/arch: arm64}`, "arm-1 arm-2"},
	{"deprecated label", `nodeSelector: {beta.kubernetes.io/arch: arm64}`, "arm-1 arm-2"},
	{"affinity", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [arm64]}]}`), "arm-1 arm-2"},
	{"selector and affinity must both hold", `nodeSelector: {kubernetes.io/arch: arm64}` + "\n" + aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64]}]}`), ""},
	{"terms are alternatives", aff(`{matchExpressions: [{key: gpu, operator: In, values: ["true"]}]}`, `{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [s390x]}]}`), "amd-2 arm-2 z-1"},
	{"requirements of a term are not", aff(`{matchExpressions: [{key: gpu, operator: In, values: ["true"]}, {key: kubernetes.io/arch, operator: In, values: [s390x]}]}`), ""},
	{"one key twice in a term", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64, s390x]}, {key: kubernetes.io/arch, operator: NotIn, values: [amd64]}]}`), "z-1"},
	{"fields", aff(`{matchFields: [{key: metadata.name, operator: In, values: [arm-1]}]}`), "arm-1"},
	{"fields and labels", aff(`{matchFields: [{key: metadata.name, operator: In, values: [arm-1]}], matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64]}]}`), ""},
	{"an empty term matches nothing", aff(`{}`), ""},
	{"an empty term beside another", aff(`{}`, `{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [s390x]}]}`), "z-1"},
	{"not in", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: NotIn, values: [amd64, arm, arm64, ppc64le, riscv64]}]}`), "z-1"},
	{"not in matches a node without the label", aff(`{matchExpressions: [{key: gpu, operator: NotIn, values: ["true"]}, {key: kubernetes.io/arch, operator: In, values: [amd64]}]}`), "amd-1"},
	{"exists", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: Exists}, {key: gpu, operator: Exists}, {key: kubernetes.io/arch, operator: NotIn, values: [amd64]}]}`), "arm-2"},
	{"does not exist", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: DoesNotExist}]}`), ""},
	{"preferred is no guarantee", `affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [mips]}]}}]}}`, "amd-1 amd-2 arm-1 arm-2 pi-1 power-1 z-1 riscv-1"},
	{"no such architecture", aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [mips64le]}]}`), ""},
	{"a taint", `nodeSelector: {kubernetes.io/hostname: gke-arm-1}`, ""},
	{"a toleration", "nodeSelector: {kubernetes.io/hostname: gke-arm-1}\ntolerations: [{key: kubernetes.io/arch, operator: Equal, value: arm64, effect: NoSchedule}]", "gke-arm-1"},
	{"a toleration of all effects", "nodeSelector: {kubernetes.io/hostname: gke-arm-1}\ntolerations: [{key: kubernetes.io/arch, value: arm64}]", "gke-arm-1"},
	{"a toleration of another value", "nodeSelector: {kubernetes.io/hostname: gke-arm-1}\ntolerations: [{key: kubernetes.io/arch, value: amd64}]", ""},
	{"a toleration does not attract", "nodeSelector: {kubernetes.io/arch: amd64}\ntolerations: [{key: kubernetes.io/arch, value: arm64}]", "amd-1 amd-2"},
	{"a toleration of everything", "nodeSelector: {kubernetes.io/os: windows}\ntolerations: [{operator: Exists}]", "win-1"},
	{"spec.os is not looked at", "os: {name: windows}\nnodeSelector: {kubernetes.io/arch: s390x}", "z-1"},
	{"capitals", `nodeSelector: {kubernetes.io/arch: AMD64}`, ""},
	{"the word of uname", `nodeSelector: {kubernetes.io/arch: aarch64}`, ""},
	{"nodeName", "nodeName: amd-1\n" + aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [s390x]}]}`), "amd-1"},
	{"nodeName of a tainted node", "nodeName: win-1", "win-1"},
	{"a selector twice: the last counts", "nodeSelector: {kubernetes.io/arch: arm64, kubernetes.io/arch: s390x}", "z-1"},
}

func aff(terms ...string) string {
	return "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" + strings.Join(terms, ", ") + "]}}}"
}

// workload returns the only workload of a pod with a spec.
func workload(t *testing.T, spec string) *Workload {
	t.Helper()
	lines := "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n"
	for line := range strings.Lines(spec + "\ncontainers: [{name: c, image: 'example.com/x:1'}]\n") {
		lines += "  " + line
	}
	f, err := Parse("pod.yaml", []byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	all := f.Workloads()
	if len(all) != 1 {
		t.Fatalf("%d workloads in\n%s", len(all), lines)
	}
	return all[0]
}

func TestMatch(t *testing.T) {
	for _, c := range podCases {
		t.Run(c.name, func(t *testing.T) {
			w := workload(t, c.spec)
			var got []string
			for _, n := range lab() {
				switch answer := w.Scheduling.Match(n); answer {
				case Yes:
					got = append(got, n.Name)
				case May:
					t.Errorf("may land on %s, although everything is known about it", n.Name)
				}
			}
			if strings.Join(got, " ") != c.nodes {
				t.Errorf("lands on %v, want %q", got, c.nodes)
			}
		})
	}
}

// A node of which only the platform is known never makes an answer certain that depends on
// something else.
func TestMatchUnknownNode(t *testing.T) {
	amd := OfPlatform(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	for spec, want := range map[string]Answer{
		`nodeSelector: {kubernetes.io/arch: amd64}`:                                                 Yes,
		`nodeSelector: {kubernetes.io/arch: arm64}`:                                                 No,
		`nodeSelector: {gpu: "true"}`:                                                               May,
		`nodeSelector: {gpu: "true", kubernetes.io/os: windows}`:                                    No,
		aff(`{matchExpressions: [{key: gpu, operator: NotIn, values: [x]}]}`):                       May,
		aff(`{matchExpressions: [{key: gpu, operator: DoesNotExist}]}`):                             May,
		aff(`{matchExpressions: [{key: gpu, operator: Gt, values: ["1"]}]}`):                        May,
		aff(`{matchFields: [{key: metadata.name, operator: In, values: [a]}]}`):                     May,
		aff(`{matchFields: [{key: metadata.uid, operator: In, values: [a]}]}`):                      No,
		aff(`{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64]}]}`, `{}`): Yes,
		`nodeName: amd-1`: May,
	} {
		if got := workload(t, spec).Scheduling.Match(amd); got != want {
			t.Errorf("%s: %d, want %d", spec, got, want)
		}
	}
}

func TestNodePools(t *testing.T) {
	pool := func(requirements string) string {
		return "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: p}\nspec: {template: {metadata: {labels: {team: a}}, spec: {taints: [{key: t, effect: NoSchedule}], requirements: [" + requirements + "]}}}\n"
	}
	for requirements, want := range map[string]string{
		"": "linux/amd64 linux/arm64",
		"{key: kubernetes.io/arch, operator: In, values: [arm64, amd64]}":                                                           "linux/amd64 linux/arm64",
		"{key: kubernetes.io/arch, operator: NotIn, values: [amd64]}":                                                               "linux/arm64",
		"{key: kubernetes.io/arch, operator: Exists}":                                                                               "linux/amd64 linux/arm64",
		"{key: kubernetes.io/arch, operator: In, values: [amd64, arm64]}, {key: kubernetes.io/arch, operator: In, values: [arm64]}": "linux/arm64",
		"{key: kubernetes.io/os, operator: In, values: [windows, linux]}, {key: kubernetes.io/arch, operator: In, values: [amd64]}": "linux/amd64 windows/amd64",
		"{key: beta.kubernetes.io/arch, operator: In, values: [s390x]}":                                                             "linux/s390x",
	} {
		f, err := Parse("pool.yaml", []byte(pool(requirements)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range f.Nodes() {
			got = append(got, n.Key())
			if n.Pool != "p" || n.Labels["team"] != "a" || len(n.Taints) != 1 {
				t.Errorf("%+v", n)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", requirements, got, want)
		}
	}
	f, err := Parse("pool.yaml", []byte(pool("{key: zone, operator: In, values: [a, b]}, {key: size, operator: Exists}")))
	if err != nil {
		t.Fatal(err)
	}
	n := f.Nodes()[0]
	n.Taints = nil
	for spec, want := range map[string]Answer{
		"nodeSelector: {zone: a}": May, "nodeSelector: {zone: c}": No, "nodeSelector: {size: big}": May, "nodeSelector: {team: a}": Yes, "nodeSelector: {team: b}": No,
		aff("{matchExpressions: [{key: zone, operator: In, values: [a, b, c]}]}"): Yes,
	} {
		if got := workload(t, spec).Scheduling.Match(n); got != want {
			t.Errorf("%s: %d, want %d", spec, got, want)
		}
	}
}

func TestRuns(t *testing.T) {
	p := func(os, arch, variant string) ocispec.Platform {
		return ocispec.Platform{OS: os, Architecture: arch, Variant: variant}
	}
	arm, amd := OfPlatform(p("linux", "arm", "")), OfPlatform(p("linux", "amd64", ""))
	for _, c := range []struct {
		have []ocispec.Platform
		node *Node
		want bool
	}{
		{[]ocispec.Platform{p("linux", "arm", "v5")}, arm, true},
		{[]ocispec.Platform{p("linux", "arm", "v7")}, arm, true},
		{[]ocispec.Platform{p("linux", "amd64", "v3")}, amd, false},
		{[]ocispec.Platform{p("linux", "amd64", "")}, amd, true},
		{[]ocispec.Platform{p("windows", "amd64", "")}, amd, false},
		{nil, amd, false},
	} {
		if got := Runs(c.have, c.node); got != c.want {
			t.Errorf("%v on %s: %v", c.have, c.node.Key(), got)
		}
	}
	if got := Common([][]ocispec.Platform{{p("linux", "amd64", "v3"), p("linux", "arm", "v7")}}); len(got) != 1 || got[0].Architecture != "arm" {
		t.Errorf("common: %v", got)
	}
}

func TestSelector(t *testing.T) {
	f, err := Parse("x.yaml", []byte("kind: A\nmetadata: {labels: {app: web, tier: front}}\n---\nkind: B\nmetadata: {labels: {app: db}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"app=web": "A", "app==db": "B", "app!=web": "B", "tier": "A", "!tier": "B", "app in (web, db)": "A B",
		"app notin (web),app": "B", "app=web,tier=back": "", "app = web": "A",
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		data, err := f.Select(s)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(data)) {
			if kind, ok := strings.CutPrefix(line, "kind: "); ok {
				got = append(got, strings.TrimSpace(kind))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "a b", "=x", "a in (b", "a=b=c", "(a)"} {
		if s, err := ParseSelector(text); err == nil {
			t.Errorf("%q: %v", text, s)
		}
	}
}

func TestPolicyData(t *testing.T) {
	m := PolicyMap{"a/b:1": {"amd64"}, "a:b/1": {"arm64"}, "x:1": {"amd64", "arm64"}, strings.Repeat("y", 260): {"arm"}}
	data, dropped := m.Data(map[string]string{"old_1": "arm", "x_1": "s390x"})
	if len(data) != 2 || data["x_1"] != "amd64,arm64" || data["old_1"] != "arm" {
		t.Errorf("data: %v", data)
	}
	if len(dropped) != 3 || !slices.Contains(dropped, "a/b:1") || !slices.Contains(dropped, "a:b/1") {
		t.Errorf("dropped: %v", dropped)
	}
	full := PolicyMap{}
	for i := range 20_000 {
		full[strings.Repeat("z", 60)+":"+strings.Repeat("1", i%50)+string(rune('a'+i%26))+strings.Repeat("q", i/1300)] = []string{"amd64"}
	}
	data, dropped = full.Data(nil)
	size := len(ConfigMap(data))
	if len(data)+len(dropped) != len(full) || size > 1<<20 || len(dropped) == 0 && size < 800_000 {
		t.Errorf("%d images, %d kept, %d dropped, %d bytes", len(full), len(data), len(dropped), size)
	}
}
