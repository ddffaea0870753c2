package kube

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"
)

// The annotations of mabuild. Placed has the architectures that [Place] wrote, so that it
// may change its own work later. DataOnly names containers, separated by commas, whose
// images only carry files. Check has the rules that the workload ignores. Place with the
// value false keeps a workload or pod as it is.
const (
	AnnotationPlace    = "mabuild.dev/place"
	AnnotationPlaced   = "mabuild.dev/placed"
	AnnotationDataOnly = "mabuild.dev/data-only"
	AnnotationCheck    = "mabuild.dev/check"
)

// DataOnly reports whether a container's image is never run: it is a volume, or an
// annotation says so.
func (w *Workload) DataOnly(c Container) bool {
	return c.Role == Volume || slices.Contains(words(w.Annotations[AnnotationDataOnly]), c.Name)
}

// words splits a list with commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// A Placing says what [Place] may do.
type Placing struct {
	Always   bool           // also restrict a pod whose images run onAllNodes
	Prefer   map[string]int // architectures to prefer, and their weights from 1 to 100
	Tolerate bool           // tolerate the taint kubernetes.io/arch=ARCH of GKE
	Unmarked bool           // do not write [AnnotationPlaced], so that a later run only narrows
}

var (
	errNothingCommon = errors.New("its images have no platform in common")
	errExcluded      = errors.New("its node affinity excludes every platform of its images")
	errOddShape      = errors.New("its affinity, tolerations or annotations are not what the API has there")
	errNotProduct    = errors.New("its images run on different architectures for each operating system: set kubernetes.io/os in its nodeSelector")
)

// Place returns the patches that restrict a workload to the platforms that all of its
// images support. nodes are those of the cluster. It returns no patches if the images run
// on all of them, or if the workload has chosen an architecture in its nodeSelector.
//
// The requirement kubernetes.io/arch In S joins every term of the required node affinity,
// because terms are alternatives: one without it would leave the pod as free as before. A
// term without requirements matches nothing and stays so. The paths of the patches begin at
// the object of w.
func Place(w *Workload, supported []ocispec.Platform, nodes []*Node, o Placing) ([]Patch, error) {
	s := &w.Scheduling
	runs := slices.ContainsFunc(w.Containers, func(c Container) bool { return !w.DataOnly(c) })
	if w.Fixed || !runs || w.Annotations[AnnotationPlace] == "false" {
		return nil, nil
	}
	if s.NodeName != "" || slices.ContainsFunc(s.Selector, func(r Requirement) bool { return IsArch(r.Key) }) {
		return nil, nil
	}
	if len(supported) == 0 {
		return nil, errNothingCommon
	}
	archs, oses := project(supported)
	p := placer{w: w, spec: w.Path}
	_, nodeOS := projectNodes(nodes)
	placed := words(w.Annotations[AnnotationPlaced])
	onAllNodes := !slices.ContainsFunc(nodes, func(n *Node) bool { return !Runs(supported, n) })
	if !onAllNodes || o.Always || len(placed) > 0 {
		if len(nodeOS) > 1 && !isProduct(supported, archs, oses, nodes) {
			return nil, errNotProduct
		}
		if !p.narrow(LabelArch, archs, placed) {
			return nil, errExcluded
		}
		if len(nodeOS) > 1 && !slices.ContainsFunc(s.Selector, func(r Requirement) bool { return IsOS(r.Key) }) && !p.narrow(LabelOS, oses, nil) {
			return nil, errExcluded
		}
		p.write()
		if len(p.patches) > 0 && !o.Unmarked && !slices.Equal(placed, archs) {
			p.annotate(strings.Join(archs, ","))
		}
	}
	p.prefer(archs, o.Prefer)
	if o.Tolerate {
		p.tolerate(archs)
	}
	if slices.ContainsFunc(p.patches, func(one Patch) bool { return !fits(w.Object, one.Path) }) {
		return nil, errOddShape
	}
	return p.patches, nil
}

// fits reports whether an object has mappings and sequences where path expects them: a
// position in a sequence for a number, and a key of a mapping for any other element.
func fits(n *yaml.Node, path []string) bool {
	for i, key := range path {
		number, err := strconv.Atoi(key)
		kind := yaml.MappingNode
		if err == nil {
			kind = yaml.SequenceNode
		}
		if n = resolved(n); n == nil || n.Kind != kind {
			return false
		}
		switch {
		case i == len(path)-1:
			return true
		case kind == yaml.MappingNode:
			n = lookup(n, key)
		case number < len(n.Content):
			n = n.Content[number]
		default:
			return false
		}
	}
	return true
}

