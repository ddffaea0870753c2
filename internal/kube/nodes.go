package kube

import (
	"cmp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/manifest/platform"
)

// A Node is a node that pods may land on: one that exists, one that a node pool may create,
// or any node of a platform.
type Node struct {
	Name     string // "" unless it exists
	Pool     string // the node pool that may create it
	Platform ocispec.Platform
	Labels   map[string]string
	Taints   []Taint
	// Sets are the values that a node pool allows for labels that are not in Labels.
	Sets map[string][]string
}

// A Taint keeps pods away that do not tolerate it.
type Taint struct{ Key, Value, Effect string }

// String returns how the node is called in messages.
func (n *Node) String() string {
	switch {
	case n.Name != "":
		return "node " + n.Name
	case n.Pool != "":
		return "node pool " + n.Pool
	}
	return "a " + n.Key() + " node"
}

// Key returns the platform as text. The label of an arm node does not say its variant, so
// it has none here either.
func (n *Node) Key() string {
	if n.Platform.Variant == "" {
		return n.Platform.OS + "/" + n.Platform.Architecture
	}
	return platform.Key(n.Platform)
}

// value returns a label. known is false if the node may have the label with any value.
func (n *Node) value(key string) (value string, exists, known bool) {
	if value, exists = n.Labels[key]; exists {
		return value, true, true
	}
	return "", false, n.Name != ""
}

// OfPlatform returns a node of a platform of which nothing else is known.
func OfPlatform(p ocispec.Platform) *Node {
	return &Node{Platform: p, Labels: map[string]string{
		LabelArch: p.Architecture, LabelOS: p.OS, labelBetaArch: p.Architecture, labelBetaOS: p.OS,
	}}
}

// transient are taints that come and go with the state of a node. A node that has one today
// may take pods tomorrow.
var transient = []string{
	"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable",
	"node.kubernetes.io/memory-pressure", "node.kubernetes.io/disk-pressure", "node.kubernetes.io/pid-pressure",
	"node.kubernetes.io/network-unavailable", "node.cloudprovider.kubernetes.io/uninitialized",
}

// Nodes returns the nodes of the file, and those that its node pools (NodePool and NodeClaim
// of Karpenter) may create.
func (f *File) Nodes() []*Node {
	var all []*Node
	for _, doc := range f.Docs {
		if doc.skimmed {
			all = append(all, doc.nodes...)
		} else {
			all = append(all, doc.findNodes()...)
		}
	}
	return all
}

func (d *Document) findNodes() []*Node {
	var all []*Node
	for _, object := range d.Objects() {
		switch kind, group := Kind(object); {
		case kind == "Node" && group == "":
			all = append(all, existing(object))
		case kind == "NodePool" && group == "karpenter.sh":
			all = append(all, pool(object, at(object, "spec", "template"))...)
		case kind == "NodeClaim" && group == "karpenter.sh":
			all = append(all, pool(object, object)...)
		}
	}
	return all
}

// existing reads a Node. Its labels decide, as for the scheduler; what the kubelet reports
// in the status is used for a label that is missing.
func existing(object *yaml.Node) *Node {
	n := &Node{Name: textOf(at(object, "metadata", "name")), Labels: stringMap(at(object, "metadata", "labels")), Taints: taints(at(object, "spec", "taints"))}
	info := at(object, "status", "nodeInfo")
	n.Platform.OS = cmp.Or(n.Labels[LabelOS], n.Labels[labelBetaOS], textOf(lookup(info, "operatingSystem")), "linux")
	n.Platform.Architecture = cmp.Or(n.Labels[LabelArch], n.Labels[labelBetaArch], textOf(lookup(info, "architecture")))
	return n
}

func stringMap(n *yaml.Node) map[string]string {
	all := map[string]string{}
	if n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			all[n.Content[i].Value] = textOf(n.Content[i+1])
		}
	}
	return all
}

func taints(list *yaml.Node) []Taint {
	var all []Taint
	for _, one := range items(list) {
		t := Taint{textOf(lookup(one, "key")), textOf(lookup(one, "value")), textOf(lookup(one, "effect"))}
		if !slices.Contains(transient, t.Key) {
			all = append(all, t)
		}
	}
	return all
}

// The platforms of a pool that does not restrict them.
var (
	anyArch = []string{"amd64", "arm64"}
	anyOS   = []string{"linux"}
)

// pool reads the requirements of a node pool: a node for each platform that it may create
// (karpenter.sh/v1). All requirements on one key must hold.
func pool(object, template *yaml.Node) []*Node {
	wanted := requirements(at(template, "spec", "requirements"))
	labels := stringMap(at(template, "metadata", "labels"))
	of := func(key, beta string, usual []string) []string {
		if value := labels[key]; value != "" {
			return []string{value}
		}
		var listed []string
		for _, r := range wanted {
			if (r.Key == key || r.Key == beta) && r.Operator == "In" {
				listed = append(listed, r.Values...)
			}
		}
		if len(listed) == 0 {
			listed = usual
		}
		slices.Sort(listed)
		return slices.DeleteFunc(slices.Compact(slices.Clone(listed)), func(value string) bool {
			return slices.ContainsFunc(wanted, func(r Requirement) bool {
				return (r.Key == key || r.Key == beta) && holds(r, value, true) == No
			})
		})
	}
	var all []*Node
	for _, os := range of(LabelOS, labelBetaOS, anyOS) {
		for _, arch := range of(LabelArch, labelBetaArch, anyArch) {
			n := OfPlatform(ocispec.Platform{OS: os, Architecture: arch})
			n.Pool, n.Taints, n.Sets = textOf(at(object, "metadata", "name")), taints(at(template, "spec", "taints")), map[string][]string{}
			for key, value := range labels {
				n.Labels[key] = value
			}
			for _, r := range wanted {
				if _, known := n.Labels[r.Key]; !known && r.Operator == "In" {
					n.Sets[r.Key] = r.Values
				}
			}
			all = append(all, n)
		}
	}
	return all
}

// UsualNodes returns a node of each platform that push builds for by default, for callers
// that know nothing about the cluster.
func UsualNodes() []*Node {
	return []*Node{OfPlatform(ocispec.Platform{OS: "linux", Architecture: "amd64"}), OfPlatform(ocispec.Platform{OS: "linux", Architecture: "arm64"})}
}

// ParsePlatforms returns a node of each platform in items, which have the form of --platforms:
// a list with commas in each.
func ParsePlatforms(items []string) ([]*Node, error) {
	list, err := platform.ParseList(items)
	if err != nil {
		return nil, err
	}
	nodes := make([]*Node, len(list))
	typed := strings.Join(items, ",")
	for i, p := range list {
		// linux/arm means any arm node, as its label does; only a variant that was written counts.
		if p.Architecture == "arm" && p.Variant == "v7" && !strings.Contains(strings.ToLower(typed), "arm/v7") {
			p.Variant = ""
		}
		nodes[i] = OfPlatform(p)
	}
	return nodes, nil
}
