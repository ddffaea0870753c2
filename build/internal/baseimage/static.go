package baseimage

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	_ "embed" // the time zones
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/manifest"
)

// zoneinfo is Go's own copy of the IANA time zone database, a zip file without compression, in
// gzip; `make zoneinfo` renews it.
//
//go:embed zoneinfo.zip.gz
var zoneinfo []byte

// The settings of the static base, some of which an image without a base has as well.
const (
	Nonroot     = "65532" // the number of its user and of its group
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// The accounts of the static base and its other files, in the form of passwd(5), group(5),
// os-release(5) and nsswitch.conf(5).
const (
	users     = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	groups    = "root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n"
	osRelease = "NAME=\"mabuild static\"\nID=mabuild-static\nPRETTY_NAME=\"mabuild static base\"\nHOME_URL=\"https://github.com/mabuild/mabuild\"\n"
	nsswitch  = "hosts: files dns\n"
)

// staticEntries lists the files of the static base, sorted by name: what a program
// without a C library reads, and no executables. They are made once in a process and must
// not be changed.
var staticEntries = sync.OnceValues(func() ([]layerfile.Entry, error) {
	home := layerfile.Directory("home/nonroot", 0o700)
	home.UID, home.GID = 65532, 65532
	entries := []layerfile.Entry{
		layerfile.Directory("etc", 0o755), layerfile.Directory("etc/ssl", 0o755), layerfile.Directory("etc/ssl/certs", 0o755),
		layerfile.Directory("home", 0o755), home, layerfile.Directory("root", 0o700), layerfile.Directory("tmp", 0o1777),
		layerfile.Directory("usr", 0o755), layerfile.Directory("usr/share", 0o755), layerfile.Directory("usr/share/zoneinfo", 0o755),
		layerfile.Directory("var", 0o755), layerfile.Directory("var/tmp", 0o1777),
		layerfile.Inline("etc/passwd", 0o644, []byte(users)),
		layerfile.Inline("etc/group", 0o644, []byte(groups)),
		layerfile.Inline("etc/nsswitch.conf", 0o644, []byte(nsswitch)),
		layerfile.Inline("etc/os-release", 0o644, []byte(osRelease)),
		layerfile.Inline("etc/ssl/certs/ca-certificates.crt", 0o644, certificates()),
	}
	zones, err := zoneEntries()
	entries = append(entries, zones...)
	slices.SortFunc(entries, layerfile.ByName)
	return entries, err
})

// certificates returns the CA certificates of Mozilla, as the Go project maintains them,
// in PEM.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer never fails
	}
	return b.Bytes()
}

// zoneEntries returns the time zones and the directories above them.
func zoneEntries() ([]layerfile.Entry, error) {
	packed, err := gzip.NewReader(bytes.NewReader(zoneinfo))
	if err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	raw, err := io.ReadAll(packed)
	if err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	const root = "usr/share/zoneinfo"
	var entries []layerfile.Entry
	dirs := map[string]bool{}
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("time zones: %w", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("time zones: %w", err)
		}
		entries = append(entries, layerfile.Inline(path.Join(root, f.Name), 0o644, content)) //nolint:gosec // our own archive, into another
		// The archive lists only files, so their directories are added here.
		for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		entries = append(entries, layerfile.Directory(path.Join(root, dir), 0o755))
	}
	return entries, nil
}

// static returns the static base. It has one layer, which is cached as any other layer,
// and the same config for every platform.
func static(w *layerfile.Writer) (Image, error) {
	entries, err := staticEntries()
	if err != nil {
		return Image{}, err
	}
	l, err := w.Layer(entries)
	if err != nil {
		return Image{}, err
	}
	d, err := manifest.Describe(l)
	if err != nil {
		return Image{}, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return Image{}, err
	}
	return Image{
		Layers: []v1.Layer{l}, Descriptors: []v1.Descriptor{d},
		Config: v1.ConfigFile{
			RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
			History: []v1.History{{Created: v1.Time{Time: w.Time}, CreatedBy: "mabuild", Comment: "static base: CA certificates, time zones, users"}},
			Config: v1.Config{
				User: Nonroot + ":" + Nonroot, WorkingDir: "/",
				Env: []string{"PATH=" + DefaultPath, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
			},
		},
	}, nil
}
