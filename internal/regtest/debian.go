package regtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/crypto/openpgp"           //nolint:staticcheck // only tests sign with it, and gpgv checks what it wrote
	"golang.org/x/crypto/openpgp/clearsign" //nolint:staticcheck // as above
)

// A Deb is a Debian package for tests.
type Deb struct {
	Name, Version, Arch string
	Fields              string            // further lines of its control file
	Files               map[string]string // contents, by path; "-> " is a link, "=> " a hard link, and a slash at the end of a path a directory
	Scripts             map[string]string // by name, such as postinst
	Form                string            // of its files: gz, xz, zst or "" for no compression
}

// Control returns the control file of the package.
func (d Deb) Control() string {
	text := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n", d.Name, d.Version, d.Arch)
	if d.Fields != "" {
		text += strings.TrimSpace(d.Fields) + "\n"
	}
	return text + "Description: a package of a test\n with a second line\n"
}

// Bytes returns the package.
func (d Deb) Bytes() []byte {
	control := map[string]string{"control": d.Control()}
	maps.Copy(control, d.Scripts)
	suffix := ""
	if d.Form != "" {
		suffix = "." + d.Form
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name    string
		content []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar" + suffix, compress(d.Form, tarOf(control))},
		{"data.tar" + suffix, compress(d.Form, tarOf(d.Files))},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.content))
		b.Write(m.content)
		if len(m.content)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// tarOf returns a tar archive of files, with the directories above them as in a package.
func tarOf(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.Uname, h.Gname, h.ModTime = "root", "root", time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			panic(err) // a test names its own files
		}
		_, _ = io.WriteString(w, content) // into memory
	}
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var above []string
		for dir := filepath.Dir(strings.TrimSuffix(name, "/")); !made[dir] && dir != "/"; dir = filepath.Dir(dir) {
			above, made[dir] = append(above, dir), true
		}
		for _, dir := range slices.Backward(above) {
			add(tar.Header{Name: "./" + dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
		}
		content := files[name]
		h := tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}
		if strings.Contains(name, "bin/") {
			h.Mode = 0o755
		}
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, h.Mode, content = tar.TypeSymlink, to, 0, 0o777, ""
		} else if to, ok := strings.CutPrefix(content, "=> "); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeLink, "./"+to, 0, ""
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode, h.Size, content = tar.TypeDir, 0o755, 0, ""
			made[strings.TrimSuffix(name, "/")] = true
		}
		add(h, content)
	}
	_ = w.Close() // into memory
	return b.Bytes()
}

// compress compresses content in a form.
func compress(form string, content []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch form {
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	default:
		return content
	}
	if err != nil {
		panic(err) // the settings are constant
	}
	_, _ = w.Write(content) // into memory
	_ = w.Close()
	return b.Bytes()
}

// A DebArchive is a suite of an archive for tests.
type DebArchive struct {
	Suite, Arches string // Arches separated by blanks
	Date, Until   time.Time
	ByHash        bool
	Debs          []Deb
	Signer        *Signer // nil: InRelease is not signed
	Before, After string  // text around the signed one
}

// A Signer is a key of an archive.
type Signer struct{ entity *openpgp.Entity }

// NewSigner returns a new key.
func NewSigner() (*Signer, error) {
	entity, err := openpgp.NewEntity("archive of a test", "", "archive@example.com", nil)
	return &Signer{entity}, err
}

// Keyring writes the public key of a signer as a keyring.
func Keyring(signer *Signer, file string) error {
	var b bytes.Buffer
	if err := signer.entity.Serialize(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

// Write writes the archive below dir.
func (a DebArchive) Write(dir string) error {
	sums := map[string]string{}
	suite := filepath.Join(dir, "dists", filepath.FromSlash(a.Suite))
	for arch := range strings.FieldsSeq(a.Arches) {
		var index bytes.Buffer
		for _, d := range a.Debs {
			if d.Arch != arch && d.Arch != "all" {
				continue
			}
			content := d.Bytes()
			_, version, _ := strings.Cut(":"+d.Version, ":")
			if _, after, epoch := strings.Cut(d.Version, ":"); epoch {
				version = after
			}
			name := fmt.Sprintf("pool/main/%s/%s/%s_%s_%s.deb", d.Name[:1], d.Name, d.Name, version, d.Arch)
			if err := write(filepath.Join(dir, name), content); err != nil {
				return err
			}
			fields, _, _ := strings.Cut(d.Control(), "Description:")
			fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %s\nDescription: a package of a test\n\n", fields, name, len(content), sumOf(content))
		}
		packed := compress("gz", index.Bytes())
		file := "main/binary-" + arch + "/Packages.gz"
		sums[file] = sumOf(packed)
		if a.ByHash {
			file = "main/binary-" + arch + "/by-hash/SHA256/" + sumOf(packed)
		}
		if err := write(filepath.Join(suite, filepath.FromSlash(file)), packed); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("Origin: test\nSuite: %s\nCodename: %s\nArchitectures: all %s\nComponents: main\nDate: %s\n", a.Suite, a.Suite, a.Arches, a.Date.UTC().Format(time.RFC1123))
	if !a.Until.IsZero() {
		text += "Valid-Until: " + a.Until.UTC().Format(time.RFC1123) + "\n"
	}
	if a.ByHash {
		text += "Acquire-By-Hash: yes\n"
	}
	text += "SHA256:\n"
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		text += fmt.Sprintf(" %s %d %s\n", sums[name], 1, name)
	}
	if a.Signer == nil {
		return write(filepath.Join(suite, "InRelease"), []byte(text))
	}
	var b bytes.Buffer
	b.WriteString(a.Before)
	w, err := clearsign.Encode(&b, a.Signer.entity.PrivateKey, nil)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	b.WriteString("\n" + a.After)
	return write(filepath.Join(suite, "InRelease"), b.Bytes())
}

// sumOf returns the sha256 of content in hexadecimal digits.
func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// write writes a file with the directories above it.
func write(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
