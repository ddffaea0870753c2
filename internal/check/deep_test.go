package check

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// program returns an ELF header of a machine.
func program(machine elf.Machine, data elf.Data) string {
	h := make([]byte, 64)
	copy(h, elf.ELFMAG)
	h[elf.EI_CLASS], h[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(data)
	var order binary.ByteOrder = binary.LittleEndian
	if data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	order.PutUint16(h[18:], uint16(machine))
	return string(h)
}

// image returns an image with files; a value that begins with -> is a link.
func image(t *testing.T, config v1.Config, files map[string]string) (v1.Image, *v1.ConfigFile) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if len(content) > 2 && content[:2] == "->" {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, content[2:], 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file := &v1.ConfigFile{Config: config}
	return img, file
}

func TestMachineOf(t *testing.T) {
	amd, arm := program(elf.EM_X86_64, elf.ELFDATA2LSB), program(elf.EM_AARCH64, elf.ELFDATA2LSB)
	for name, c := range map[string]struct {
		config v1.Config
		files  map[string]string
		want   string
	}{
		"entrypoint":     {v1.Config{Entrypoint: []string{"/app"}}, map[string]string{"app": arm}, "arm64"},
		"cmd":            {v1.Config{Cmd: []string{"/app"}}, map[string]string{"app": amd}, "amd64"},
		"PATH":           {v1.Config{Cmd: []string{"app"}, Env: []string{"PATH=/none:/opt/bin"}}, map[string]string{"opt/bin/app": arm}, "arm64"},
		"usual PATH":     {v1.Config{Cmd: []string{"app"}}, map[string]string{"usr/bin/app": arm}, "arm64"},
		"relative":       {v1.Config{Cmd: []string{"./app"}, WorkingDir: "/srv"}, map[string]string{"srv/app": arm}, "arm64"},
		"a link":         {v1.Config{Cmd: []string{"/bin/app"}}, map[string]string{"bin": "->usr/bin", "usr/bin/app": "->../../opt/app", "opt/app": arm}, "arm64"},
		"a script":       {v1.Config{Cmd: []string{"/run.sh"}}, map[string]string{"run.sh": "#!/bin/sh -e\nexec app", "bin/sh": amd}, "amd64"},
		"an odd script":  {v1.Config{Cmd: []string{"/run.sh"}}, map[string]string{"run.sh": "#!\n"}, ""},
		"a script loop":  {v1.Config{Cmd: []string{"/a"}}, map[string]string{"a": "#!/b\n", "b": "#!/a\n"}, ""},
		"big endian":     {v1.Config{Cmd: []string{"/app"}}, map[string]string{"app": program(elf.EM_S390, elf.ELFDATA2MSB)}, "s390x"},
		"ppc64":          {v1.Config{Cmd: []string{"/app"}}, map[string]string{"app": program(elf.EM_PPC64, elf.ELFDATA2MSB)}, "ppc64"},
		"ppc64le":        {v1.Config{Cmd: []string{"/app"}}, map[string]string{"app": program(elf.EM_PPC64, elf.ELFDATA2LSB)}, "ppc64le"},
		"empty file":     {v1.Config{Cmd: []string{"/app"}}, map[string]string{"app": ""}, ""},
		"no such file":   {v1.Config{Cmd: []string{"/app"}}, map[string]string{"other": amd}, ""},
		"leads outside":  {v1.Config{Cmd: []string{"/../../app"}}, map[string]string{"app": amd}, "amd64"},
		"nothing to run": {v1.Config{}, map[string]string{"app": amd}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			img, config := image(t, c.config, c.files)
			got, _, err := machineOf(img, config)
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}
