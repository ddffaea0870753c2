package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"

	"github.com/mabuild/mabuild/internal/elf"
)

// Deep returns a function for [Checker.Deep], which reads images from a source. It compares
// the platform of the index with that of the config, and both with the ELF header of the
// program that the image starts. It reads all layers of an image.
func Deep(source manifest.Source) func(context.Context, string, *kube.Image, int) (string, error) {
	return func(ctx context.Context, ref string, image *kube.Image, at int) (string, error) {
		if image.Index {
			ref = imageref.Parts{Repository: imageref.Cut(ref).Repository, Digest: image.Platforms[at].Digest.String()}.String()
		}
		c, err := source.Get(ctx, ref)
		if err != nil {
			return "", err
		}
		img, ok := c.(v1.Image)
		if !ok {
			return "", nil // an index within the index
		}
		config, err := img.ConfigFile()
		if err != nil {
			return "", err
		}
		declared := image.Have[at]
		claimed := platform.FromV1(config.Platform())
		if claimed.Architecture != declared.Architecture || claimed.OS != declared.OS {
			return fmt.Sprintf("the index says %s, and the config of the image %s", platform.Key(declared), platform.Key(claimed)), nil
		}
		machine, program, err := machineOf(img, config)
		if err != nil || machine == "" || machine == declared.Architecture {
			return "", err
		}
		return fmt.Sprintf("the image says %s, and its program %s is for %s", platform.Key(declared), program, machine), nil
	}
}

// header is how much of each file is kept: an ELF header up to e_machine, or the first line
// of a script.
const header = 128

// machineOf returns the architecture of the program that an image starts; "" if it is not
// an ELF program that is found in the image.
func machineOf(img v1.Image, config *v1.ConfigFile) (machine, program string, err error) {
	command := append(append([]string{}, config.Config.Entrypoint...), config.Config.Cmd...)
	if len(command) == 0 {
		return "", "", nil
	}
	layers, err := img.Layers()
	if err != nil {
		return "", "", err
	}
	tree := &rootfs.Tree{
		Wants: func(string) bool { return true },
		Content: func(_ string, r io.Reader, room int64) (any, int64, error) {
			if room < header {
				return nil, 0, rootfs.ErrBudget
			}
			kept := make([]byte, header)
			n, err := io.ReadFull(r, kept)
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = nil
			}
			return kept[:n], header, err
		},
	}
	for _, layer := range layers {
		if err := tree.Add(layer, nil); err != nil {
			return "", "", err
		}
	}
	program = command[0]
	for range 4 { // a script names its interpreter, which may be a script
		content := find(tree, program, config.Config)
		if line, ok := strings.CutPrefix(string(content), "#!"); ok {
			fields := strings.Fields(strings.SplitN(line, "\n", 2)[0])
			if len(fields) == 0 {
				return "", "", nil
			}
			program = fields[0]
			continue
		}
		return elf.Architecture(content), program, nil
	}
	return "", "", nil
}

// find returns the beginning of a program, which is looked for in PATH if its name has no
// slash.
func find(tree *rootfs.Tree, program string, config v1.Config) []byte {
	names := []string{program}
	switch {
	case !strings.Contains(program, "/"):
		names = nil
		search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
		for _, variable := range config.Env {
			if value, ok := strings.CutPrefix(variable, "PATH="); ok {
				search = value
			}
		}
		for dir := range strings.SplitSeq(search, ":") {
			names = append(names, path.Join(dir, program))
		}
	case !path.IsAbs(program):
		names = []string{path.Join(cmp.Or(config.WorkingDir, "/"), program)}
	}
	for _, name := range names {
		at, err := tree.Resolve(rootfs.Clean(name))
		if err != nil {
			continue
		}
		if n, ok := tree.Lookup(at); ok {
			if content, ok := n.Content.([]byte); ok {
				return content
			}
		}
	}
	return nil
}
