package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// resolveOptions are the flags of resolve, apply and create.
type resolveOptions struct {
	pushOptions
	names           []string
	recursive       bool
	selector        string
	place, noCheck  bool
	allowUnresolved bool
	output          string   // the file for the result; "" means standard output
	stream          bool     // print each manifest as soon as its programs are pushed
	kubectl         string   // the command of kubectl; "" prints the result
	arguments       []string // of kubectl
}

// newResolve returns the command resolve.
func newResolve(a *app) *cobra.Command {
	return newResolving(a, "", &cobra.Command{
		Use:   "resolve -f FILE…",
		Short: "Build the programs in Kubernetes manifests and print the manifests with their images",
		Long: `Build each program that a Kubernetes manifest names in place of an image, push all
images, and print the manifests with their references. A program is written as
mabuild://PACKAGE (or ko://PACKAGE), where PACKAGE is an import path, ./DIR relative
to the manifest (from standard input: to the working directory), module/path@version,
or the id of a build in .mabuild.yaml.

Only these strings change: comments, quotes and line breaks stay. Nothing is printed
before everything is pushed, unless --stream asks for it.`,
		Example: `  mabuild resolve -f deploy/ -o release.yaml
  mabuild resolve -f deploy/app.yaml --platforms linux/amd64,linux/arm64 -t v1 --place
  kubectl kustomize overlays/prod | mabuild resolve -f - | kubectl apply -f -`,
	})
}

// newApply returns the commands apply and create, which pass the result to kubectl.
func newApply(a *app, kubectl string) *cobra.Command {
	return newResolving(a, kubectl, &cobra.Command{
		Use:   kubectl + " -f FILE… [-- KUBECTL FLAGS…]",
		Short: "Build the programs in Kubernetes manifests and run kubectl " + kubectl,
		Long: `Build the programs in Kubernetes manifests as resolve does, and pass the result to
kubectl ` + kubectl + ` -f -. kubectl starts after everything is pushed. Arguments after -- are
flags of kubectl.`,
		Example: "  mabuild " + kubectl + " -f deploy/\n  mabuild " + kubectl + " -f deploy/ -t v1 -- --namespace staging",
	})
}

// newResolving completes a command of resolve, apply or create.
func newResolving(a *app, kubectl string, cmd *cobra.Command) *cobra.Command {
	o := resolveOptions{pushOptions: pushOptions{push: true}, kubectl: kubectl}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at := cmd.ArgsLenAtDash()
		switch {
		case at >= 0 && kubectl != "":
			o.arguments, args = args[at:], args[:at]
		case at >= 0:
			return usage("mabuild apply -f FILE -- KUBECTL FLAGS", "resolve runs no kubectl, so -- has no meaning")
		}
		if len(args) > 0 {
			return usage(fmt.Sprintf("mabuild %s -f %s", cmd.Name(), args[0]), "%s takes manifests with -f", cmd.Name())
		}
		return runResolve(cmd, a, o)
	}
	f := cmd.Flags()
	f.StringSliceVarP(&o.names, "filename", "f", nil, "Read manifests from `FILE`, a directory or - for standard input (repeatable)")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "Read directories recursively")
	f.StringVarP(&o.selector, "selector", "l", "", "Use only objects with these labels, a `SELECTOR` such as app=web")
	f.BoolVar(&o.place, "place", false, "Also restrict the workloads to platforms of their images, as mabuild place does")
	f.BoolVar(&o.noCheck, "no-check", false, "Do not warn about workloads that may land on a platform that their images lack")
	if kubectl == "" {
		f.StringVarP(&o.output, "output-file", "o", "", "Write the manifests to `FILE` instead of standard output")
		f.BoolVar(&o.stream, "stream", false, "Print each manifest as soon as its programs are pushed, although a later one may fail")
	}
	f.BoolVar(&o.allowUnresolved, "allow-unresolved", false, "Leave strings that have mabuild:// or ko:// in their middle as they are")
	// The letter of --output, a place for images, is that of the file for the manifests here.
	push := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.bind(push)
	push.Lookup("output").Shorthand = ""
	f.SetNormalizeFunc(push.GetNormalizeFunc()) // the other names of flags
	f.AddFlagSet(push)
	return cmd
}

