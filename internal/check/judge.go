package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/agext/levenshtein"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A judgement is the check of one workload.
type judgement struct {
	*Checker
	w        *kube.Workload
	findings []Finding
	nodes    []*kube.Node     // those that the workload may land on, one of each platform
	have     []containerImage // of the images that could be read
}

// A containerImage is a container and what its image supports, without the entries that
// are gone.
type containerImage struct {
	kube.Container
	image *kube.Image
	have  []ocispec.Platform
	child bool     // the digest is that of a child of the tag's index
	gone  []string // platforms whose entry the registry has lost
}

// add adds a finding at n, which belongs to container c unless its name is empty.
func (j *judgement) add(f Finding, c kube.Container) {
	f.Workload, f.Container, f.Image = j.w.String(), c.Name, c.Image
	f.seal()
	j.findings = append(j.findings, f)
}

func (j *judgement) at(rule string, n *yaml.Node) Finding { return finding(rule, j.w.Doc, n) }

func (j *judgement) run(ctx context.Context) []Finding {
	if j.w.Spec == nil {
		for _, c := range j.w.Containers {
			j.guess(ctx, c)
		}
		return j.findings
	}
	candidates := j.candidates()
	j.nodes = onePerPlatform(candidates)
	j.placement(candidates)
	for _, c := range j.w.Containers {
		j.container(ctx, c)
	}
	j.together()
	return j.findings
}

// candidates returns the nodes that the workload may land on.
func (j *judgement) candidates() []*kube.Node {
	var nodes []*kube.Node
	for _, n := range j.Nodes {
		if j.w.Scheduling.Match(n) != kube.No {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// onePerPlatform returns the first node of each platform.
func onePerPlatform(nodes []*kube.Node) []*kube.Node {
	var out []*kube.Node
	seen := map[string]bool{}
	for _, n := range nodes {
		if key := n.Key(); !seen[key] {
			seen[key] = true
			out = append(out, n)
		}
	}
	return out
}

// placement finds what is wrong with the scheduling alone.
func (j *judgement) placement(candidates []*kube.Node) {
	s := &j.w.Scheduling
	none := kube.Container{}
	if len(candidates) == 0 && len(j.Nodes) > 0 {
		f := j.at("unschedulable", j.w.Spec)
		if j.Assumed {
			f.Level = Warning
		}
		f.Message = "no node of " + strings.Join(keys(onePerPlatform(j.Nodes)), ", ") + " matches this workload"
		if r, near := j.misspelled(); near != "" {
			f = j.moved(f, r.Node)
			f.Message += fmt.Sprintf(": no node has %s=%s", r.Key, strings.Join(r.Values, ","))
			f.Hint = "did you mean " + near + "?"
		}
		j.add(f, none)
	}
	open, fixed := 0, 0
	for _, t := range s.Terms {
		switch {
		case len(t.Labels) == 0 && len(t.Fields) == 0:
		case slices.ContainsFunc(t.Labels, func(r kube.Requirement) bool { return kube.IsArch(r.Key) }):
			fixed++
		default:
			open++
		}
	}
	if open > 0 && fixed > 0 {
		f := j.at("affinity-or", s.Terms[0].Node)
		f.Message = "the terms of a node affinity are alternatives: one sets the architecture, and another one permits any"
		f.Hint = "add the requirement on " + kube.LabelArch + " to each term"
		j.add(f, none)
	}
	for _, r := range j.requirements() {
		if kube.IsDeprecated(r.Key) {
			f := j.at("selector-deprecated", r.Node)
			f.Message = r.Key + " is deprecated"
			f.Hint = "use " + strings.TrimPrefix(r.Key, "beta.")
			j.add(f, none)
		}
	}
	if j.w.Kind == "DaemonSet" {
		free := s.WithoutPlatform()
		var left []string
		for _, n := range onePerPlatform(j.Nodes) {
			if free.Match(n) != kube.No && !slices.ContainsFunc(candidates, func(c *kube.Node) bool { return c.Key() == n.Key() }) {
				left = append(left, n.Key())
			}
		}
		if len(left) > 0 && len(candidates) > 0 {
			f := j.at("daemonset-partial", j.w.Spec)
			f.Platforms, f.Message = left, "no pod of this DaemonSet runs on "+strings.Join(left, ", ")
			j.add(f, none)
		}
	}
}

// requirements returns those of the nodeSelector and of all terms.
func (j *judgement) requirements() []kube.Requirement {
	all := slices.Clone(j.w.Scheduling.Selector)
	for _, t := range j.w.Scheduling.Terms {
		all = append(all, t.Labels...)
	}
	return all
}

// moved is f at the place of n.
func (j *judgement) moved(f Finding, n *yaml.Node) Finding {
	at := j.w.Doc.Position(n)
	f.Line, f.Column = at.Line, at.Column
	return f
}

// misspelled returns a requirement on the platform that no node has, and the value that it
// probably means.
func (j *judgement) misspelled() (kube.Requirement, string) {
	for _, r := range j.requirements() {
		if !kube.IsArch(r.Key) && !kube.IsOS(r.Key) || r.Operator != "In" {
			continue
		}
		for _, value := range r.Values {
			if near := nearest(r.Key, value); near != "" {
				return r, near
			}
		}
	}
	return kube.Requirement{}, ""
}

// architectures and systems are the values of the labels that Kubernetes sets (GOARCH and
// GOOS of the kubelet).
var (
	architectures = []string{"amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64le"}
	systems       = []string{"linux", "windows"}
)

// nearest returns the value that was probably meant, or "" for a value that exists.
func nearest(key, value string) string {
	known := architectures
	if kube.IsOS(key) {
		known = systems
	}
	if slices.Contains(known, value) {
		return ""
	}
	if kube.IsArch(key) {
		// Names such as x86_64 are those of uname.
		if p, err := platform.Parse("linux/" + value); err == nil && slices.Contains(known, p.Architecture) {
			return p.Architecture
		}
	}
	best, distance := "", 3
	for _, word := range known {
		if d := levenshtein.Distance(strings.ToLower(value), word, nil); d < distance {
			best, distance = word, d
		}
	}
	return best
}

func keys(nodes []*kube.Node) []string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.Key())
	}
	return list
}

