package kube

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/imageref"
)

// A Certainty says how an image was found.
type Certainty int

// The certainties.
const (
	Certain Certainty = iota // in a pod spec of a kind of Kubernetes
	Likely                   // in a mapping of another kind that has the shape of a pod spec
	Guess                    // in a string with the name of an image, in any place
)

// A Workload is a pod spec of an object, or the object itself with the images that were
// guessed in it.
type Workload struct {
	Doc             *Document
	Kind            string
	Namespace, Name string
	Certainty       Certainty
	Path            []string // of the pod spec in the object, such as spec, template, spec
	Containers      []Container
	Scheduling      Scheduling

	Owner string // kind of the controller of a pod
	// Annotations are those of the object, and below them those of the pod template.
	Annotations map[string]string
	// Waiting says why containers do not run now, by their names, in a cluster.
	Waiting map[string]string
	// Object is the mapping of the object, and Spec the mapping of the pod spec; nil for a
	// Guess.
	Object, Spec *yaml.Node
	// Fixed is set if the pod spec has no place for an affinity: the steps of a Tekton task.
	Fixed bool
}

// String returns KIND/NAME, with the namespace before it if there is one.
func (w *Workload) String() string {
	name := w.Kind + "/" + w.Name
	if w.Namespace != "" {
		name = w.Namespace + "/" + name
	}
	return name
}

