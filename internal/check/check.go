// Package check says which workloads of a Kubernetes stream may land on a node that their
// images do not run on. It finds; internal/check/format prints.
//
// What a registry does not answer is never an error of a workload: its findings have the
// level [Unverified].
package check

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A Level says how much a finding matters.
type Level string

// The levels. An Error ends the command with exit code 1.
const (
	Error      Level = "error"
	Warning    Level = "warning"
	Note       Level = "note"
	Unverified Level = "unverified" // an image could not be read
)

// Levels are all levels, the most important first.
var Levels = []Level{Error, Warning, Note, Unverified}

// A Rule is a kind of finding. Its id is stable.
type Rule struct {
	ID    string
	Level Level  // the usual one
	About string // one sentence
}

// Rules are all rules, in the order of docs/kubernetes.md.
var Rules = []Rule{
	{"platform-missing", Error, "The workload may land on a platform that an image does not support."},
	{"no-common-platform", Error, "The images of a pod have no platform in common."},
	{"digest-is-child", Error, "The digest names the image of one platform, and the tag names an index that contains it."},
	{"index-entry-missing", Error, "The index lists a platform whose image is gone from the registry."},
	{"platform-mislabelled", Error, "The index or the config names another platform than the program has."},
	{"platforms-identical", Warning, "Two platforms of an image have the same layers."},
	{"image-invalid", Error, "The name of an image is not a reference."},
	{"selector-stale", Warning, "The images run on more platforms than the nodeSelector allows."},
	{"unschedulable", Error, "No node matches the workload."},
	{"affinity-or", Warning, "One term of the node affinity sets the architecture, another one leaves it open."},
	{"daemonset-partial", Note, "The DaemonSet excludes the architecture of some nodes."},
	{"toleration-missing", Note, "The images run on an architecture whose nodes all have a taint that the workload does not tolerate."},
	{"duplicate-key", Error, "A mapping has a key twice, and kubectl takes the last one silently."},
	{"selector-deprecated", Note, "The label begins with beta.kubernetes.io."},
	{"image-guess", Note, "The name of an image was found by its key alone."},
	{"variant-unknown", Note, "The image runs on some variants of arm only, and the label of a node does not say its variant."},
	{"single-platform-digest", Note, "The digest names the image of one platform."},
	{"ignore-unused", Warning, "An ignored finding has expired or did not occur."},
	{"not-found", Unverified, "The registry does not have the image."},
	{"unauthorized", Unverified, "The registry does not permit reading the image."},
	{"unreachable", Unverified, "The registry does not answer."},
	{"rate-limited", Unverified, "The registry limits the number of requests."},
}

// A Finding is one result. Its JSON is stable: docs/check.schema.json describes it.
type Finding struct {
	Rule      string   `json:"rule"`
	Level     Level    `json:"level"`
	Message   string   `json:"message"`
	Hint      string   `json:"hint,omitempty"`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	Template  string   `json:"template,omitempty"` // of Helm
	Workload  string   `json:"workload,omitempty"`
	Container string   `json:"container,omitempty"`
	Image     string   `json:"image,omitempty"`
	Platforms []string `json:"platforms,omitempty"`
	// Fingerprint identifies the finding in other runs: it is made of rule, workload,
	// container and repository, so a new tag does not change it.
	Fingerprint string `json:"fingerprint"`

	err error // of an Unverified finding
}

// Err returns why an image could not be read; nil for other findings.
func (f *Finding) Err() error { return f.err }

// An Ignore hides findings. Empty fields match everything; Until is the last day.
type Ignore struct {
	Rule, Image, Workload string
	Reason                string
	Until                 time.Time
	Where                 string // for messages
}

// A Checker checks streams. Its fields must not change while it runs.
type Checker struct {
	Images *kube.Images
	Nodes  []*kube.Node
	// Assumed says that Nodes are not those of a cluster, so that a workload without a node
	// is only a warning.
	Assumed       bool
	Deep          func(ctx context.Context, ref string, image *kube.Image, at int) (string, error) // what is wrong with an image; nil reads no image
	StrictGuesses bool
	Ignores       []Ignore
	Now           time.Time
}

// A Result is the outcome of a run.
type Result struct {
	Findings  []Finding
	Workloads int // pod specs
	Images    int // unique references
	Ignored   int // findings that were hidden
	Platforms []string
}

// Count returns how many findings have a level.
func (r *Result) Count(level Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// Run checks files. Its error is that of ctx: everything else is a finding.
func (c *Checker) Run(ctx context.Context, files []*kube.File) (*Result, error) {
	var workloads []*kube.Workload
	result := &Result{}
	var findings []Finding
	for _, f := range files {
		workloads = append(workloads, f.Workloads()...)
		for _, d := range f.Duplicates() {
			findings = append(findings, c.duplicate(d))
		}
	}
	refs := map[string]bool{}
	for _, w := range workloads {
		if w.Spec != nil {
			result.Workloads++
		}
		for _, one := range w.Containers {
			refs[one.Image] = true
		}
	}
	result.Images = len(refs)
	for _, n := range c.Nodes {
		result.Platforms = append(result.Platforms, n.Key())
	}
	slices.Sort(result.Platforms)
	result.Platforms = slices.Compact(result.Platforms)

	found := make([][]Finding, len(workloads))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWorkloads)
	for i, w := range workloads {
		group.Go(func() error {
			one := &judgement{Checker: c, w: w}
			found[i] = one.run(ctx)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	findings = append(findings, slices.Concat(found...)...)
	findings, result.Ignored = c.ignore(workloads, findings)
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Rule, b.Rule), strings.Compare(a.Image, b.Image))
	})
	result.Findings = findings
	return result, nil
}

// maxWorkloads is how many workloads are judged at once. Most of them wait for a registry,
// whose client has limits of its own.
const maxWorkloads = 64

// finding begins a finding of a rule at a node of a document.
func finding(rule string, d *kube.Document, n *yaml.Node) Finding {
	f := Finding{Rule: rule, Template: d.Source}
	if i := slices.IndexFunc(Rules, func(r Rule) bool { return r.ID == rule }); i >= 0 {
		f.Level = Rules[i].Level
	}
	at := d.Position(n)
	f.File, f.Line, f.Column = at.File, at.Line, at.Column
	return f
}

// seal computes the fingerprint.
func (f *Finding) seal() {
	r := imageref.Cut(f.Image)
	// A Guess names its workload by its path, and a duplicate key by its message.
	parts := []string{f.Rule, f.Workload, f.Container, r.Repository}
	if f.Rule == "duplicate-key" {
		parts = append(parts, f.Message)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	f.Fingerprint = hex.EncodeToString(sum[:8])
}

func (c *Checker) duplicate(d kube.Duplicate) Finding {
	f := finding("duplicate-key", d.Doc, d.Node)
	f.Message = fmt.Sprintf("the key %s is here a second time, first in line %d", d.Key, d.First.Line)
	f.Hint = "keep one of them: kubectl takes the last, and other tools refuse the file"
	f.seal()
	return f
}

// unverified returns the rule for an error of a registry.
func unverified(err error) string {
	var e *registry.Error
	if errors.As(err, &e) {
		switch e.Kind() {
		case registry.KindNotFound:
			return "not-found"
		case registry.KindUnauthorized:
			return "unauthorized"
		case registry.KindRateLimited:
			return "rate-limited"
		}
	}
	if kube.IsNotFound(err) {
		return "not-found"
	}
	return "unreachable"
}
