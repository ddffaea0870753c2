package local

import (
	"context"
	"io"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest"
)

// annotationImageName has the full name of an image that containerd or Docker exports or
// imports, beside whose tag it stands.
const annotationImageName = "io.containerd.image.name"

// Containerd is the image store of containerd, reached by its own command. It
// takes all platforms. The reference is completed as Docker does: app:v1 becomes
// docker.io/library/app:v1.
type Containerd struct {
	Namespace string   // empty: "default"; Kubernetes has k8s.io
	Command   []string // in place of "ctr", for example k3s ctr
}

var _ manifest.Sink = (*Containerd)(nil)

// Put imports content under ref.
func (k *Containerd) Put(ctx context.Context, ref string, content manifest.Content) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	d, err := manifest.Describe(content)
	if err != nil {
		return err
	}
	w := walk{ctx: ctx}
	if err := w.add(content); err != nil {
		return err
	}
	im := newIndex()
	entry{name: tag.TagStr(), desc: d, content: content}.into(im)
	im.Manifests[0].Annotations[annotationImageName] = canonical(tag.Name())
	return k.tool().start(ctx, func(out io.Writer) error { return writeTar(ctx, out, im, w.blobs) }, k.args("images", "import", "--all-platforms", "-")...)
}

// Available reports whether the command is there and containerd answers it; the
// error says what is missing.
func (k *Containerd) Available(ctx context.Context) error {
	t := k.tool()
	t.failed = "check that containerd is running and that you can use its socket (CONTAINERD_ADDRESS sets another one), or write to oci-archive:FILE"
	return t.probe(ctx, k.args("version")...)
}

func (k *Containerd) tool() tool {
	return tool{command: k.Command, standard: "ctr", way: "install containerd's ctr, or write to oci-archive:FILE and import it"}
}

func (k *Containerd) args(args ...string) []string {
	if k.Namespace == "" {
		return args
	}
	return append([]string{"--namespace", k.Namespace}, args...)
}
