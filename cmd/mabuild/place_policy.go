package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/check/format"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/text"
)

// policyOptions are the flags of place --policy.
type policyOptions struct {
	print, apply, watch bool
}

// A policy keeps the data of the admission policy.
type policy struct {
	*app
	context string // of kubectl
	before  map[string]string
	images  kube.PolicyMap
	failed  map[string]bool // images that could not be read, so that each is reported once
}

// runPolicy prints the admission policy and its data, or writes the data into the cluster.
func runPolicy(ctx context.Context, a *app, o placeOptions, names []string) error {
	if o.policy.watch && !o.cluster {
		return usage("add --cluster", "--watch requires --cluster")
	}
	if len(names) == 0 && !o.cluster {
		return usage("add --cluster, or name files with workloads", "--policy: no images")
	}
	reader := kube.Reader{Stdin: a.stdin, Recursive: true}
	files, err := reader.Read(names)
	if err != nil {
		return err
	}
	if o.cluster {
		live, err := kube.Cluster(ctx, o.context, o.secrets)
		if err != nil {
			return err
		}
		files = append(files, live...)
	}
	p := &policy{app: a, context: o.context, images: kube.PolicyMap{}, failed: map[string]bool{}}
	if o.policy.apply || o.policy.watch {
		if err := p.read(ctx); err != nil {
			return err
		}
	}
	found := references(files)
	if err := p.update(ctx, found); err != nil {
		return err
	}
	switch {
	case o.policy.watch:
		if err := p.write(ctx); err != nil {
			return err
		}
		return p.watch(ctx)
	case o.policy.apply:
		return p.write(ctx)
	}
	_, err = io.WriteString(a.stdout, kube.Policy+"---\n"+kube.ConfigMap(p.data(ctx)))
	return err
}

// references returns the images of the workloads, each once. Images that are never run are
// left out.
func references(files []*kube.File) []string {
	var refs []string
	for _, f := range files {
		for _, w := range f.Workloads() {
			for _, c := range w.Containers {
				if w.Spec != nil && !w.DataOnly(c) && c.Role != kube.Ephemeral && kube.IsReference(c.Image) {
					refs = append(refs, c.Image)
				}
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// update reads the platforms of images. One that cannot be read is reported once and left out:
// its pods stay as they are.
func (p *policy) update(ctx context.Context, refs []string) error {
	images := &kube.Images{Source: p.newClient()} // a new one sees tags that moved
	archs, errs := make([][]string, len(refs)), make([]error, len(refs))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(64) // the client has limits of its own
	for i, ref := range refs {
		group.Go(func() error {
			image, err := images.Get(inner, ref)
			if err == nil {
				archs[i] = kube.Archs(image)
			}
			errs[i] = err
			return context.Cause(inner)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, ref := range refs {
		switch {
		case errs[i] != nil && !p.failed[ref]:
			p.failed[ref] = true
			p.log.WarnContext(ctx, ref+": not in the data: "+errs[i].Error())
		case errs[i] == nil && len(archs[i]) > 0:
			p.images[ref] = archs[i]
			delete(p.failed, ref)
		}
	}
	return nil
}

// data returns the data of the ConfigMap, and logs what is missing in it.
func (p *policy) data(ctx context.Context) map[string]string {
	data, dropped := p.images.Data(p.before)
	if len(dropped) > 0 {
		p.log.WarnContext(ctx, fmt.Sprintf("%s left out of the data, which is full or has another image with the same key: %s", format.Count(len(dropped), "image"), text.Line(strings.Join(dropped, ", "), 500)))
	}
	return data
}

// read reads the data that the cluster has.
func (p *policy) read(ctx context.Context) error {
	out, err := kube.Kubectl(ctx, p.context, nil, "get", "configmap", kube.PolicyData, "--namespace", kube.PolicyNamespace, "--ignore-not-found", "-o", "json")
	if err != nil || len(out) == 0 {
		return err
	}
	var c struct {
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(out, &c); err != nil {
		return fmt.Errorf("kubectl get configmap: %w", err)
	}
	p.before = c.Data
	return nil
}

// write writes the ConfigMap, and nothing else.
func (p *policy) write(ctx context.Context) error {
	data := p.data(ctx)
	_, err := kube.Kubectl(ctx, p.context, []byte(kube.ConfigMap(data)), "apply", "--server-side", "--field-manager", "mabuild", "--force-conflicts", "-f", "-")
	if err == nil {
		p.log.InfoContext(ctx, fmt.Sprintf("ConfigMap %s/%s has %s", kube.PolicyNamespace, kube.PolicyData, format.Count(len(data), "image")))
	}
	return err
}

// How often a watch looks up all images again, and how long it waits before it starts
// kubectl again.
const (
	policyRefresh = 10 * time.Minute
	policyRestart = 5 * time.Second
)

// watch looks up the images of pods that the policy did not know, as they appear, until ctx
// ends.
func (p *policy) watch(ctx context.Context) error {
	pods := make(chan *kube.File)
	go p.follow(ctx, pods)
	refresh := time.NewTicker(policyRefresh)
	defer refresh.Stop()
	for {
		var refs []string
		again := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-pods:
			refs = slices.DeleteFunc(references([]*kube.File{f}), func(ref string) bool { return p.images[ref] != nil })
		case <-refresh.C:
			for ref := range p.images {
				refs = append(refs, ref)
			}
			clear(p.failed)
			again = true
		}
		if len(refs) == 0 {
			continue
		}
		known := len(p.images)
		err := p.update(ctx, refs)
		if err == nil && (again || len(p.images) > known) {
			err = p.write(ctx)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			p.log.WarnContext(ctx, err.Error())
		}
	}
}

// follow sends the pods with the label of unknown images, with kubectl, which is started
// again when its watch ends.
func (p *policy) follow(ctx context.Context, pods chan<- *kube.File) {
	for ctx.Err() == nil {
		if err := p.stream(ctx, pods); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "watch: "+err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(policyRestart):
		}
	}
}

func (p *policy) stream(ctx context.Context, pods chan<- *kube.File) error {
	args := []string{"get", "pods", "--all-namespaces", "--selector", kube.LabelUnplaced + "=true", "--watch", "-o", "json"}
	if p.context != "" {
		args = append([]string{"--context", p.context}, args...)
	}
	cmd := exec.CommandContext(ctx, "kubectl", args...) //nolint:gosec // the arguments are ours and the user's
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	decoder := json.NewDecoder(out)
	for {
		var object json.RawMessage
		if err = decoder.Decode(&object); err != nil {
			break
		}
		f, parseErr := kube.Parse("the cluster", object)
		if parseErr != nil {
			err = parseErr
			break
		}
		select {
		case pods <- f:
		case <-ctx.Done():
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	_ = cmd.Process.Kill() // has no effect on one that has ended
	return errors.Join(err, cmd.Wait())
}
