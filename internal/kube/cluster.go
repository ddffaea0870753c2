package kube

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/text"
)

// clusterKinds are the resources that are read of a cluster.
const clusterKinds = "nodes,pods,replicationcontrollers,deployments.apps,statefulsets.apps,daemonsets.apps,replicasets.apps,jobs.batch,cronjobs.batch"

// Cluster reads the nodes, node pools and workloads of a cluster with kubectl, which knows
// contexts and credentials. An object that another workload owns is left out. With
// pullSecrets, it also reads the Secrets that pods name as imagePullSecrets, and no other.
func Cluster(ctx context.Context, name string, pullSecrets bool) ([]*File, error) {
	data, err := Kubectl(ctx, name, nil, "get", clusterKinds, "--all-namespaces", "-o", "json")
	if err != nil {
		return nil, err
	}
	f, err := Parse("the cluster", data)
	if err != nil {
		return nil, hint.New(hint.Usage, "", "kubectl printed something else than objects: %w", err)
	}
	if len(f.Docs) != 1 || len(f.Docs[0].Objects()) == 0 || len(f.Nodes()) == 0 {
		return nil, hint.New(hint.Usage, "kubectl get nodes shows what kubectl sees", "kubectl listed no nodes")
	}
	f.Live = true
	files := []*File{f}
	if pullSecrets {
		if files, err = f.withSecrets(ctx, name); err != nil {
			return nil, err
		}
	}
	f.Docs[0].withoutOwned()
	// Most clusters have no node pools, and kubectl does not know the resource then.
	if pools, err := Kubectl(ctx, name, nil, "get", "nodepools.karpenter.sh", "-o", "json"); err == nil {
		if p, err := Parse("the cluster", pools); err == nil {
			files = append(files, p)
		}
	}
	return files, nil
}

// withSecrets returns the file and one more for each namespace that has pull secrets. A Secret
// that does not exist is left out, as the kubelet does.
func (f *File) withSecrets(ctx context.Context, name string) ([]*File, error) {
	named := map[string][]string{}
	for _, w := range f.Workloads() {
		for _, secret := range w.PullSecrets() {
			if !slices.Contains(named[w.Namespace], secret) {
				named[w.Namespace] = append(named[w.Namespace], secret)
			}
		}
	}
	files := []*File{f}
	for _, namespace := range slices.Sorted(maps.Keys(named)) {
		args := append([]string{"get", "secrets", "--namespace", namespace, "--ignore-not-found", "-o", "json"}, named[namespace]...)
		data, err := Kubectl(ctx, name, nil, args...)
		if err != nil {
			return nil, err
		}
		secrets, err := Parse("the cluster", data)
		if err != nil {
			return nil, hint.New(hint.Usage, "", "kubectl printed something else than Secrets of %s", namespace)
		}
		files = append(files, secrets)
	}
	return files, nil
}

// withoutOwned removes the objects of a list whose owner is in the list, too. What their
// containers wait for is kept for the object that owns them in the end.
func (d *Document) withoutOwned() {
	list := lookup(d.Root, "items")
	objects, owners := map[string]*yaml.Node{}, map[string]string{}
	for _, object := range items(list) {
		objects[textOf(at(object, "metadata", "uid"))] = object
	}
	for uid, object := range objects {
		for _, owner := range items(at(object, "metadata", "ownerReferences")) {
			if by := textOf(lookup(owner, "uid")); objects[by] != nil && by != uid {
				owners[uid] = by
			}
		}
	}
	d.waiting = map[*yaml.Node]map[string]string{}
	for uid, object := range objects {
		top := uid
		for range len(objects) { // a cycle of owners is nonsense, but it must end
			if owners[top] == "" {
				break
			}
			top = owners[top]
		}
		for name, reason := range waiting(object) {
			if d.waiting[objects[top]] == nil {
				d.waiting[objects[top]] = map[string]string{}
			}
			d.waiting[objects[top]][name] = reason
		}
	}
	list.Content = slices.DeleteFunc(list.Content, func(n *yaml.Node) bool {
		return owners[textOf(at(n, "metadata", "uid"))] != ""
	})
}

// waiting returns why containers of a pod do not run, by their names.
func waiting(pod *yaml.Node) map[string]string {
	found := map[string]string{}
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		for _, one := range items(at(pod, "status", list)) {
			if state := at(one, "state", "waiting"); state != nil {
				found[textOf(lookup(one, "name"))] = strings.TrimSuffix(textOf(lookup(state, "reason"))+": "+textOf(lookup(state, "message")), ": ")
			}
		}
	}
	return found
}

// logLine matches a line of kubectl's own log: E1129 22:00:01.429014     865 memcache.go:265] …
var logLine = regexp.MustCompile(`(?m)^[EWIF][0-9]{4} [0-9:.]+ +[0-9]+ [^ ]+\] .*\n?`)

// withoutLog removes the lines of kubectl's own log, which say the same as the error after
// them, unless there is nothing else.
func withoutLog(stderr string) string {
	return cmp.Or(strings.TrimSpace(logLine.ReplaceAllString(stderr, "")), stderr)
}

// Kubectl runs kubectl and returns what it prints.
func Kubectl(ctx context.Context, name string, stdin []byte, args ...string) ([]byte, error) {
	if name != "" {
		args = append([]string{"--context", name}, args...)
	}
	cmd := exec.CommandContext(ctx, "kubectl", args...) //nolint:gosec // the arguments are ours and the user's
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, hint.New(hint.Usage, "install kubectl, or use --nodes FILE and files", "kubectl is not on PATH")
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		said := text.Line(withoutLog(stderr.String()), 500)
		if said == "" {
			said = err.Error()
		}
		return nil, hint.New(hint.Usage, "kubectl "+strings.Join(args, " ")+" has to work", "kubectl: %s", said)
	case out.Len() > MaxFile:
		return nil, fmt.Errorf("kubectl printed more than %d MB", MaxFile/1_000_000)
	}
	return out.Bytes(), nil
}
