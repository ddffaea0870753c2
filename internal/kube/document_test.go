package kube

import (
	"fmt"
	"strings"
	"testing"
)

// summary lists the workloads of a stream and the lines of their images, at whose offsets
// the text of the images must stand.
func summary(t *testing.T, f *File) string {
	var b strings.Builder
	for _, w := range f.Workloads() {
		fmt.Fprintf(&b, "%s %d %s:", w, w.Certainty, strings.Join(w.Path, "."))
		for _, c := range w.Containers {
			fmt.Fprintf(&b, " %s=%s@%d", c.Name, c.Image, w.Doc.Position(c.Node).Line)
			if rest := string(f.Data[w.Doc.offset(c.Node):]); !strings.HasPrefix(strings.TrimLeft(rest, `"'`), c.Node.Value) {
				t.Errorf("%s stands at %.20q", c.Image, rest)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestWorkloads(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"kinds": {
			"kind: CronJob\napiVersion: batch/v1\nmetadata: {name: a, namespace: n}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c, image: x:1}]}}}}}\n---\nkind: PodTemplate\napiVersion: v1\nmetadata: {generateName: b-}\ntemplate: {spec: {initContainers: [{name: i, image: y:1}]}}\n",
			"n/CronJob/a 0 spec.jobTemplate.spec.template.spec: c=x:1@4\nPodTemplate/b-* 0 template.spec: i=y:1@9\n",
		},
		"another group is another kind": {
			"kind: Deployment\napiVersion: example.com/v1\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: c, image: x:1}]}}}\n",
			"Deployment/a 1 spec.template.spec: c=x:1@4\n",
		},
		"lists and shapes": {
			"kind: List\napiVersion: v1\nitems:\n- kind: Rollout\n  apiVersion: argoproj.io/v1alpha1\n  metadata: {name: r}\n  spec:\n    template:\n      spec:\n        volumes: [{name: v, image: {reference: files:1}}]\n        containers:\n        - image: x:1\n- kind: Task\n  apiVersion: tekton.dev/v1\n  metadata: {name: t}\n  spec: {steps: [{name: s, image: s:1}], sidecars: [{name: d, image: d:1}]}\n- kind: Workflow\n  metadata: {name: w}\n  spec: {templates: [{name: one, container: {image: c:1}}, {name: two, script: {image: p:1}}]}\n",
			"Rollout/r 1 spec.template.spec: =x:1@12 v=files:1@10\nTask/t 1 spec: s=s:1@16 d=d:1@16\nWorkflow/w 1 spec.templates.0: container=c:1@19\nWorkflow/w 1 spec.templates.1: script=p:1@19\n",
		},
		"guesses": {
			"kind: Cluster\nmetadata: {name: g}\nspec:\n  image: ghcr.io/a/b:1\n  sidecarImage: c:2\n  init_image: plain\n  image2: no:1\n  backup: {image: {registry: quay.io, repository: d/e, tag: '3'}}\n  text: {image: Not A Reference}\nstatus: {image: seen:1}\n",
			"Cluster/g 2 : spec.image=ghcr.io/a/b:1@4 spec.sidecarImage=c:2@5 spec.backup.image=quay.io/d/e:3@8\n",
		},
		"data is no image": {
			"kind: ConfigMap\nmetadata: {name: g}\ndata: {image: ghcr.io/a/b:1}\n",
			"",
		},
		"anchors and merges": {
			"kind: Pod\nmetadata: {name: a}\nspec: &s\n  containers:\n  - &c {name: c, image: x:1}\n  - {<<: *c, name: d}\n---\nkind: List\nitems:\n- {kind: Pod, metadata: {name: one}, spec: &t {containers: [{name: c, image: y:1}]}}\n- {kind: Pod, metadata: {name: two}, spec: *t}\n",
			"Pod/a 0 spec: c=x:1@5 d=x:1@5\nPod/one 0 spec: c=y:1@10\nPod/two 0 spec: c=y:1@10\n",
		},
		"CRLF, BOM and a marker with content": {
			"\ufeff--- # first\r\nkind: Pod\r\nspec: {containers: [{image: x:1}]}\r\n...\r\n--- {kind: Pod, metadata: {name: ü}, spec: {containers: [{image: y:1}]}}\r\n",
			"Pod/* 0 spec: =x:1@3\nPod/ü 0 spec: =y:1@5\n",
		},
		"a marker in a text": {
			"kind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - image: x:1\n    args:\n    - |\n      ---\n      image: no:1\n",
			"Pod/a 0 spec: =x:1@5\n",
		},
		"JSON": {
			`{"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "x:1"}]}}`,
			"Pod/* 0 spec: c=x:1@1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Parse("in.yaml", []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(t, f); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			skimmed, err := Skim("in.yaml", []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(t, skimmed); got != c.want {
				t.Errorf("skimmed\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"kind: Pod\n\tmetadata: x\n":            "in.yaml:2: the line is indented with a tab",
		"a: 1\n---\nkind: {{ .Values.kind }}\n": "in.yaml:3: a key of a mapping is not a string",
		"a: 1\n---\nb: [\n---\nc: {\n":          "in.yaml:3: ",
		"\xff\xfea\x00":                         "in.yaml: the file is UTF-16",
		"a: \x00":                               "in.yaml: this is not text: the file contains a zero byte",
		"a: 1\nb: \xc3\x28\n":                   "in.yaml:2: the text is not UTF-8",
		strings.Repeat("a: [\n---\n", 9):        "in.yaml: 4 more documents cannot be read",
		"a: *b\n":                               "in.yaml",
		strings.Repeat("x", MaxFile+1):          "in.yaml: the file has 67 MB, the limit is 67 MB",
		"a: " + strings.Repeat("[", 20_000):     "in.yaml",
	} {
		f, err := Parse("in.yaml", []byte(in))
		if err == nil || f != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
}

func TestDuplicates(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, "k%d: 1\n", i)
	}
	f, err := Parse("in.yaml", []byte("a: 1\nb: {c: 1, c: 2}\na: 2\n---\n"+many.String()+"k7: 2\n---\nx: &x {y: 1}\nz: {<<: *x, y: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range f.Duplicates() {
		got = append(got, fmt.Sprintf("%s@%d,%d", d.Key, d.Doc.Position(d.Node).Line, d.First.Line))
	}
	if want := "a@3,1 c@2,2 k7@45,12"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// Aliases that would grow to 10^9 values are read once.
func TestAliasesDoNotGrow(t *testing.T) {
	text := "kind: X\na0: &a0 {image: 'example.com/x:1'}\n"
	for i := range 30 {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	f, err := Parse("in.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Workloads(); len(got) != 1 || len(got[0].Containers) > 2 {
		t.Errorf("%d workloads", len(got))
	}
}

// document returns one Deployment of a large stream.
func document(i int) string {
	return fmt.Sprintf(`---
# Source: chart/templates/deployment-%[1]d.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-%[1]d
  labels: {app.kubernetes.io/name: app, app.kubernetes.io/instance: "%[1]d"}
spec:
  replicas: 2
  template:
    spec:
      serviceAccountName: app
      containers:
        - name: app
          image: "registry.example/team/app-%[2]d:v1"
          env: [{name: A, value: "1"}, {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}]
          resources: {limits: {cpu: 100m, memory: 64Mi}}
`, i, i%200)
}

// BenchmarkSkim reads 10 MB of manifests. The goal is a second and 150 MB.
func BenchmarkSkim(b *testing.B) {
	var text strings.Builder
	for i := 0; text.Len() < 10_000_000; i++ {
		text.WriteString(document(i))
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := Skim("in.yaml", data)
		if err != nil {
			b.Fatal(err)
		}
		if n := len(f.Workloads()) + len(f.Duplicates()); n != len(f.Docs) {
			b.Fatal(n)
		}
	}
}