// container checks one image.
func (j *judgement) container(ctx context.Context, c kube.Container) {
	if !kube.IsReference(c.Image) {
		f := j.at("image-invalid", c.Node)
		if kube.HasVariable(c.Image) {
			f.Level, f.Message = Note, fmt.Sprintf("not checked: %q is filled in by another program", c.Image)
			j.add(f, c)
			return
		}
		f.Message = fmt.Sprintf("%q is not the name of an image", c.Image)
		if strings.HasPrefix(c.Image, "ko://") || strings.HasPrefix(c.Image, "mabuild://") {
			f.Hint = "mabuild resolve builds it and writes its reference"
		}
		j.add(f, c)
		return
	}
	image, err := j.Images.Get(ctx, c.Image)
	if err != nil {
		j.unread(ctx, c, err)
		return
	}
	one := containerImage{Container: c, image: image, have: image.Have}
	if len(image.Platforms) == 0 && image.ArtifactType != "" || j.w.DataOnly(c) {
		return // files that are never run
	}
	j.digest(ctx, &one)
	if image.Index {
		j.entries(ctx, &one)
	}
	j.variants(one)
	j.missing(one)
	j.deep(ctx, one)
	j.have = append(j.have, one)
}

// unread adds the finding for an image that could not be read.
func (j *judgement) unread(ctx context.Context, c kube.Container, err error) {
	if ctx.Err() != nil {
		return // the run ends with this error
	}
	f := j.at(unverified(err), c.Node)
	f.Message, f.err = "not checked: "+err.Error(), err
	j.add(f, c)
}