// A resolving is one run: the manifests, the programs in them, and the build of each.
type resolving struct {
	*app
	o        resolveOptions
	files    []*kube.File
	programs [][]kube.Program // of each file
	builds   []config.Build
	build    map[*kube.Program]int // position in builds

	references []string     // of each build; "" until it is pushed
	known      *kube.Images // what was built, and all other images
	built      *kube.Images // what was built
	resolved   []*kube.File // the first of files, with their references
	out        bytes.Buffer // their data
	printed    int          // bytes of out
}

// runResolve reads the manifests, builds their programs and prints or applies the result.
func runResolve(cmd *cobra.Command, a *app, o resolveOptions) error {
	if len(o.names) == 0 {
		return usage("add -f FILE, a directory or -", "%s: no manifests", cmd.Name())
	}
	if slices.Contains([]string{"yaml", "json"}, o.output) {
		return usage("omit it: the manifests are printed as they are; a file of this name is ./"+o.output, "-o %s is a format, not a file", o.output)
	}
	if o.kubectl != "" {
		if _, err := exec.LookPath("kubectl"); err != nil {
			return usage("install kubectl, or use mabuild resolve", "kubectl is not on PATH")
		}
	}
	selector := kube.Selector(nil)
	if o.selector != "" {
		var err error
		if selector, err = kube.ParseSelector(o.selector); err != nil {
			return err
		}
	}
	if err := errors.Join(exclusive(cmd, []string{"stream", "output-file"}), valued(cmd, "output-file"), writable("--output-file", o.output)); err != nil {
		return err
	}
	if local.Is(o.output) {
		return usage("--output "+o.output+" also writes the images there", "-o %s: the file for the manifests is not a place for images", o.output)
	}
	r := &resolving{app: a, o: o, build: map[*kube.Program]int{}, built: &kube.Images{Offline: true}}
	if err := r.read(selector); err != nil {
		return err
	}
	ctx := cmd.Context() // --timeout is for the build alone
	o.then = func(done []*publish.Result) error { return r.finish(ctx, done) }
	o.choose = r.choose
	if o.stream {
		// The rows of a terminal would be drawn over the manifests.
		if !cmd.Flags().Changed("progress") && !a.quiet {
			if err := cmd.Flags().Set("progress", "plain"); err != nil {
				return err
			}
		}
		var failed error
		o.each = func(i int, d *publish.Result) {
			if failed == nil {
				failed = errors.Join(r.know(i, d), r.print(ctx))
			}
		}
		o.then = func(done []*publish.Result) error { return errors.Join(failed, r.finish(ctx, done)) }
	}
	if !slices.ContainsFunc(r.programs, func(list []kube.Program) bool { return len(list) > 0 }) {
		if err := a.startWith(cmd, config.All); err != nil {
			return err
		}
		found := "no string begins with mabuild:// or ko://"
		if o.selector != "" {
			found = "no object that matches -l " + o.selector + " names a program with mabuild:// or ko://"
		}
		a.log.WarnContext(ctx, found+", so nothing is built")
		return r.finish(ctx, nil)
	}
	return r.located(runPush(cmd, a, o.pushOptions))
}

// located adds the line of a manifest to the error about the package that it names.
func (r *resolving) located(err error) error {
	wrong := (*crosscompile.PackageError)(nil)
	if !errors.As(err, &wrong) || len(hint.Parts(err)) > 1 {
		return err
	}
	for i := range r.programs {
		for j := range r.programs[i] {
			p := &r.programs[i][j]
			if at, ok := r.build[p]; ok && r.builds[at].Main == wrong.Pattern {
				return fmt.Errorf("%s: %w", p.Doc.Position(p.Node), err)
			}
		}
	}
	return err
}

