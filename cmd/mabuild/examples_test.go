package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirrorfile"
)

const mirrorExample = "../../examples/mirror"

func TestMirrorExample(t *testing.T) {
	m, err := mirrorfile.Load(filepath.Join(mirrorExample, "mirror.yaml"), config.Trust{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range m.Plan() {
		names = append(names, e.Name)
		if e.Schedule == nil {
			t.Errorf("%s has no schedule", e.Name)
		}
	}
	if want := "flannel kube-proxy metrics-server dashboard prometheus node-exporter"; strings.Join(names, " ") != want {
		t.Errorf("entries %s, want %s", names, want)
	}
}

// An object has the fields of a Kubernetes object in the examples that depend on mabuild.
type object struct {
	Kind       string                `yaml:"kind"`
	Metadata   struct{ Name string } `yaml:"metadata"`
	Data       map[string]string     `yaml:"data"`
	StringData map[string]string     `yaml:"stringData"`
	Spec       struct {
		Strategy          struct{ Type string } `yaml:"strategy"`
		ConcurrencyPolicy string                `yaml:"concurrencyPolicy"`
		Schedule          string                `yaml:"schedule"`
		Template          pod                   `yaml:"template"`
		JobTemplate       struct {
			Spec struct {
				Template pod `yaml:"template"`
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	} `yaml:"spec"`
}

type pod struct {
	Metadata struct{ Annotations map[string]string } `yaml:"metadata"`
	Spec     struct {
		RestartPolicy   string `yaml:"restartPolicy"`
		SecurityContext struct {
			RunAsUser    int  `yaml:"runAsUser"`
			RunAsNonRoot bool `yaml:"runAsNonRoot"`
		} `yaml:"securityContext"`
		Containers []struct {
			Args  []string
			Env   []struct{ Name, Value string }
			Ports []struct {
				Name          string
				ContainerPort int `yaml:"containerPort"`
			}
			LivenessProbe struct {
				HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
			} `yaml:"livenessProbe"`
			SecurityContext struct {
				ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
			} `yaml:"securityContext"`
			VolumeMounts []struct {
				Name      string
				MountPath string `yaml:"mountPath"`
				ReadOnly  bool   `yaml:"readOnly"`
			} `yaml:"volumeMounts"`
		}
		Volumes []struct {
			Name      string
			ConfigMap struct{ Name string } `yaml:"configMap"`
			Secret    struct {
				SecretName string `yaml:"secretName"`
			} `yaml:"secret"`
			Claim struct {
				ClaimName string `yaml:"claimName"`
			} `yaml:"persistentVolumeClaim"`
		}
	} `yaml:"spec"`
}

// The manifests for Kubernetes agree with mirror.yaml, with the flags of the command and
// with each other.
func TestMirrorInKubernetes(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(mirrorExample, "mirror.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for file, runs := range map[string]string{"deployment.yaml": "Deployment", "cronjob.yaml": "CronJob"} {
		all := objects(t, filepath.Join(mirrorExample, file))
		if got := all["ConfigMap/mabuild-mirror"].Data["mirror.yaml"]; got != string(want) {
			t.Errorf("%s: its mirror.yaml is not the example's:\n%s", file, got)
		}
		if all["Secret/mabuild-docker"].StringData["config.json"] == "" {
			t.Errorf("%s: no Docker config in the Secret", file)
		}
		o, ok := all[runs+"/mabuild-mirror"]
		if !ok || len(all) != 4 {
			t.Errorf("%s: no %s among %v", file, runs, all)
			continue
		}
		p := o.Spec.Template
		if runs == "CronJob" {
			p = o.Spec.JobTemplate.Spec.Template
			if o.Spec.ConcurrencyPolicy != "Forbid" || o.Spec.Schedule != "17 */6 * * *" || p.Spec.RestartPolicy != "Never" {
				t.Errorf("%s: %+v", file, o.Spec)
			}
		} else if o.Spec.Strategy.Type != "Recreate" {
			t.Errorf("%s: two may run at once: %+v", file, o.Spec)
		}
		if len(p.Spec.Containers) != 1 {
			t.Fatalf("%s: %+v", file, p)
		}
		t.Run(file, func(t *testing.T) {
			p.mounts(t, all)
			p.runs(t, runs == "Deployment")
		})
	}
}

// objects reads a file of several documents, by kind and name.
func objects(t *testing.T, file string) map[string]object {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]object{}
	for in := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var o object
		err := in.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[o.Kind+"/"+o.Metadata.Name] = o
	}
}

// mounts checks that every mounted volume exists and every written path is on a volume.
func (p pod) mounts(t *testing.T, all map[string]object) {
	t.Helper()
	c := p.Spec.Containers[0]
	if !c.SecurityContext.ReadOnlyRootFilesystem || p.Spec.SecurityContext.RunAsUser != 65532 || !p.Spec.SecurityContext.RunAsNonRoot {
		t.Errorf("security %+v, %+v", c.SecurityContext, p.Spec.SecurityContext)
	}
	var writable []string
	volumes := map[string]bool{}
	for _, v := range p.Spec.Volumes {
		volumes[v.Name] = true
		for kind, name := range map[string]string{"ConfigMap": v.ConfigMap.Name, "Secret": v.Secret.SecretName, "PersistentVolumeClaim": v.Claim.ClaimName} {
			if _, ok := all[kind+"/"+name]; name != "" && !ok {
				t.Errorf("volume %s: no %s %s", v.Name, kind, name)
			}
		}
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("no volume %s", m.Name)
		}
		if !m.ReadOnly {
			writable = append(writable, m.MountPath)
		}
	}
	for _, e := range c.Env {
		below := func(dir string) bool { return strings.HasPrefix(e.Value+"/", dir+"/") }
		if e.Name != "DOCKER_CONFIG" && !slices.ContainsFunc(writable, below) {
			t.Errorf("%s=%s cannot be written", e.Name, e.Value)
		}
	}
}

// runs checks that the arguments are flags of the command, and that probes and scrapes use
// the address where health and metrics are served.
func (p pod) runs(t *testing.T, watches bool) {
	t.Helper()
	c := p.Spec.Containers[0]
	cmd := newMirror(&app{})
	if c.Args[0] != cmd.Name() {
		t.Fatalf("runs %q", c.Args)
	}
	if err := cmd.ParseFlags(c.Args[1:]); err != nil {
		t.Fatal(err)
	}
	says := func(flag, want string) {
		t.Helper()
		if f := cmd.Flags().Lookup(flag); f.Value.String() != want {
			t.Errorf("--%s is %q, want %q", flag, f.Value, want)
		}
	}
	says("file", "/etc/mabuild/mirror.yaml")
	says("report", "/cache/report.json")
	if !watches {
		says("watch", "false")
		return
	}
	says("watch", "true")
	says("listen", ":8080")
	a := p.Metadata.Annotations
	if len(c.Ports) != 1 || c.Ports[0].ContainerPort != 8080 || a["prometheus.io/port"] != "8080" || a["prometheus.io/path"] != "/metrics" || a["prometheus.io/scrape"] != "true" {
		t.Errorf("ports %+v, annotations %v", c.Ports, a)
	}
	if probe := c.LivenessProbe.HTTPGet; probe.Path != "/healthz" || probe.Port != c.Ports[0].Name {
		t.Errorf("probe %+v", probe)
	}
}