// digest checks a reference with a digest.
func (j *judgement) digest(ctx context.Context, c *containerImage) {
	r := imageref.Cut(c.Image)
	if r.Digest == "" || c.image.Index {
		return
	}
	f := j.at("single-platform-digest", c.Node)
	f.Message = "the digest is that of a single image, for " + shown(c.image)
	if r.Tag != "" {
		r.Digest = ""
		index, err := j.Images.Get(ctx, r.String())
		if err == nil && slices.ContainsFunc(index.Platforms, func(p manifest.Runnable) bool { return p.Digest == c.image.Digest && index.Index }) {
			f = j.at("digest-is-child", c.Node)
			f.Message = fmt.Sprintf("the digest is that of %s alone, while %s has %s", shown(c.image), r, shown(index))
			f.Hint = "use the digest of the index: " + r.String() + "@" + index.Digest.String()
			if len(j.lacking(*c)) == 0 {
				f.Level = Warning
			}
			c.child = true
		}
	}
	j.add(f, c.Container)
}

// entries checks that the children of an index that are needed are there, and that they
// differ.
func (j *judgement) entries(ctx context.Context, c *containerImage) {
	byLayers := map[string]string{}
	var same []string
	for _, n := range j.nodes {
		at, ok := platform.Choose(n.Platform, c.have)
		if !ok {
			continue
		}
		child := c.image.Platforms[at]
		if child.Within != nil || child.Digest == (v1.Hash{}) {
			continue
		}
		layers, err := j.Images.Layers(ctx, c.Image, child.Digest)
		switch {
		case kube.IsNotFound(err):
			c.gone = append(c.gone, n.Key())
			c.have = slices.Concat(c.have[:at], c.have[at+1:])
			// The positions in c.have no longer are those of the report.
			image := *c.image
			report := *image.Report
			report.Platforms = slices.Concat(report.Platforms[:at], report.Platforms[at+1:])
			image.Report, image.Have = &report, c.have
			c.image = &image
		case err != nil:
			j.unread(ctx, c.Container, err)
		case len(layers) > 0:
			key := fmt.Sprint(layers)
			if other, twice := byLayers[key]; twice && other != n.Key() {
				same = []string{other, n.Key()}
			}
			byLayers[key] = n.Key()
		}
	}
	if len(c.gone) > 0 {
		f := j.at("index-entry-missing", c.Node)
		f.Platforms, f.Message = c.gone, "the index lists "+strings.Join(c.gone, ", ")+", but the registry no longer has it: the pull fails"
		f.Hint = "push the image again"
		j.add(f, c.Container)
	}
	if len(same) > 0 {
		f := j.at("platforms-identical", c.Node)
		f.Platforms, f.Message = same, strings.Join(same, " and ")+" have the same layers, so one of them probably does not run"
		j.add(f, c.Container)
	}
}

// variants notes an image that needs a variant of arm that the label of a node does not say.
func (j *judgement) variants(c containerImage) {
	arm := slices.ContainsFunc(j.nodes, func(n *kube.Node) bool { return n.Platform.Architecture == "arm" && n.Platform.Variant == "" })
	if !arm && slices.ContainsFunc(c.have, func(p ocispec.Platform) bool { return p.Architecture != "arm" }) {
		return
	}
	v6 := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	_, low := platform.Choose(v6, c.have)
	v7 := kube.OfPlatform(ocispec.Platform{OS: "linux", Architecture: "arm"})
	if low || !kube.Runs(c.have, v7) {
		return
	}
	f := j.at("variant-unknown", c.Node)
	f.Message = "the image needs arm/v7, and the label of an arm node does not say which variant it has"
	f.Hint = "check against --platform linux/arm/v6 if there are such nodes"
	j.add(f, c.Container)
}

// lacking returns the platforms of the nodes on which an image does not run.
func (j *judgement) lacking(c containerImage) []*kube.Node {
	return slices.DeleteFunc(slices.Clone(j.nodes), func(n *kube.Node) bool { return kube.Runs(c.have, n) })
}

