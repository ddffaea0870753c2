package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/check/format"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/outfile"
)

// clusterOptions are the flags of the commands that need to know nodes.
type clusterOptions struct {
	nodes     []string
	platforms []string
	cluster   bool
	context   string
	secrets   bool
}

// bind adds the flags. all says that --cluster reads the workloads, too.
func (o *clusterOptions) bind(cmd *cobra.Command, cluster string) {
	f := cmd.Flags()
	f.StringArrayVar(&o.nodes, "nodes", nil, "Read the nodes from `FILE`, the output of kubectl get nodes -o json (repeatable)")
	f.StringSliceVar(&o.platforms, "platform", nil, "Assume nodes of these `PLATFORMS` (also --platforms; default linux/amd64,linux/arm64)")
	alike(f, map[string]string{"platforms": "platform"})
	f.BoolVar(&o.cluster, "cluster", false, cluster)
	f.StringVar(&o.context, "context", "", "With --cluster, use this `CONTEXT` of kubectl")
	f.BoolVar(&o.secrets, "pull-secrets", false, "With --cluster, read the Secrets that pods name as imagePullSecrets, and read images with them")
}

// checkOptions are the flags of check.
type checkOptions struct {
	clusterOptions
	names         []string // as arguments
	formats       []string
	baseline      string
	unverified    string
	strictGuesses bool
	deep          bool
}

