package kube

import (
	"bytes"
	"math/rand"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/regtest"
)

func platforms(archs ...string) []ocispec.Platform {
	var list []ocispec.Platform
	for _, arch := range archs {
		list = append(list, ocispec.Platform{OS: "linux", Architecture: arch})
	}
	return list
}

// placed places the workloads of a stream and returns its bytes.
func placed(t *testing.T, in string, supported []ocispec.Platform, nodes []*Node, o Placing) string {
	t.Helper()
	f, err := Parse("in.yaml", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	var edits []Edit
	for _, w := range f.Workloads() {
		if w.Spec == nil {
			continue
		}
		patches, err := Place(w, supported, nodes, o)
		if err != nil {
			t.Fatal(err)
		}
		edits = append(edits, Edit{w.Doc, w.Object, patches})
	}
	out, err := f.Apply(edits)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Every form in which people write the places that an edit touches: the bytes around it stay,
// and the pod lands only where its image runs.
func TestPlaceForms(t *testing.T) {
	const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"
	for name, in := range map[string]string{
		"containers first":   head + "spec:\n  containers:\n  - {name: c, image: x:1}\n",
		"spec in one line":   head + "spec: {containers: [{name: c, image: x:1}]}\n",
		"spec over lines":    head + "spec: {\n  hostNetwork: true,\n  containers: [{name: c, image: x:1}]\n}\n",
		"affinity is null":   head + "spec:\n  affinity:\n  containers: [{name: c, image: x:1}]\n",
		"affinity is ~":      head + "spec:\n  affinity: ~\n  containers: [{name: c, image: x:1}]\n",
		"affinity is empty":  head + "spec:\n  affinity: {}\n  containers: [{name: c, image: x:1}]\n",
		"node affinity null": head + "spec:\n  affinity: {nodeAffinity: null, podAffinity: {}}\n  containers: [{name: c, image: x:1}]\n",
		"other affinity":     head + "spec:\n  affinity:\n    # keep apart\n    podAntiAffinity: {}\n  containers: [{name: c, image: x:1}]\n",
		"a list of one term": head + "spec:\n  affinity:\n    nodeAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution:\n        nodeSelectorTerms:\n        -   matchExpressions:\n            -   key: gpu\n                operator: Exists\n  containers: [{name: c, image: x:1}]\n",
		"anchors beside":     head + "spec:\n  containers:\n  - &c {name: c, image: x:1}\n  - {<<: *c, name: d}\n",
		"CRLF":               strings.ReplaceAll(head+"spec:\n  # one\n  containers:\n  - {name: c, image: x:1}\n", "\n", "\r\n"),
		"BOM":                "\ufeff" + head + "spec:\n  containers:\n  - {name: c, image: x:1}\n",
		"no line break":      head + "spec:\n  containers:\n  - {name: c, image: x:1}",
		"a comment between":  head + "spec:\n  containers: # all\n  # first\n  - {name: c, image: x:1} # last\n# end\n",
		"JSON":               `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "ü"}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}`,
		"JSON over lines":    "{\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"name\": \"x\"\n\t},\n\t\"spec\": {\n\t\t\"containers\": [{\"name\": \"c\", \"image\": \"x:1\"}]\n\t}\n}\n",
		"values over lines":  head + "spec:\n  affinity:\n    nodeAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution:\n        nodeSelectorTerms:\n        - matchExpressions:\n          - key: kubernetes.io/arch\n            operator: In\n            values: [amd64, # old\n              arm64]\n  containers: [{name: c, image: x:1}]\n",
		"quoted values":      head + "spec:\n  affinity:\n    nodeAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution:\n        nodeSelectorTerms:\n        - matchExpressions:\n          - key: \"kubernetes.io/arch\"\n            operator: In\n            values:\n            - 'amd64'\n            - \"arm64\" # new\n  containers: [{name: c, image: x:1}]\n",
		"a tagged mapping":   head + "spec: !!map\n  containers:\n  - {name: c, image: x:1}\n",
		"an anchored spec":   head + "spec: &spec\n  containers:\n  - {name: c, image: x:1}\n",
		"unicode in front":   head + "spec: {schedulerName: 'ünïcode', containers: [{name: c, image: x:1}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			out := placed(t, in, platforms("arm64"), lab(), Placing{Tolerate: true, Prefer: map[string]int{"arm64": 5}})
			f, err := Parse("out.yaml", []byte(out))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, w := range f.Workloads() {
				for _, n := range lab() {
					if w.Scheduling.Match(n) != No && n.Platform.Architecture != "arm64" {
						t.Errorf("lands on %s:\n%s", n, out)
					}
				}
			}
			// Without the bytes that were added, the rest is what it was.
			if !isSubsequence(in, out) && !strings.Contains(name, "values") && !strings.Contains(name, "affinity") {
				t.Errorf("bytes of the input are gone:\n%s", out)
			}
			if again := placed(t, out, platforms("arm64"), lab(), Placing{Tolerate: true, Prefer: map[string]int{"arm64": 5}}); again != out {
				t.Errorf("a second run changes\n%s\nto\n%s", out, again)
			}
		})
	}
}

