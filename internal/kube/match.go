package kube

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// The labels by which Kubernetes names the platform of a node. Kubelets still set the two
// that are deprecated.
const (
	LabelArch     = "kubernetes.io/arch"
	LabelOS       = "kubernetes.io/os"
	labelBetaArch = "beta.kubernetes.io/arch"
	labelBetaOS   = "beta.kubernetes.io/os"
)

// A Scheduling is what a pod spec says about the nodes that it may land on.
type Scheduling struct {
	NodeName    string
	Selector    []Requirement // nodeSelector; all must hold
	Required    bool          // there is a required node affinity
	Terms       []Term        // of it; one must hold
	Tolerations []Toleration
}

// A Term is a term of a node affinity. All its requirements must hold. A term without any
// matches no node.
type Term struct {
	Labels, Fields []Requirement
	Node           *yaml.Node
}

// A Requirement compares a label or field of a node with values.
type Requirement struct {
	Key, Operator string
	Values        []string
	Node          *yaml.Node // the mapping, or the value of a nodeSelector
}

// A Toleration lets a pod land on nodes with a taint.
type Toleration struct{ Key, Operator, Value, Effect string }

// scheduling reads a pod spec. What has another form than Kubernetes expects is left out:
// the API server refuses it.
func scheduling(spec *yaml.Node) Scheduling {
	s := Scheduling{NodeName: textOf(lookup(spec, "nodeName"))}
	if selector := lookup(spec, "nodeSelector"); selector != nil && selector.Kind == yaml.MappingNode {
		// The last of two equal keys counts, as for the API server.
		for i := 0; i+1 < len(selector.Content); i += 2 {
			key := selector.Content[i].Value
			s.Selector = slices.DeleteFunc(s.Selector, func(r Requirement) bool { return r.Key == key })
			s.Selector = append(s.Selector, Requirement{key, "In", []string{textOf(selector.Content[i+1])}, selector.Content[i+1]})
		}
	}
	required := at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	s.Required = required != nil
	for _, term := range items(lookup(required, "nodeSelectorTerms")) {
		s.Terms = append(s.Terms, Term{requirements(lookup(term, "matchExpressions")), requirements(lookup(term, "matchFields")), term})
	}
	for _, one := range items(lookup(spec, "tolerations")) {
		s.Tolerations = append(s.Tolerations, Toleration{textOf(lookup(one, "key")), textOf(lookup(one, "operator")), textOf(lookup(one, "value")), textOf(lookup(one, "effect"))})
	}
	return s
}

func requirements(list *yaml.Node) []Requirement {
	var all []Requirement
	for _, one := range items(list) {
		r := Requirement{Key: textOf(lookup(one, "key")), Operator: textOf(lookup(one, "operator")), Node: one}
		for _, value := range items(lookup(one, "values")) {
			r.Values = append(r.Values, textOf(value))
		}
		all = append(all, r)
	}
	return all
}

// An Answer says whether something holds for a node. It has three values because not all
// labels of a node are known.
type Answer int

// The answers. And is the smaller of two, or the larger.
const (
	No Answer = iota
	May
	Yes
)

// Match reports whether a pod may land on a node, as kube-scheduler decides it: nodeSelector
// and required affinity must both hold, a term without requirements matches nothing, and
// taints count for nodes that exist. A pod with a nodeName is not scheduled, so it lands on
// that node whatever else it says. spec.os, preferred terms and resources have no influence.
func (s *Scheduling) Match(n *Node) Answer {
	if s.NodeName != "" {
		switch n.Name {
		case s.NodeName:
			return Yes
		case "":
			return May
		}
		return No
	}
	answer := Yes
	for _, r := range s.Selector {
		answer = min(answer, n.label(r))
	}
	if s.Required {
		answer = min(answer, s.terms(n))
	}
	if !s.tolerates(n) {
		answer = No
	}
	return answer
}

func (s *Scheduling) terms(n *Node) Answer {
	best := No
	for _, term := range s.Terms {
		best = max(best, term.match(n))
	}
	return best
}