// newCheck returns the command check.
func newCheck(a *app) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [FILE|DIR|-]…",
		Short: "Check that Kubernetes workloads only land on platforms of their images",
		Long: `Check for each workload of Kubernetes manifests whether it may land on a node whose
platform one of its images does not support. FILE is YAML or JSON, DIR is read
recursively, and - is standard input. The nodes are those of --cluster, --nodes,
--platform, and of node pools in the manifests.

The exit code is 1 if there is a finding with level error.`,
		Example: `  mabuild check deploy/
  helm template ./chart | mabuild check -
  kubectl kustomize overlays/prod | mabuild check --platform linux/amd64,linux/arm64 -
  mabuild check --cluster
  mabuild check deploy/ --format table --format sarif=check.sarif`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.startWith(cmd, config.Access); err != nil {
				return err
			}
			if err := valued(cmd, "nodes", "platform", "context", "baseline", "format", "filename"); err != nil {
				return err
			}
			return runCheck(cmd.Context(), a, o, append(args, o.names...))
		},
	}
	o.bind(cmd, "Check the workloads of the cluster and use its nodes; runs kubectl")
	f := cmd.Flags()
	f.StringArrayVar(&o.formats, "format", []string{"table"}, "Print the findings as table, json, sarif, junit, github or html; `FORMAT`=FILE writes to a file (repeatable)")
	f.StringSliceVarP(&o.names, "filename", "f", nil, "Also read `FILE`, a directory or -, as kubectl does (repeatable)")
	f.StringVar(&o.baseline, "baseline", "", "Hide the findings in `FILE`, the JSON output of an earlier run")
	f.StringVar(&o.unverified, "unverified", "warn", "If an image cannot be read: warn or fail `MODE`")
	f.BoolVar(&o.deep, "deep", false, "Also compare the programs in the images with their platforms; reads all layers of each image")
	f.BoolVar(&o.strictGuesses, "strict-guesses", false, "Treat a guessed image that lacks a platform as an error")
	completeFlag(cmd, "format", cobra.FixedCompletions([]string{"table", "json", "sarif", "junit", "github", "html"}, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "unverified", cobra.FixedCompletions([]string{"warn", "fail"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runCheck reads the manifests and nodes, checks them and prints the findings.
func runCheck(ctx context.Context, a *app, o checkOptions, names []string) error {
	outputs, err := o.outputs(a)
	if err != nil {
		return err
	}
	if err := checkUnverified(o.unverified); err != nil {
		return err
	}
	if len(names) == 0 && !o.cluster {
		return usage("name a file, a directory, - for standard input, or add --cluster", "check: no manifests")
	}
	limitMemory(memoryOfCheck)
	reader := kube.Reader{Stdin: a.stdin, Recursive: true, Skim: true, Note: func(message string) { a.log.WarnContext(ctx, message) }}
	files, err := reader.Read(names)
	if err != nil {
		return err
	}
	nodes, assumed, live, err := o.find(ctx, a, files)
	if err != nil {
		return err
	}
	known, err := readBaseline(o.baseline)
	if err != nil {
		return err
	}
	images := a.images(slices.Concat(files, live))
	c := &check.Checker{
		Images: images, Nodes: nodes, Assumed: assumed, StrictGuesses: o.strictGuesses, Now: time.Now(),
	}
	if o.deep {
		c.Deep = check.Deep(images.Source)
	}
	if c.Ignores, err = ignores(a.config); err != nil {
		return err
	}
	result, err := c.Run(ctx, append(files, live...))
	if err != nil {
		return err
	}
	if result.Workloads == 0 {
		a.log.WarnContext(ctx, "there is no workload to check")
	}
	result.Findings = slices.DeleteFunc(result.Findings, func(f check.Finding) bool { return known[f.Fingerprint] })
	for _, write := range outputs {
		if err := write(result); err != nil {
			return err
		}
	}
	return o.verdict(result)
}

// checkUnverified checks the value of --unverified.
func checkUnverified(mode string) error {
	if mode != "warn" && mode != "fail" {
		return usage("use warn or fail", "--unverified %q: unknown mode", mode)
	}
	return nil
}

// verdict returns the error for the exit code.
func (o *checkOptions) verdict(r *check.Result) error {
	if n := r.Count(check.Error); n > 0 {
		return &hint.Error{Err: fmt.Errorf("%s with level error", format.Count(n, "finding"))}
	}
	if o.unverified == "fail" {
		var errs []error
		for _, f := range r.Findings {
			if err := f.Err(); err != nil {
				errs = append(errs, missing(err))
			}
		}
		return errors.Join(errs...)
	}
	return nil
}

// outputs returns a function for each --format.
func (o *checkOptions) outputs(a *app) ([]func(*check.Result) error, error) {
	var outputs []func(*check.Result) error
	toStdout := false
	for _, text := range o.formats {
		name, file, toFile := strings.Cut(text, "=")
		toFile = toFile && file != "-"
		show, ok := format.Formats[name]
		if !ok {
			return nil, usage("use table, json, sarif, junit, github or html", "--format %q: unknown format", name)
		}
		options := format.Options{Version: strings.Trim(versionText(), "()")}
		if !toFile {
			if toStdout {
				return nil, usage("write the other one to a file: --format "+name+"=FILE", "--format: only one format can be printed")
			}
			toStdout = true
			options.Colour = isTerminal(a.stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			outputs = append(outputs, func(r *check.Result) error { return show(a.stdout, r, options) })
			continue
		}
		if err := writable("--format", file); err != nil {
			return nil, err
		}
		outputs = append(outputs, func(r *check.Result) error {
			return outfile.Write(file, func(w io.Writer) error { return show(w, r, options) })
		})
	}
	return outputs, nil
}

// readBaseline returns the fingerprints in the output of an earlier run.
func readBaseline(file string) (map[string]bool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err == nil {
		var known map[string]bool
		if known, err = format.Baseline(data); err == nil {
			return known, nil
		}
		err = fmt.Errorf("%s: %w", file, err)
	}
	return nil, usage("use the output of mabuild check --format json=FILE", "--baseline: %s", err)
}

// ignores converts the entries of check.ignore in the configuration.
func ignores(c *config.Config) ([]check.Ignore, error) {
	var all []check.Ignore
	for i, one := range c.Check.Ignore {
		entry := check.Ignore{Rule: one.Rule, Image: one.Image, Workload: one.Workload, Reason: one.Reason, Where: cmp.Or(c.File, config.FileName)}
		where := fmt.Sprintf("%s: check.ignore[%d]", entry.Where, i)
		switch {
		case entry.Rule == "" && entry.Image == "" && entry.Workload == "":
			return nil, usage("add rule, image or workload", "%s matches everything", where)
		case entry.Reason == "":
			return nil, usage("say why the finding is ignored", "%s has no reason", where)
		case entry.Rule != "" && !slices.ContainsFunc(check.Rules, func(r check.Rule) bool { return r.ID == entry.Rule }):
			return nil, usage("docs/kubernetes.md lists the rules", "%s: no rule %q", where, entry.Rule)
		}
		if one.Until != "" {
			day, err := time.Parse(time.DateOnly, one.Until)
			if err != nil {
				return nil, usage("write it as 2027-01-31", "%s: until %q is not a date", where, one.Until)
			}
			entry.Until = day
		}
		all = append(all, entry)
	}
	return all, nil
}

// find returns the nodes of the flags and of the node pools in files, and with --cluster the
// workloads of the cluster. assumed says that no node was read.
func (o *clusterOptions) find(ctx context.Context, a *app, files []*kube.File) (nodes []*kube.Node, assumed bool, live []*kube.File, err error) {
	if (o.context != "" || o.secrets) && !o.cluster {
		return nil, false, nil, usage("add --cluster", "--context and --pull-secrets require --cluster")
	}
	for _, name := range o.nodes {
		file, err := (&kube.Reader{Stdin: a.stdin}).Read([]string{name})
		if err != nil {
			return nil, false, nil, err
		}
		found := len(nodes)
		for _, f := range file {
			nodes = append(nodes, f.Nodes()...)
		}
		if len(nodes) == found {
			return nil, false, nil, usage("kubectl get nodes -o json >nodes.json, and --nodes nodes.json", "--nodes %s: no node in this file", name)
		}
	}
	if o.cluster {
		if live, err = kube.Cluster(ctx, o.context, o.secrets); err != nil {
			return nil, false, nil, err
		}
	}
	for _, f := range slices.Concat(files, live) {
		nodes = append(nodes, f.Nodes()...)
	}
	if len(o.platforms) > 0 {
		more, err := kube.ParsePlatforms(o.platforms)
		return append(nodes, more...), false, live, err
	}
	if len(nodes) == 0 {
		return kube.UsualNodes(), true, live, nil
	}
	return nodes, false, live, nil
}