// isSubsequence reports whether all bytes of a occur in b in their order.
func isSubsequence(a, b string) bool {
	for i := 0; i < len(b) && a != ""; i++ {
		if b[i] == a[0] {
			a = a[1:]
		}
	}
	return a == ""
}

// For any affinity, what place writes is the conjunction: a pod may land on a node
// afterwards if and only if it could before and the image runs there.
func TestPlaceIsAConjunction(t *testing.T) {
	random := rand.New(regtest.Source(t))
	for range 2000 {
		spec := randomAffinity(random)
		w := workload(t, spec)
		supported := platforms(pick(random, "amd64", "arm64", "s390x", "arm")...)
		if len(supported) == 0 {
			continue
		}
		patches, err := Place(w, supported, lab(), Placing{Always: true})
		after := w
		if err == nil {
			out, err := w.Doc.File.Apply([]Edit{{w.Doc, w.Object, patches}})
			if err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			f, err := Parse("out.yaml", out)
			if err != nil {
				t.Fatal(err)
			}
			after = f.Workloads()[0]
		}
		chosen := slices.ContainsFunc(w.Scheduling.Selector, func(r Requirement) bool { return IsArch(r.Key) })
		for _, n := range lab() {
			if n.Platform.OS != "linux" {
				continue
			}
			before, now := w.Scheduling.Match(n) == Yes, after.Scheduling.Match(n) == Yes
			want := before && Runs(supported, n)
			if chosen || err != nil {
				want = before
			}
			if now != want {
				t.Fatalf("%s\nsupported %v: lands on %s: %v, want %v\n%s", spec, supported, n, now, want, after.Doc.File.Data)
			}
			if err != nil && before && Runs(supported, n) {
				t.Fatalf("%s: %v, but %s would do", spec, err, n)
			}
		}
	}
}

// pick returns some of the words.
func pick(r *rand.Rand, words ...string) []string {
	var some []string
	for _, word := range words {
		if r.Intn(2) == 0 {
			some = append(some, word)
		}
	}
	return some
}

// randomAffinity returns the scheduling part of a pod spec with every odd shape.
func randomAffinity(r *rand.Rand) string {
	var terms []string
	for range 1 + r.Intn(3) {
		var parts []string
		for range r.Intn(3) {
			key := []string{LabelArch, "gpu", labelBetaArch, "kubernetes.io/hostname"}[r.Intn(4)]
			operator := []string{"In", "NotIn", "Exists", "DoesNotExist"}[r.Intn(4)]
			values := ""
			if strings.HasSuffix(operator, "In") {
				list := append(pick(r, "amd64", "arm64", "s390x", "true", "arm-1"), "riscv64")
				values = ", values: ['" + strings.Join(list, "', '") + "']"
			}
			parts = append(parts, "{key: "+key+", operator: "+operator+values+"}")
		}
		term := "{matchExpressions: [" + strings.Join(parts, ", ") + "]}"
		switch r.Intn(6) {
		case 0:
			term = "{}"
		case 1:
			term = "{matchFields: [{key: metadata.name, operator: In, values: [arm-2]}]}"
		}
		terms = append(terms, term)
	}
	spec := aff(terms...)
	switch r.Intn(8) {
	case 0:
		spec += "\nnodeSelector: {gpu: 'true'}"
	case 1:
		spec = "nodeSelector: {kubernetes.io/arch: s390x}"
	case 2:
		spec = "hostNetwork: true"
	}
	return spec
}