// PullSecrets returns the names of the Secrets with which the images are pulled.
func (w *Workload) PullSecrets() []string {
	var names []string
	for _, one := range items(lookup(w.Spec, "imagePullSecrets")) {
		if name := textOf(lookup(one, "name")); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// A Role is what a container is for.
type Role int

// The roles. An Ephemeral container is a debugger that was added to a running pod. A
// Volume is an image whose files are mounted and never run.
const (
	Main Role = iota
	Init
	Ephemeral
	Volume
)

// A Container is an image of a workload.
type Container struct {
	Name  string // for a Guess, the path of the string
	Image string
	Role  Role
	Node  *yaml.Node // the scalar with the reference
}

// podSpecs has the path of the pod spec for each kind of Kubernetes that has one.
var podSpecs = map[string][]string{
	"Pod": {"spec"}, "PodTemplate": {"template", "spec"}, "CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
	"ReplicationController": workloadSpec, "ReplicaSet": workloadSpec, "Deployment": workloadSpec,
	"StatefulSet": workloadSpec, "DaemonSet": workloadSpec, "Job": workloadSpec,
}

var workloadSpec = []string{"spec", "template", "spec"}

// groups are the API groups of these kinds. A Deployment of another group is another kind.
var groups = []string{"", "apps", "batch", "extensions"}

// Workloads returns the workloads of the file in the order in which they stand there. A
// List and a ResourceList are replaced by their items.
func (f *File) Workloads() []*Workload {
	var all []*Workload
	for _, doc := range f.Docs {
		if doc.skimmed {
			all = append(all, doc.workloads...)
		} else {
			all = append(all, doc.findWorkloads()...)
		}
	}
	return all
}

func (d *Document) findWorkloads() []*Workload {
	var all []*Workload
	for _, object := range d.Objects() {
		w := walker{doc: d, object: object, pods: map[*yaml.Node]bool{}, aliased: map[*yaml.Node]bool{}}
		w.run()
		all = append(all, w.found...)
	}
	return all
}

// Objects returns the object of the document, or the items of a list.
func (d *Document) Objects() []*yaml.Node {
	if d.Root.Kind != yaml.MappingNode {
		return nil
	}
	kind := textOf(lookup(d.Root, "kind"))
	if list := lookup(d.Root, "items"); strings.HasSuffix(kind, "List") && list != nil && list.Kind == yaml.SequenceNode {
		return slices.DeleteFunc(items(list), func(n *yaml.Node) bool { return n.Kind != yaml.MappingNode })
	}
	return []*yaml.Node{d.Root}
}

// Kind returns the kind of an object, and its API group without the version.
func Kind(object *yaml.Node) (kind, group string) {
	group, _, ok := strings.Cut(textOf(lookup(object, "apiVersion")), "/")
	if !ok {
		group = ""
	}
	return textOf(lookup(object, "kind")), group
}

// A walker finds the workloads of one object.
type walker struct {
	doc     *Document
	object  *yaml.Node
	kind    string
	found   []*Workload
	guessed []Container
	pods    map[*yaml.Node]bool // pod specs that were found
	aliased map[*yaml.Node]bool // what an alias has led to
}

func (w *walker) run() {
	kind, group := Kind(w.object)
	w.kind = kind
	if slices.Contains([]string{"ConfigMap", "Secret", "CustomResourceDefinition", "Node", "Event"}, kind) {
		return // their strings are data or documentation
	}
	if path, ok := podSpecs[kind]; ok && slices.Contains(groups, group) {
		if spec := at(w.object, path...); spec != nil && spec.Kind == yaml.MappingNode {
			w.pods[spec] = true
			w.add(spec, Certain, path, podContainers(spec))
		}
	}
	w.walk(w.object, nil, 0)
	if len(w.guessed) > 0 {
		one := w.workload(Guess, nil)
		one.Containers = w.guessed
		w.found = append(w.found, one)
	}
}

// owns reports whether value stands in n itself, not in a mapping that is merged into it.
func owns(n, value *yaml.Node) bool {
	n = resolved(n)
	return n != nil && slices.Contains(n.Content, value)
}

func (w *walker) workload(certainty Certainty, path []string) *Workload {
	meta := lookup(w.object, "metadata")
	name := textOf(lookup(meta, "name"))
	if name == "" {
		name = textOf(lookup(meta, "generateName")) + "*"
	}
	return &Workload{
		Doc: w.doc, Kind: w.kind, Namespace: textOf(lookup(meta, "namespace")), Name: name,
		Certainty: certainty, Path: slices.Clone(path), Object: w.object, Annotations: annotations(w.object), Owner: owner(meta), Waiting: w.doc.waiting[w.object],
	}
}

// owner returns the kind of the controller in the metadata of an object.
func owner(meta *yaml.Node) string {
	for _, one := range items(lookup(meta, "ownerReferences")) {
		if textOf(lookup(one, "controller")) == "true" {
			return textOf(lookup(one, "kind"))
		}
	}
	return ""
}

// annotations returns those of an object; those of its pod template count for keys that
// the object does not have.
func annotations(object *yaml.Node) map[string]string {
	all := map[string]string{}
	for _, from := range []*yaml.Node{at(object, "spec", "jobTemplate", "spec", "template"), at(object, "spec", "template"), object} {
		n := at(from, "metadata", "annotations")
		if n == nil || n.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			all[n.Content[i].Value] = textOf(n.Content[i+1])
		}
	}
	return all
}

func (w *walker) add(spec *yaml.Node, certainty Certainty, path []string, containers []Container) *Workload {
	if len(containers) == 0 {
		return nil
	}
	one := w.workload(certainty, path)
	one.Spec, one.Containers, one.Scheduling = spec, containers, scheduling(spec)
	w.found = append(w.found, one)
	return one
}

// lists are the keys of a pod spec that have containers.
var lists = []struct {
	key  string
	role Role
}{{"initContainers", Init}, {"containers", Main}, {"ephemeralContainers", Ephemeral}}

// podContainers returns the images of a pod spec.
func podContainers(spec *yaml.Node) []Container {
	var all []Container
	for _, list := range lists {
		all = append(all, containersOf(lookup(spec, list.key), list.role)...)
	}
	for _, volume := range items(lookup(spec, "volumes")) {
		if image := at(volume, "image", "reference"); textOf(image) != "" {
			all = append(all, Container{textOf(lookup(volume, "name")), image.Value, Volume, image})
		}
	}
	return all
}

// containersOf returns those elements of a sequence that are mappings with an image.
func containersOf(list *yaml.Node, role Role) []Container {
	var all []Container
	for _, one := range items(list) {
		if image := lookup(one, "image"); textOf(image) != "" {
			all = append(all, Container{textOf(lookup(one, "name")), image.Value, role, image})
		}
	}
	return all
}

// maxDepth bounds the walk of an object. No kind of Kubernetes comes near it.
const maxDepth = 200

// walk looks for pod specs by their shape, and for guesses.
func (w *walker) walk(n *yaml.Node, path []string, depth int) {
	if n == nil || depth > maxDepth {
		return
	}
	if n.Kind == yaml.AliasNode {
		// The node of an anchor is visited where it stands, too; here it may be the first time.
		if n = resolved(n); n == nil || w.aliased[n] {
			return
		}
		w.aliased[n] = true
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, one := range n.Content {
			w.walk(one, append(path, strconv.Itoa(i)), depth+1)
		}
	case yaml.MappingNode:
		if w.shape(n, path) {
			return
		}
		w.repository(n, path)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if n == w.object && (key.Value == "status" || key.Value == "metadata") {
				continue
			}
			below := append(path, key.Value)
			if value.Kind == yaml.ScalarNode {
				w.guess(key.Value, value, below)
				continue
			}
			w.walk(value, below, depth+1)
		}
	}
}

