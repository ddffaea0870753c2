package kube

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Policy is the YAML of the admission policy, without its data: a Namespace, a
// MutatingAdmissionPolicy and its binding.
//
//go:embed policy.yaml
var Policy string

// The ConfigMap with the data of [Policy]. LabelUnplaced is on pods that have an image of
// which the data says nothing.
const (
	PolicyNamespace = "mabuild-system"
	PolicyData      = "image-platforms"
	LabelUnplaced   = "mabuild.dev/unplaced"
)

// Bounds of the ConfigMap. Kubernetes limits its data to 1 MiB and a key to 253 bytes.
const (
	maxPolicyData = 900_000
	maxKey        = 253
	keyOverhead   = 8 // quotes and line break of an entry
)

// Key returns the key of an image in the ConfigMap, which may not contain / : and @.
func Key(image string) string {
	return strings.NewReplacer("/", "_", ":", "_", "@", "_").Replace(image)
}

// A PolicyMap is the data of the policy: the architectures of images, by the reference as
// pods write it.
type PolicyMap map[string][]string

// Data returns the data of the ConfigMap: that of m, and of what was there before as much as
// fits. Two references with the same key would be taken for each other, so both are left
// out. dropped has the images and keys that are missing.
func (m PolicyMap) Data(before map[string]string) (data map[string]string, dropped []string) {
	data = map[string]string{}
	owner, size := map[string]string{}, 0
	put := func(key, value string) bool {
		if len(key) > maxKey || size+len(key)+len(value)+keyOverhead > maxPolicyData {
			return false
		}
		size += len(key) + len(value) + keyOverhead
		data[key] = value
		return true
	}
	for _, image := range slices.Sorted(maps.Keys(m)) {
		key := Key(image)
		if other, taken := owner[key]; taken {
			if _, there := data[key]; there {
				delete(data, key)
				dropped = append(dropped, other)
			}
			dropped = append(dropped, image)
			continue
		}
		owner[key] = image
		if !put(key, strings.Join(m[image], ",")) {
			dropped = append(dropped, image)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, taken := owner[key]; !taken && !put(key, before[key]) {
			dropped = append(dropped, key)
		}
	}
	slices.Sort(dropped)
	return data, dropped
}

// ConfigMap returns the YAML of the ConfigMap with data.
func ConfigMap(data map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\n", PolicyData, PolicyNamespace)
	if len(data) == 0 {
		b.WriteString("data: {}\n")
		return b.String()
	}
	b.WriteString("data:\n")
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(&b, "  %q: %q\n", key, data[key])
	}
	return b.String()
}

// Archs returns the architectures of the nodes on which an image runs, sorted.
func Archs(image *Image) []string {
	archs, _ := project(Common([][]ocispec.Platform{image.Have}))
	return archs
}