// The values of Apply are those of the patches, and all others are as they were, for any
// stream and any scalar in it.
func FuzzApply(f *testing.F) {
	for _, seed := range []string{
		"a: b\n", "a: [b, 'c', \"d\"]\n---\ne: {f: g}\n", "a: &x b\nc: *x\n", "a: |\n  b\n  c\n", "a: >-\n  ko://b\n", "\ufeffa: b\r\n", "- a\n- {b: c}\n", "a: \"b\\n\"\n", "ü: ö\n", "{\"a\": \"b\"}", "a:\n- - b\n  - c\n", "a: b # c\n", "? a\n: b\n", "a: !!str 1\n", "a: 'it''s'\n", "%YAML 1.2\n---\na: b\n...\n---\nc: d",
	} {
		f.Add(seed, uint(1))
	}
	f.Fuzz(func(t *testing.T, in string, at uint) {
		file, err := Parse("in.yaml", []byte(in))
		if err != nil || len(file.Docs) == 0 {
			return
		}
		var scalars []*yaml.Node
		doc := file.Docs[at%uint(len(file.Docs))]
		every(doc.Root, func(n *yaml.Node) {
			if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
				scalars = append(scalars, n)
			}
		})
		if len(scalars) == 0 {
			return
		}
		n := scalars[at%uint(len(scalars))]
		const reference = "example.com/app:v1@sha256:abc"
		out, err := file.Apply([]Edit{Program{doc, n, ""}.Replace(reference)})
		if err != nil {
			return // the caller keeps the file
		}
		before, after, _ := bytes.Cut(out, []byte(reference))
		if !bytes.HasPrefix([]byte(in), before) || !bytes.HasSuffix([]byte(in), after) {
			t.Errorf("bytes elsewhere changed:\n%q\n%q", in, out)
		}
	})
}

// Any affinity of any stream is placed without a change elsewhere, or refused.
func FuzzPlace(f *testing.F) {
	for _, c := range podCases {
		f.Add("kind: Pod\nmetadata: {name: x}\nspec:\n  containers: [{name: c, image: x:1}]\n  " + strings.ReplaceAll(c.spec, "\n", "\n  ") + "\n")
	}
	f.Add("kind: Deployment\napiVersion: apps/v1\nspec: {template: {spec: &s {containers: [{image: x:1}]}}}\n---\nkind: Pod\nspec: {<<: {a: b}, containers: [{image: y:1}]}\n")
	f.Fuzz(func(t *testing.T, in string) {
		file, err := Parse("in.yaml", []byte(in))
		if err != nil {
			return
		}
		var edits []Edit
		for _, w := range file.Workloads() {
			if w.Spec == nil {
				continue
			}
			if patches, err := Place(w, platforms("arm64", "s390x"), lab(), Placing{Tolerate: true, Prefer: map[string]int{"s390x": 1}}); err == nil {
				edits = append(edits, Edit{w.Doc, w.Object, patches})
			}
		}
		// Apply compares its result with the patches itself; here it must neither panic nor
		// return both bytes and an error that a caller could mistake.
		if out, err := file.Apply(edits); err == nil {
			if _, err := Parse("out.yaml", out); err != nil {
				t.Errorf("the result cannot be read: %v", err)
			}
		}
	})
}

// What place leaves alone, although the images run on no node.
func TestPlaceLeaves(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {%s}}\nspec: {containers: [{name: c, image: x:1}]%s}\n"
	for name, in := range map[string]string{
		"only data":    strings.NewReplacer("%s}}", "mabuild.dev/data-only: c}}", "%s}\n", "}\n").Replace(pod),
		"opted out":    strings.NewReplacer("%s}}", "mabuild.dev/place: 'false'}}", "%s}\n", "}\n").Replace(pod),
		"nodeName":     strings.NewReplacer("%s}}", "}}", "%s}\n", ", nodeName: a}\n").Replace(pod),
		"chosen":       strings.NewReplacer("%s}}", "}}", "%s}\n", ", nodeSelector: {kubernetes.io/arch: arm64}}\n").Replace(pod),
		"Tekton steps": "kind: Task\napiVersion: tekton.dev/v1\nmetadata: {name: x}\nspec: {steps: [{name: s, image: x:1}]}\n",
	} {
		if out := placed(t, in, nil, lab(), Placing{Always: true}); out != in {
			t.Errorf("%s: changed to\n%s", name, out)
		}
	}
}
