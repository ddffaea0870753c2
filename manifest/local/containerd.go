package local

import (
	"context"
	"io"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/manifest"
)

// annotationImageName is the annotation with the full name of an image, which containerd
// and Docker write and read in index.json. The ref.name beside it has the tag alone.
const annotationImageName = "io.containerd.image.name"

// containerd is the image store of containerd, reached by the command ctr. It stores all
// platforms of an index. It can only be written. The reference is completed as Docker
// does: app:v1 becomes docker.io/library/app:v1.
type containerd struct {
	Namespace string   // "" means ctr's own choice, "default"; Kubernetes uses k8s.io
	Command   []string // used in place of "ctr", for example k3s ctr
}

var _ manifest.Sink = (*containerd)(nil)

// Put streams content to ctr images import as an OCI archive. containerd sets the name
// when it has all of the content. Unlike a registry it is not asked what it has, so all
// blobs are sent.
func (k *containerd) Put(ctx context.Context, ref string, content manifest.Content) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	d, err := manifest.Describe(content)
	if err != nil {
		return err
	}
	w := walk{ctx: ctx}
	// All platforms are listed, because the import below asks for all.
	if err := w.add(content); err != nil {
		return err
	}
	im := newIndex()
	entry{name: tag.TagStr(), desc: d, content: content}.into(im)
	im.Manifests[0].Annotations[annotationImageName] = canonical(tag.Name())
	return k.tool().start(ctx, func(out io.Writer) error { return writeTar(ctx, out, im, w.blobs) }, k.args("images", "import", "--all-platforms", "-")...)
}

// available returns nil if the command exists and containerd answers it within five
// seconds. Otherwise the error says what is missing.
func (k *containerd) available(ctx context.Context) error {
	t := k.tool()
	t.failed = "check that containerd is running and that you can use its socket (CONTAINERD_ADDRESS sets another one), or write to oci-archive:FILE"
	return t.probe(ctx, k.args("version")...)
}

// tool returns the command, with hints if it is not installed.
func (k *containerd) tool() tool {
	return tool{command: k.Command, standard: "ctr", way: "install containerd's ctr, or write to oci-archive:FILE and import it"}
}

// args puts the namespace before the arguments.
func (k *containerd) args(args ...string) []string {
	if k.Namespace == "" {
		return args
	}
	return append([]string{"--namespace", k.Namespace}, args...)
}