// read reads the manifests and finds the programs. Everything is read before anything is
// built.
func (r *resolving) read(selector kube.Selector) error {
	reader := kube.Reader{Stdin: r.stdin, Recursive: r.o.recursive, Whole: true}
	files, err := reader.Read(r.o.names)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		if len(selector) > 0 {
			data, err := f.Select(selector)
			if err == nil {
				f, err = kube.Parse(f.Name, data)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
		}
		found, err := f.Programs()
		if err != nil && !r.o.allowUnresolved {
			errs = append(errs, err)
		}
		r.files, r.programs = append(r.files, f), append(r.programs, found)
	}
	return errors.Join(errs...)
}

// choose returns the builds of the programs, each once. It is called when the configuration
// has been read.
func (r *resolving) choose(c *config.Config) ([]config.Build, error) {
	var errs []error
	known := map[string]int{}
	for i, f := range r.files {
		for j := range r.programs[i] {
			p := &r.programs[i][j]
			b, err := r.find(c, f, p.Name)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Doc.Position(p.Node), err))
				continue
			}
			key := b.ID + "\x00" + b.Dir + "\x00" + b.Main + b.Prebuilt.Path
			at, ok := known[key]
			if !ok {
				at = len(r.builds)
				known[key], r.builds = at, append(r.builds, b)
			}
			r.build[p] = at
		}
	}
	r.references = make([]string, len(r.builds))
	return r.builds, errors.Join(errs...)
}