// shape reports whether n was a pod spec, and adds it if it is a new one: a mapping with
// containers, the steps and sidecars of Tekton, or the container or script of an Argo
// template.
func (w *walker) shape(n *yaml.Node, path []string) bool {
	if w.pods[n] {
		return true
	}
	containers := podContainers(n)
	steps := len(containers) == 0
	for _, key := range []string{"steps", "sidecars"} {
		containers = append(containers, containersOf(lookup(n, key), Main)...)
	}
	for _, key := range []string{"container", "script"} {
		one := lookup(n, key)
		if image := lookup(one, "image"); textOf(image) != "" && one.Kind == yaml.MappingNode {
			containers, steps = append(containers, Container{key, image.Value, Main, image}), false
		}
	}
	if len(containers) == 0 {
		return false
	}
	w.pods[n] = true
	w.add(n, Likely, path, containers).Fixed = steps
	return true
}

// guess adds a string whose key is that of an image, if it can be a reference.
func (w *walker) guess(key string, value *yaml.Node, path []string) {
	if key != "image" && !strings.HasSuffix(key, "Image") && !strings.HasSuffix(key, "_image") || value.Tag != "!!str" {
		return
	}
	r := imageref.Cut(value.Value)
	if r.Tag == "" && r.Digest == "" && !r.Named() || !IsReference(value.Value) {
		return
	}
	w.guessed = append(w.guessed, Container{strings.Join(path, "."), value.Value, Main, value})
}

// repository adds a mapping {repository, tag or digest, registry}, as the values of charts
// have it.
func (w *walker) repository(n *yaml.Node, path []string) {
	repository, tag, digest := lookup(n, "repository"), textOf(lookup(n, "tag")), textOf(lookup(n, "digest"))
	if textOf(repository) == "" || tag == "" && digest == "" {
		return
	}
	name := repository.Value
	if registry := textOf(lookup(n, "registry")); registry != "" {
		name = registry + "/" + name
	}
	image := imageref.Parts{Repository: name, Tag: tag, Digest: digest}.String()
	if IsReference(image) {
		w.guessed = append(w.guessed, Container{strings.Join(path, "."), image, Main, repository})
	}
}

// HasVariable reports whether the name of an image has a part that another program fills in:
// $(params.image), ${IMAGE} or {{inputs.image}}.
func HasVariable(text string) bool {
	return strings.Contains(text, "$(") || strings.Contains(text, "${") || strings.Contains(text, "{{")
}

// IsReference reports whether text has the form of a reference: REPOSITORY[:TAG][@DIGEST],
// in lower case, without blanks.
func IsReference(text string) bool {
	r := imageref.Cut(text)
	if r.Repository == "" || strings.HasPrefix(r.Repository, "/") || strings.HasSuffix(r.Repository, "/") || strings.Contains(text, "//") {
		return false
	}
	for i, part := range strings.Split(r.Repository, "/") {
		valid := func(c rune) bool {
			return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c) || i == 0 && r.Named() && (c == ':' || c >= 'A' && c <= 'Z')
		}
		if part == "" || strings.ContainsFunc(part, func(c rune) bool { return !valid(c) }) {
			return false
		}
	}
	tagged := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
	}
	if len(r.Tag) > 128 || strings.ContainsFunc(r.Tag, func(c rune) bool { return !tagged(c) }) {
		return false
	}
	return r.Digest == "" || strings.Contains(r.Digest, ":")
}