// project returns the architectures and the operating systems of platforms, sorted.
func project(list []ocispec.Platform) (archs, oses []string) {
	for _, p := range list {
		archs, oses = append(archs, p.Architecture), append(oses, p.OS)
	}
	slices.Sort(archs)
	slices.Sort(oses)
	return slices.Compact(archs), slices.Compact(oses)
}

func projectNodes(nodes []*Node) (archs, oses []string) {
	list := make([]ocispec.Platform, len(nodes))
	for i, n := range nodes {
		list[i] = n.Platform
	}
	return project(list)
}

// isProduct reports whether every node with one of the architectures and one of the
// operating systems has a supported platform. Two requirements cannot say more.
func isProduct(supported []ocispec.Platform, archs, oses []string, nodes []*Node) bool {
	return !slices.ContainsFunc(nodes, func(n *Node) bool {
		return slices.Contains(archs, n.Platform.Architecture) && slices.Contains(oses, n.Platform.OS) && !Runs(supported, n)
	})
}

// A placer collects the patches of one workload.
type placer struct {
	w       *Workload
	spec    []string // path of the pod spec
	patches []Patch
	added   []*yaml.Node         // requirements for all terms
	beside  map[int][]*yaml.Node // requirements for one term
}

// narrow adds key In values to every term that can match. A term that requires key In
// already is changed to the values that both have. What an earlier run wrote (placed) is
// replaced. It returns false if no term is left that could match.
func (p *placer) narrow(key string, values, placed []string) bool {
	s := &p.w.Scheduling
	if !s.Required || len(s.Terms) == 0 {
		p.added = append(p.added, in(key, values))
		return true
	}
	possible := false
	for i, term := range s.Terms {
		if len(term.Labels) == 0 && len(term.Fields) == 0 {
			continue
		}
		common, at := values, -1
		for j, r := range term.Labels {
			if r.Key == key && r.Operator == "In" && at < 0 {
				if at = j; !sameSet(r.Values, placed) {
					common = slices.DeleteFunc(slices.Clone(r.Values), func(v string) bool { return !slices.Contains(values, v) })
				}
			}
		}
		possible = possible || len(common) > 0
		path := slices.Concat(p.spec, requiredPath, []string{"nodeSelectorTerms", strconv.Itoa(i)})
		switch {
		case at >= 0 && len(common) > 0:
			if r := term.Labels[at]; !sameSet(r.Values, common) {
				p.patches = append(p.patches, Patch{"replace", slices.Concat(path, []string{"matchExpressions", strconv.Itoa(at), "values"}), list(common)})
			}
		default: // with an empty intersection both requirements stand, and the term matches nothing
			if p.beside == nil {
				p.beside = map[int][]*yaml.Node{}
			}
			if at < 0 || !hasRequirement(term, key, values) {
				p.beside[i] = append(p.beside[i], in(key, values))
			}
		}
	}
	return possible
}

func hasRequirement(t Term, key string, values []string) bool {
	return slices.ContainsFunc(t.Labels, func(r Requirement) bool {
		return r.Key == key && r.Operator == "In" && sameSet(r.Values, values)
	})
}

// sameSet reports whether two lists have the same elements.
func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

var (
	nodeAffinityPath = []string{"affinity", "nodeAffinity"}
	requiredPath     = append(slices.Clone(nodeAffinityPath), "requiredDuringSchedulingIgnoredDuringExecution")
)

// write makes the patches of what narrow has collected.
func (p *placer) write() {
	for i := range p.w.Scheduling.Terms {
		if len(p.beside[i]) == 0 {
			continue
		}
		path := slices.Concat(p.spec, requiredPath, []string{"nodeSelectorTerms", strconv.Itoa(i), "matchExpressions"})
		if at(p.w.Scheduling.Terms[i].Node, "matchExpressions") == nil {
			p.patches = append(p.patches, Patch{"add", path, list(nil, p.beside[i]...)})
			continue
		}
		for _, one := range p.beside[i] {
			p.patches = append(p.patches, Patch{"add", append(path, "0"), one})
		}
	}
	if len(p.added) > 0 {
		terms := mapping("nodeSelectorTerms", list(nil, mapping("matchExpressions", list(nil, p.added...))))
		p.add(requiredPath, terms)
	}
}

// add adds a value at a path below the pod spec, with the mappings above it that are not
// there.
func (p *placer) add(path []string, value *yaml.Node) {
	have := 0
	for n := p.w.Spec; have < len(path)-1; have++ {
		if n = lookup(n, path[have]); n == nil {
			break
		}
	}
	for i := len(path) - 1; i > have; i-- {
		value = mapping(path[i], value)
	}
	p.patches = append(p.patches, Patch{"add", slices.Concat(p.spec, path[:have+1]), value})
}

