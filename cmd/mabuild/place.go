package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/check/format"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/outfile"
)

// placeOptions are the flags of place.
type placeOptions struct {
	clusterOptions
	names        []string // as arguments
	write, check bool
	always       bool
	tolerate     bool
	prefer       []string
	unverified   string
	policy       policyOptions
}

// newPlace returns the command place.
func newPlace(a *app) *cobra.Command {
	var o placeOptions
	cmd := &cobra.Command{
		Use:   "place [FILE|DIR|-]…",
		Short: "Restrict Kubernetes workloads to platforms that their images support",
		Long: `Add the platforms that all images of a workload support to its required node
affinity, and print the result. Nothing else in a file changes. Workloads whose images
run on all nodes, or that select an architecture themselves, stay as they are.

The requirement joins each term of an affinity that is there already, since terms are
alternatives. A second run changes nothing, and a run after an image has got another
platform updates what place wrote. A ResourceList on standard input is one on standard
output, so place is also a function for kustomize.`,
		Example: `  mabuild place --write deploy/
  helm template ./chart | mabuild place - | kubectl apply -f -
  mabuild place --check deploy/
  mabuild place --prefer arm64=50 --tolerate deploy/
  mabuild place --policy --cluster | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if err := errors.Join(valued(cmd, "nodes", "platform", "context", "filename"), exclusive(cmd, []string{"write", "check", "policy"})); err != nil {
				return err
			}
			args = append(args, o.names...)
			if o.policy.print {
				return runPolicy(cmd.Context(), a, o, args)
			}
			if o.policy.apply || o.policy.watch {
				return usage("add --policy", "--apply and --watch require --policy")
			}
			return runPlace(cmd.Context(), a, o, args)
		},
	}
	o.bind(cmd, "Use the nodes of the cluster; runs kubectl")
	f := cmd.Flags()
	f.StringSliceVarP(&o.names, "filename", "f", nil, "Also read `FILE`, a directory or -, as kubectl does (repeatable)")
	f.BoolVarP(&o.write, "write", "w", false, "Write the result to the files instead of printing it")
	f.BoolVar(&o.check, "check", false, "Print the names of files that would change, and exit with 1 if there are any")
	f.BoolVar(&o.always, "always", false, "Also restrict workloads whose images run on all nodes")
	f.StringSliceVar(&o.prefer, "prefer", nil, "Prefer nodes of an architecture, `ARCH`[=WEIGHT] with a weight from 1 to 100 (default 100)")
	f.BoolVar(&o.tolerate, "tolerate", false, "Tolerate the taint kubernetes.io/arch of the architectures, which GKE sets on arm64 nodes")
	f.StringVar(&o.unverified, "unverified", "fail", "If an image cannot be read: warn or fail `MODE`; its workload stays as it is")
	f.BoolVar(&o.policy.print, "policy", false, "Print an admission policy (Kubernetes 1.36) and its data instead: the images of the files, or with --cluster of the cluster")
	f.BoolVar(&o.policy.apply, "apply", false, "With --policy, write the data into the cluster instead, and nothing else")
	f.BoolVar(&o.policy.watch, "watch", false, "With --policy and --cluster, keep the data up to date until interrupted")
	completeFlag(cmd, "unverified", cobra.FixedCompletions([]string{"warn", "fail"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// preferences parses --prefer.
func (o *placeOptions) preferences() (map[string]int, error) {
	all := map[string]int{}
	for _, text := range o.prefer {
		arch, number, weighted := strings.Cut(strings.TrimSpace(text), "=")
		weight, err := strconv.Atoi(number)
		if !weighted {
			weight, err = 100, nil
		}
		if err != nil || weight < 1 || weight > 100 || arch == "" || strings.Contains(arch, "/") {
			return nil, usage("for example --prefer arm64=50, with a weight from 1 to 100", "--prefer %q is not ARCH=WEIGHT", text)
		}
		all[arch] = weight
	}
	return all, nil
}

// runPlace places the workloads of the files.
func runPlace(ctx context.Context, a *app, o placeOptions, names []string) error {
	prefer, err := o.preferences()
	if err != nil {
		return err
	}
	if err := checkUnverified(o.unverified); err != nil {
		return err
	}
	if len(names) == 0 {
		way := "name a file or a directory, or - for standard input"
		if o.cluster {
			way += "; with --policy it takes the images of the cluster"
		}
		return usage(way, "place: no manifests")
	}
	reader := kube.Reader{Stdin: a.stdin, Recursive: true, Note: func(message string) { a.log.WarnContext(ctx, message) }}
	files, err := reader.Read(names)
	if err != nil {
		return err
	}
	nodes, _, live, err := o.find(ctx, a, files)
	if err != nil {
		return err
	}
	p := &placing{
		app: a, images: a.images(slices.Concat(files, live)), nodes: nodes, warn: o.unverified == "warn",
		options: kube.Placing{Always: o.always, Prefer: prefer, Tolerate: o.tolerate},
	}
	var failed error
	changed := 0
	var out bytes.Buffer
	for _, f := range files {
		data, err := p.file(ctx, f)
		failed = errors.Join(failed, err)
		isChanged := !bytes.Equal(data, f.Data)
		if isChanged {
			changed++
		}
		switch {
		case o.check && isChanged:
			fmt.Fprintln(&out, plain(f.Name))
		case o.check:
		case o.write && f.Name != kube.Stdin:
			if isChanged {
				if err := outfile.Write(f.Name, func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
					return err
				}
				a.log.InfoContext(ctx, "placed "+f.Name)
			}
		default:
			separate(&out, data)
		}
	}
	if _, err := a.stdout.Write(out.Bytes()); err != nil {
		return err
	}
	if failed == nil && o.check && changed > 0 {
		return &hint.Error{Err: fmt.Errorf("%s would change", format.Count(changed, "file")), Hint: "mabuild place --write writes these files"}
	}
	return failed
}

// separate appends the data of a file to a stream of documents.
func separate(out *bytes.Buffer, data []byte) {
	if len(data) == 0 {
		return
	}
	if out.Len() > 0 && !bytes.HasPrefix(data, []byte("---")) {
		out.WriteString("---\n")
	}
	out.Write(data)
	if n := len(data); n > 0 && data[n-1] != '\n' {
		out.WriteByte('\n')
	}
}

// A placing places the workloads of one run.
type placing struct {
	*app
	images  *kube.Images
	nodes   []*kube.Node
	options kube.Placing
	warn    bool // of images that cannot be read
}

// file returns the bytes of a file with its workloads placed. A workload that cannot be
// placed stays as it is, and the error says why; the others are placed.
func (p *placing) file(ctx context.Context, f *kube.File) ([]byte, error) {
	workloads := f.Workloads()
	patches, errs := make([][]kube.Patch, len(workloads)), make([]error, len(workloads))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64) // most wait for a registry, whose client has limits of its own
	for i, w := range workloads {
		if w.Spec == nil {
			continue
		}
		several := slices.ContainsFunc(workloads, func(other *kube.Workload) bool { return other != w && other.Object == w.Object && other.Spec != nil })
		group.Go(func() error {
			patches[i], errs[i] = p.workload(ctx, w, several)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return f.Data, err
	}
	var edits []kube.Edit
	for i, w := range workloads {
		if len(patches[i]) == 0 {
			continue
		}
		edits = append(edits, kube.Edit{Doc: w.Doc, Object: w.Object, Patches: patches[i]})
		if w.Kind == "Job" || w.Kind == "Pod" {
			p.log.InfoContext(ctx, fmt.Sprintf("%s: the affinity of a %s that exists cannot change: delete it before you apply this", w, w.Kind))
		}
	}
	for _, doc := range f.Docs {
		var messages []string
		for i, w := range workloads {
			if w.Doc == doc && errs[i] != nil {
				messages = append(messages, plain(errs[i].Error()))
			}
		}
		if results, ok := doc.Results(messages); ok {
			edits = append(edits, results)
		}
	}
	data, err := f.Apply(edits)
	if err != nil {
		return f.Data, errors.Join(append(errs, err)...)
	}
	return data, errors.Join(errs...)
}

// workload returns the patches of one workload. An object with several pod specs is not
// marked: one annotation cannot say what each of them got.
func (p *placing) workload(ctx context.Context, w *kube.Workload, several bool) ([]kube.Patch, error) {
	where := fmt.Sprintf("%s: %s", w.Doc.Position(w.Spec), w)
	if w.Fixed {
		p.log.DebugContext(ctx, where+" has no node affinity")
		return nil, nil
	}
	for _, c := range w.Containers {
		if kube.NamesProgram(c.Image) {
			return nil, usage("mabuild resolve --place builds it", "%s: %s is the name of a program, not of an image", where, c.Image)
		}
		if kube.HasVariable(c.Image) {
			p.log.WarnContext(ctx, fmt.Sprintf("%s: not placed: the image %s is not known", where, c.Image))
			return nil, nil
		}
	}
	supported, err := p.images.Supported(ctx, w, p.nodes)
	if err != nil && ctx.Err() == nil {
		if p.warn {
			p.log.WarnContext(ctx, where+": not placed: "+err.Error())
			return nil, nil
		}
		return nil, hint.Named(where, err)
	}
	if err != nil {
		return nil, err
	}
	options := p.options
	options.Unmarked = several
	patches, err := kube.Place(w, supported, p.nodes, options)
	if err != nil {
		return nil, &hint.Error{Err: fmt.Errorf("%s cannot be placed: %w", where, err), Hint: "mabuild check lists the platforms of each image"}
	}
	return patches, nil
}
