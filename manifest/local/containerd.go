package local

import (
	"context"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest"
)

// annotationImageName is by what containerd names an image that it imports.
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
	if err := w.add(content, d, 0); err != nil {
		return err
	}
	im := newIndex()
	entry{tag.TagStr(), d, content}.into(im)
	im.Manifests[0].Annotations[annotationImageName] = strings.Replace(tag.Name(), name.DefaultRegistry, "docker.io", 1)
	args := []string{"images", "import", "--all-platforms", "-"}
	if k.Namespace != "" {
		args = append([]string{"--namespace", k.Namespace}, args...)
	}
	tool := tool{command: k.Command, standard: "ctr", way: "install containerd's ctr, or write oci-archive:FILE and import that"}
	return tool.run(ctx, func(out io.Writer) error { return writeTar(ctx, out, im, w.blobs) }, args...)
}