// annotate writes the annotation of what was placed.
func (p *placer) annotate(value string) {
	object := p.w.Object
	text := scalar(value)
	switch {
	case lookup(object, "metadata") == nil:
		p.patches = append(p.patches, Patch{"add", []string{"metadata"}, mapping("annotations", mapping(AnnotationPlaced, text))})
	case at(object, "metadata", "annotations") == nil:
		p.patches = append(p.patches, Patch{"add", []string{"metadata", "annotations"}, mapping(AnnotationPlaced, text)})
	default:
		op := "add"
		if at(object, "metadata", "annotations", AnnotationPlaced) != nil {
			op = "replace"
		}
		p.patches = append(p.patches, Patch{op, []string{"metadata", "annotations", AnnotationPlaced}, text})
	}
}

// prefer adds preferred terms for architectures that the images have.
func (p *placer) prefer(archs []string, weights map[string]int) {
	preferred := append(slices.Clone(nodeAffinityPath), "preferredDuringSchedulingIgnoredDuringExecution")
	there := at(p.w.Spec, preferred...)
	var terms []*yaml.Node
	for _, arch := range archs {
		weight, wanted := weights[arch]
		already := slices.ContainsFunc(items(there), func(n *yaml.Node) bool {
			return slices.ContainsFunc(requirements(at(n, "preference", "matchExpressions")), func(r Requirement) bool {
				return r.Key == LabelArch && r.Operator == "In" && slices.Equal(r.Values, []string{arch})
			})
		})
		if wanted && !already {
			terms = append(terms, mapping("weight", number(weight), "preference", mapping("matchExpressions", list(nil, in(LabelArch, []string{arch})))))
		}
	}
	p.extend(preferred, there, terms)
}

// tolerate adds tolerations of the taint kubernetes.io/arch=ARCH:NoSchedule.
func (p *placer) tolerate(archs []string) {
	var missing []*yaml.Node
	for _, arch := range archs {
		taint := Taint{LabelArch, arch, "NoSchedule"}
		if !slices.ContainsFunc(p.w.Scheduling.Tolerations, func(t Toleration) bool { return t.tolerates(taint) }) {
			missing = append(missing, mapping("key", scalar(LabelArch), "operator", scalar("Equal"), "value", scalar(arch), "effect", scalar("NoSchedule")))
		}
	}
	p.extend([]string{"tolerations"}, lookup(p.w.Spec, "tolerations"), missing)
}

// extend adds elements to the list at a path below the pod spec. Within one run the paths
// above the list may have been added already.
func (p *placer) extend(path []string, there *yaml.Node, elements []*yaml.Node) {
	if len(elements) == 0 {
		return
	}
	if there != nil {
		for _, one := range slices.Backward(elements) {
			p.patches = append(p.patches, Patch{"add", slices.Concat(p.spec, path, []string{"0"}), one})
		}
		return
	}
	// Two patches that add the same mapping become one.
	for i, earlier := range p.patches {
		rest, ok := cutPath(earlier.Path, slices.Concat(p.spec, path))
		if ok && earlier.Value.Kind == yaml.MappingNode && len(rest) > 0 {
			value := list(nil, elements...)
			into := earlier.Value
			for len(rest) > 1 && lookup(into, rest[0]) != nil {
				into, rest = lookup(into, rest[0]), rest[1:]
			}
			for len(rest) > 1 {
				value, rest = mapping(rest[len(rest)-1], value), rest[:len(rest)-1]
			}
			into.Content = append(into.Content, scalar(rest[0]), value)
			p.patches[i] = earlier
			return
		}
	}
	p.add(path, list(nil, elements...))
}

// cutPath returns what follows prefix in path.
func cutPath(prefix, path []string) ([]string, bool) {
	if len(path) < len(prefix) || !slices.Equal(path[:len(prefix)], prefix) {
		return nil, false
	}
	return path[len(prefix):], true
}

// in returns the requirement key In values.
func in(key string, values []string) *yaml.Node {
	return mapping("key", scalar(key), "operator", scalar("In"), "values", list(values))
}

// scalar, number, list and mapping make the nodes of a patch.
func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

func number(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

func list(texts []string, nodes ...*yaml.Node) *yaml.Node {
	for _, text := range texts {
		nodes = append(nodes, scalar(text))
	}
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: nodes}
}

func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Content = append(n.Content, scalar(pairs[i].(string)), pairs[i+1].(*yaml.Node))
	}
	return n
}