// find returns the build of a program: that with this id, or that of the package.
func (r *resolving) find(c *config.Config, f *kube.File, name string) (config.Build, error) {
	if i := slices.Index(plan.IDs(c.Builds), name); i >= 0 && !strings.Contains(name, "/") {
		return plan.Named(c.Builds, name), nil
	}
	if info, err := os.Stat(name); !strings.ContainsAny(name, "/.@") && (err != nil || !info.IsDir()) {
		return config.Build{}, usage("the ids are: "+strings.Join(plan.IDs(c.Builds), ", ")+"; a directory begins with ./", "no build of .mabuild.yaml has the id %s", name)
	}
	pkg := name
	switch {
	case strings.Contains(name, "..."):
		return config.Build{}, usage("name one program", "%s matches several programs", name)
	case (name == "." || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")) && f.Name != kube.Stdin:
		pkg = plan.AsLocal(filepath.Join(filepath.Dir(f.Name), name))
	case !strings.Contains(name, "@"):
		pkg = plan.Local(".", name)
	}
	builds := plan.Programs(c, []string{pkg})
	if len(builds) > 1 {
		return config.Build{}, usage("name one by its id: mabuild://ID", "%d builds of .mabuild.yaml have the package %s", len(builds), name)
	}
	return builds[0], nil
}

// finish prints or applies the manifests that are not printed yet. done has the result of
// each build.
func (r *resolving) finish(ctx context.Context, done []*publish.Result) error {
	for i, d := range done {
		if err := r.know(i, d); err != nil {
			return err
		}
	}
	if err := r.print(ctx); err != nil {
		return err
	}
	if !r.o.noCheck {
		r.warn(ctx)
	}
	if r.o.output != "" {
		err := outfile.Write(r.o.output, func(w io.Writer) error { _, err := w.Write(r.out.Bytes()); return err })
		if err == nil {
			r.log.InfoContext(ctx, "wrote "+r.o.output)
		}
		return err
	}
	if r.o.kubectl != "" {
		return r.run(ctx, r.out.Bytes())
	}
	return r.flush()
}

// know remembers the reference and the platforms of a build that is pushed.
func (r *resolving) know(i int, d *publish.Result) error {
	if len(d.Repositories) == 0 {
		return usage("use -t or --repo", "%s was not pushed to a registry", d.Name)
	}
	if r.references[i] != "" {
		return nil
	}
	r.references[i] = r.reference(d)
	r.others().Know(r.references[i], known(d))
	r.built.Know(r.references[i], known(d))
	return nil
}

// others returns what is known about all images. The client for it is there when the
// configuration has been read.
func (r *resolving) others() *kube.Images {
	if r.known == nil {
		r.known = r.images(nil)
	}
	return r.known
}

// print resolves the next manifests up to the first one that has a program which is not
// pushed. With --stream, it prints them.
func (r *resolving) print(ctx context.Context) error {
	for i := len(r.resolved); i < len(r.files); i++ {
		f, ok, err := r.resolve(ctx, i)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		r.resolved = append(r.resolved, f)
		separate(&r.out, f.Data)
	}
	if r.o.stream {
		return r.flush()
	}
	return nil
}

// flush prints what was not printed yet.
func (r *resolving) flush() error {
	n, err := r.stdout.Write(r.out.Bytes()[r.printed:])
	r.printed += n
	return err
}

// resolve writes the references into a manifest, and with --place the platforms of its
// images. ok is false if one of its programs is not pushed yet.
func (r *resolving) resolve(ctx context.Context, i int) (f *kube.File, ok bool, err error) {
	f = r.files[i]
	var edits []kube.Edit
	for j := range r.programs[i] {
		p := &r.programs[i][j]
		reference := r.references[r.build[p]]
		if reference == "" {
			return nil, false, nil
		}
		edits = append(edits, p.Replace(reference))
	}
	data, err := f.Apply(edits)
	if err != nil {
		return nil, false, err
	}
	if f, err = kube.Parse(f.Name, data); err != nil || !r.o.place {
		return f, err == nil, err
	}
	p := &placing{app: r.app, images: r.others(), nodes: kube.UsualNodes(), options: kube.Placing{Always: true}}
	if data, err = p.file(ctx, f); err != nil {
		return nil, false, err
	}
	f, err = kube.Parse(f.Name, data)
	return f, err == nil, err
}

// reference returns how a manifest names an image: by tag and digest if there is one tag
// other than latest, as ko does, and with --tag-only by tag alone.
func (r *resolving) reference(d *publish.Result) string {
	repository := d.Repositories[0]
	var tags []string
	for _, tag := range d.Tags {
		if cut := imageref.Cut(tag); cut.Repository == repository {
			tags = append(tags, cut.Tag)
		}
	}
	name := imageref.Parts{Repository: repository, Digest: d.Digest.String()}
	if len(tags) > 0 && r.o.tagOnly {
		name.Tag, name.Digest = tags[0], ""
	} else if len(tags) == 1 && tags[0] != "latest" {
		name.Tag = tags[0]
	}
	return name.String()
}

// known returns what is known about an image that was just pushed.
func known(d *publish.Result) *kube.Image {
	image := &kube.Image{Report: &manifest.Report{Digest: d.Digest, Index: len(d.Images) > 0}}
	if mediaType, err := d.Content.MediaType(); err == nil {
		image.Index = mediaType.IsIndex()
	}
	for _, one := range d.Images {
		image.Have = append(image.Have, one.Platform)
		image.Platforms = append(image.Platforms, manifest.Runnable{Platform: platform.Key(one.Platform)})
	}
	return image
}

// warn logs what check finds about the images that were built, without a request. It does not
// stop the command: the nodes of the cluster are not known here.
func (r *resolving) warn(ctx context.Context) {
	c := &check.Checker{Images: r.built, Nodes: kube.UsualNodes(), Assumed: true, Now: time.Now()}
	result, err := c.Run(ctx, r.resolved)
	if err != nil {
		return
	}
	for _, f := range result.Findings {
		if f.Level == check.Error {
			r.log.WarnContext(ctx, fmt.Sprintf("%s:%d:%d: %s: %s %s: %s", f.File, f.Line, f.Column, f.Rule, f.Workload, f.Container, f.Message))
		}
	}
}

// run passes the result to kubectl, whose output and errors are shown.
func (r *resolving) run(ctx context.Context, data []byte) error {
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{r.o.kubectl, "-f", "-"}, r.o.arguments...)...) //nolint:gosec // the user's own arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), r.stdout, r.stderr
	if err := cmd.Run(); err != nil {
		return &hint.Error{Err: fmt.Errorf("kubectl %s: %w; the images are pushed", r.o.kubectl, err)}
	}
	return nil
}