// match reports whether all requirements of t hold for n.
func (t Term) match(n *Node) Answer {
	if len(t.Labels) == 0 && len(t.Fields) == 0 {
		return No
	}
	answer := Yes
	for _, r := range t.Labels {
		answer = min(answer, n.label(r))
	}
	for _, r := range t.Fields {
		answer = min(answer, n.field(r))
	}
	return answer
}

// WithoutPlatform returns s without its requirements on the architecture and the operating
// system: where the pod could land if its author had not chosen. A term that has no other
// requirement would match every node.
func (s *Scheduling) WithoutPlatform() *Scheduling {
	platform := func(r Requirement) bool { return IsArch(r.Key) || IsOS(r.Key) }
	out := *s
	out.Selector = slices.DeleteFunc(slices.Clone(s.Selector), platform)
	out.Terms = nil
	for _, t := range s.Terms {
		if len(t.Labels) == 0 && len(t.Fields) == 0 {
			continue
		}
		t.Labels = slices.DeleteFunc(slices.Clone(t.Labels), platform)
		if len(t.Labels) == 0 && len(t.Fields) == 0 {
			out.Required, out.Terms = false, nil
			return &out
		}
		out.Terms = append(out.Terms, t)
	}
	return &out
}

// IsArch reports whether a label has the architecture of a node.
func IsArch(key string) bool { return key == LabelArch || key == labelBetaArch }

// IsOS reports whether a label has the operating system of a node.
func IsOS(key string) bool { return key == LabelOS || key == labelBetaOS }

// IsDeprecated reports whether a label is an old name of the platform.
func IsDeprecated(key string) bool { return key == labelBetaArch || key == labelBetaOS }

// label compares a label of n with r, as labels.Requirement.Matches of Kubernetes does:
// NotIn holds for a node without the label, and Gt and Lt compare integers.
func (n *Node) label(r Requirement) Answer {
	value, exists, known := n.value(r.Key)
	if !known {
		return n.unknown(r)
	}
	return holds(r, value, exists)
}

// holds compares one value with r.
func holds(r Requirement, value string, exists bool) Answer {
	ok := false
	switch r.Operator {
	case "In":
		ok = exists && slices.Contains(r.Values, value)
	case "NotIn":
		ok = len(r.Values) > 0 && (!exists || !slices.Contains(r.Values, value))
	case "Exists":
		ok = exists && len(r.Values) == 0
	case "DoesNotExist":
		ok = !exists && len(r.Values) == 0
	case "Gt", "Lt":
		if !exists || len(r.Values) != 1 {
			return No
		}
		have, err1 := strconv.ParseInt(value, 10, 64)
		want, err2 := strconv.ParseInt(r.Values[0], 10, 64)
		ok = err1 == nil && err2 == nil && (r.Operator == "Gt" && have > want || r.Operator == "Lt" && have < want)
	}
	if ok {
		return Yes
	}
	return No
}

// unknown answers for a label whose value is not known. A node pool may restrict it to a
// set.
func (n *Node) unknown(r Requirement) Answer {
	set, ok := n.Sets[r.Key]
	if !ok {
		return May
	}
	holding := 0
	for _, value := range set {
		if holds(r, value, true) == Yes {
			holding++
		}
	}
	switch holding {
	case 0:
		return No
	case len(set):
		return Yes
	}
	return May
}

// field compares a field of n with r. Kubernetes knows only the name of a node.
func (n *Node) field(r Requirement) Answer {
	if r.Key != "metadata.name" || len(r.Values) != 1 || r.Operator != "In" && r.Operator != "NotIn" {
		return No
	}
	if n.Name == "" {
		return May
	}
	return holds(r, n.Name, true)
}

// tolerates reports whether the pod tolerates all taints of n that keep pods away.
func (s *Scheduling) tolerates(n *Node) bool {
	for _, taint := range n.Taints {
		if taint.Effect != "NoSchedule" && taint.Effect != "NoExecute" {
			continue
		}
		if !slices.ContainsFunc(s.Tolerations, func(t Toleration) bool { return t.tolerates(taint) }) {
			return false
		}
	}
	return true
}

// tolerates compares as Kubernetes does: no effect means all effects, and no key with
// Exists means all keys.
func (t Toleration) tolerates(taint Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", "Equal":
		return t.Key != "" && t.Value == taint.Value
	case "Exists":
		return t.Value == ""
	}
	return false
}