// missing checks that an image runs wherever the workload may land. The message says how the
// fault shows: a runtime refuses an index without the platform, and starts a single image of
// another architecture.
func (j *judgement) missing(c containerImage) {
	lacking := slices.DeleteFunc(j.lacking(c), func(n *kube.Node) bool { return slices.Contains(c.gone, n.Key()) })
	if len(lacking) == 0 || c.child {
		return
	}
	f := j.at("platform-missing", c.Node)
	f.Platforms = keys(lacking)
	f.Message = fmt.Sprintf("may land on %s, and the image has %s", strings.Join(f.Platforms, ", "), shown(c.image))
	if c.image.Index {
		f.Message += ": the pod would end in ImagePullBackOff (no match for platform in manifest)"
	} else {
		f.Message += ": the pod would end in CrashLoopBackOff (exec format error)"
	}
	if pool := j.onlyPool(lacking[0]); pool != "" {
		f.Message += "; node pool " + pool + " may create a " + lacking[0].Key() + " node"
	}
	if now := j.w.Waiting[c.Name]; now != "" {
		f.Message += "; now: " + now
	}
	if j.w.Certainty == kube.Likely {
		f.Hint = "restrict the pods to the platforms of the image, or use an image that has them"
	} else {
		f.Hint = "restrict the workload to platforms of the image (mabuild place), or use an image that has them"
	}
	j.add(f, c.Container)
}

// onlyPool returns the node pool that may create a node like n, if there is no such node
// yet.
func (j *judgement) onlyPool(n *kube.Node) string {
	if slices.ContainsFunc(j.Nodes, func(other *kube.Node) bool { return other.Key() == n.Key() && other.Pool == "" }) {
		return ""
	}
	return n.Pool
}

// together checks what concerns all images of the pod.
func (j *judgement) together() {
	if len(j.have) == 0 {
		return
	}
	none := kube.Container{}
	runs := func(n *kube.Node) bool {
		return !slices.ContainsFunc(j.have, func(c containerImage) bool { return !kube.Runs(c.have, n) })
	}
	common := slices.ContainsFunc(j.have[0].have, func(p ocispec.Platform) bool {
		return runs(kube.OfPlatform(ocispec.Platform{OS: p.OS, Architecture: p.Architecture}))
	})
	if !common && len(j.have) > 1 {
		var parts []string
		for _, c := range j.have {
			parts = append(parts, c.Name+" has "+shown(c.image))
		}
		// What is missing of each image is said already, with a hint that cannot help here.
		for i, f := range j.findings {
			if f.Rule == "platform-missing" {
				j.findings[i].Hint = "no placement helps: use images that have a platform in common"
			}
		}
		f := j.at("no-common-platform", j.w.Spec)
		f.Message = "no platform runs all images of this pod: " + strings.Join(parts, "; ")
		j.add(f, none)
		return
	}
	if len(j.have) < len(j.w.Containers) && j.unverified() {
		return // an image that was not read may be the reason for the selector
	}
	j.stale(runs)
	j.tainted(runs)
}

// unverified reports whether an image of the workload could not be read.
func (j *judgement) unverified() bool {
	return slices.ContainsFunc(j.findings, func(f Finding) bool { return f.Level == Unverified || f.Rule == "image-invalid" })
}

