package kube

import (
	"fmt"
	"strings"
	"testing"
)

// Pods and what else another object owns are checked as that object, which gets the reasons
// of their containers.
func TestWithoutOwned(t *testing.T) {
	object := func(kind, uid, owner, rest string) string {
		owners := ""
		if owner != "" {
			owners = fmt.Sprintf(`, "ownerReferences": [{"uid": %q, "controller": true}]`, owner)
		}
		return fmt.Sprintf(`{"kind": %q, "apiVersion": "apps/v1", "metadata": {"name": %q, "uid": %q%s}, %s}`, kind, uid, uid, owners, rest)
	}
	spec := `"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "example.com/x:1"}]}}}`
	pod := `"spec": {"containers": [{"name": "c", "image": "example.com/x:1"}]}, "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no match for platform in manifest"}}}]}`
	f, err := Parse("the cluster", []byte(`{"kind": "List", "apiVersion": "v1", "items": [`+strings.Join([]string{
		object("Deployment", "d", "", spec), object("ReplicaSet", "r", "d", spec), strings.Replace(object("Pod", "p", "r", pod), "apps/v1", "v1", 1),
		strings.Replace(object("Pod", "foreign", "not-here", pod), "apps/v1", "v1", 1), object("ReplicaSet", "loop1", "loop2", spec), object("ReplicaSet", "loop2", "loop1", spec),
	}, ", ")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	f.Docs[0].withoutOwned()
	var got []string
	for _, w := range f.Workloads() {
		got = append(got, fmt.Sprintf("%s %v", w, w.Waiting))
	}
	want := "Deployment/d map[c:ErrImagePull: no match for platform in manifest]|Pod/foreign map[c:ErrImagePull: no match for platform in manifest]"
	if strings.Join(got, "|") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, "|"), want)
	}
}