// stale finds a nodeSelector that excludes platforms on which the images run.
func (j *judgement) stale(runs func(*kube.Node) bool) {
	s := &j.w.Scheduling
	at := slices.IndexFunc(s.Selector, func(r kube.Requirement) bool { return kube.IsArch(r.Key) })
	if at < 0 || len(j.nodes) == 0 {
		return
	}
	free := s.WithoutPlatform()
	var more []string
	for _, n := range onePerPlatform(j.Nodes) {
		excluded := !slices.ContainsFunc(j.nodes, func(c *kube.Node) bool { return c.Key() == n.Key() })
		if excluded && free.Match(n) != kube.No && n.Platform.OS == j.nodes[0].Platform.OS && runs(n) {
			more = append(more, n.Key())
		}
	}
	if len(more) == 0 {
		return
	}
	f := j.at("selector-stale", s.Selector[at].Node)
	f.Platforms = more
	f.Message = fmt.Sprintf("the images also run on %s, which %s=%s excludes", strings.Join(more, ", "), s.Selector[at].Key, s.Selector[at].Values[0])
	f.Hint = "remove the selector, or keep it and ignore this rule: annotation " + kube.AnnotationCheck + ": ignore=selector-stale"
	j.add(f, kube.Container{})
}

// tainted notes architectures on which the images run, and whose nodes all have the taint
// kubernetes.io/arch.
func (j *judgement) tainted(runs func(*kube.Node) bool) {
	tolerant := j.w.Scheduling
	tolerant.Tolerations = []kube.Toleration{{Key: kube.LabelArch, Operator: "Exists"}}
	tolerant.Tolerations = append(tolerant.Tolerations, j.w.Scheduling.Tolerations...)
	var barred []string
	for _, n := range onePerPlatform(j.Nodes) {
		reached := slices.ContainsFunc(j.nodes, func(c *kube.Node) bool { return c.Key() == n.Key() })
		if reached || !runs(n) {
			continue
		}
		if slices.ContainsFunc(j.Nodes, func(other *kube.Node) bool { return other.Key() == n.Key() && tolerant.Match(other) != kube.No }) {
			barred = append(barred, n.Key())
		}
	}
	if len(barred) == 0 {
		return
	}
	f := j.at("toleration-missing", j.w.Spec)
	f.Platforms = barred
	f.Message = "could run on " + strings.Join(barred, ", ") + ", but all these nodes have the taint " + kube.LabelArch
	f.Hint = "mabuild place --tolerate adds the toleration"
	j.add(f, kube.Container{})
}

// deep compares what the descriptors say with configs and programs.
func (j *judgement) deep(ctx context.Context, c containerImage) {
	if j.Deep == nil {
		return
	}
	for _, n := range j.nodes {
		at, ok := platform.Choose(n.Platform, c.have)
		if !ok {
			continue
		}
		wrong, err := j.Deep(ctx, c.Image, c.image, at)
		if err != nil {
			j.unread(ctx, c.Container, err)
			return
		}
		if wrong != "" {
			f := j.at("platform-mislabelled", c.Node)
			f.Platforms, f.Message = []string{n.Key()}, wrong
			f.Hint = "push the image again with the right program"
			j.add(f, c.Container)
		}
	}
}

// guess checks an image that was found by its key alone.
func (j *judgement) guess(ctx context.Context, c kube.Container) {
	image, err := j.Images.Get(ctx, c.Image)
	if err != nil {
		j.unread(ctx, c, err)
		return
	}
	one := containerImage{Container: c, image: image, have: image.Have}
	if len(image.Platforms) == 0 {
		return
	}
	j.nodes = onePerPlatform(j.Nodes)
	lacking := j.lacking(one)
	if len(lacking) == 0 {
		return
	}
	f := j.at("image-guess", c.Node)
	f.Platforms = keys(lacking)
	f.Message = fmt.Sprintf("platform-missing, if this is run as an image: it has %s, and there are nodes of %s", shown(one.image), strings.Join(f.Platforms, ", "))
	if j.StrictGuesses {
		f.Level = Error
	}
	j.add(f, c)
}

// shown returns the platforms of an image for a message, at most eight.
func shown(image *kube.Image) string {
	var list []string
	for _, p := range image.Platforms {
		if !slices.Contains(list, p.Platform) && p.Platform != "" {
			list = append(list, p.Platform)
		}
	}
	const most = 8
	switch {
	case len(list) == 0:
		return "no platform"
	case len(list) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}
