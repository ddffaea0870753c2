package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/mabuild/mabuild/internal/decompress"
	"github.com/mabuild/mabuild/internal/guard"
)

// The bounds of a package.
const (
	maxControl = 16 << 20 // bytes of the control files, uncompressed
	maxContent = 2 << 30  // bytes of the files, uncompressed
	maxEntries = 100_000  // files, directories and links
	maxPath    = 4096     // bytes of a path or of the target of a link
)

// A Deb is what a package says about itself.
type Deb struct {
	Control string // the file control
	Sums    string // the file md5sums, "" if it is missing
	// Scripts are preinst and postinst, which dpkg would run, by name.
	Scripts map[string]string
}

// A File is a file, directory or link of a package.
type File struct {
	Path string      // relative to the root, clean
	Mode fs.FileMode // with the type; a hard link has no type
	Bits int64       // the permissions, with those that run it as its owner or group
	Link string      // the target of a symbolic link, as written
	Hard string      // the path of the file that a hard link is, clean
	Size int64
}

// Read reads a package (deb(5)): an archive of ar with control files, and then the files. It
// calls control, and then, unless file is nil, file with each file and its content. A package
// with a device, or a path that leads out of it, is refused.
func Read(r io.Reader, control func(*Deb) error, file func(File, io.Reader) error) error {
	return guard.Do(func() error { return ended(read(r, control, file)) })
}

// read is Read. A panic of a decompressor is caught by the caller.
func read(r io.Reader, control func(*Deb) error, file func(File, io.Reader) error) error {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return errors.New("it is not a Debian package")
	}
	done := false // the control files were read
	for first := true; ; first = false {
		name, member, err := next(r)
		if errors.Is(err, io.EOF) {
			return errors.New("it has no files: data.tar is missing")
		}
		if err != nil {
			return err
		}
		switch {
		case first && name != "debian-binary":
			return errors.New("it is not a Debian package: it does not begin with debian-binary")
		case first:
			err = checkFormat(member)
		case strings.HasPrefix(name, "_"): // reserved for others
		case !done && isTar(name, "control.tar"):
			var d *Deb
			if d, err = readControl(member); err == nil {
				err = control(d)
			}
			done = true
		case done && isTar(name, "data.tar"):
			if file == nil {
				return nil
			}
			return readData(member, file)
		default:
			return fmt.Errorf("%.100q is not expected there", name)
		}
		if err != nil {
			return err
		}
		if done && file == nil {
			return nil
		}
		if err := member.end(); err != nil {
			return err
		}
	}
}

// ended says in plain words that a package is cut.
func ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends early: %w", err)
	}
	return err
}

// arMagic is the start of an archive of ar (ar(5)).
const arMagic = "!<arch>\n"

// An arMember is the content of a file in an archive of ar.
type arMember struct {
	io.LimitedReader
	padded bool // a byte follows
}

// next returns the next file of an archive of ar, or io.EOF.
func next(r io.Reader) (string, *arMember, error) {
	const size, nameEnd, sizeAt, sizeEnd, end = 60, 16, 48, 58, "`\n"
	header := make([]byte, size)
	if _, err := io.ReadFull(r, header); err != nil {
		return "", nil, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(header[sizeAt:sizeEnd])), 10, 64)
	if err != nil || n < 0 || string(header[sizeEnd:]) != end {
		return "", nil, errors.New("the header of a file in it is invalid")
	}
	name := strings.TrimSuffix(strings.TrimRight(string(header[:nameEnd]), " "), "/")
	return name, &arMember{io.LimitedReader{R: r, N: n}, n%2 == 1}, nil
}

// end reads what is left of a file.
func (m *arMember) end() error {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return err
	}
	if m.N > 0 {
		return io.ErrUnexpectedEOF
	}
	if m.padded {
		_, err := io.ReadFull(m.R, make([]byte, 1))
		return err
	}
	return nil
}

// checkFormat reads the version of the format.
func checkFormat(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, 100))
	if err == nil && !bytes.HasPrefix(text, []byte("2.")) {
		err = fmt.Errorf("it has the format %.20q, not 2.0", text)
	}
	return err
}

// isTar reports whether a file is a tar archive of a name, which may be compressed.
func isTar(name, of string) bool {
	return slices.Contains([]string{"", ".gz", ".xz", ".zst", ".bz2"}, strings.TrimPrefix(name, of)) && strings.HasPrefix(name, of)
}

// limited reads at most left bytes, and then fails.
type limited struct {
	io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errLarge
	}
	return n, err
}

// readControl reads the control files.
func readControl(r io.Reader) (*Deb, error) {
	content, err := decompress.Reader(r, maxPackageWindow)
	if err != nil {
		return nil, err
	}
	defer content.Close() //nolint:errcheck // only read
	d := &Deb{Scripts: map[string]string{}}
	all := &limited{content, maxControl}
	archive := tar.NewReader(all)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)[1:]
		if h.Typeflag != tar.TypeReg || !slices.Contains([]string{"control", "md5sums", "preinst", "postinst"}, name) {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		switch name {
		case "control":
			d.Control = string(text)
		case "md5sums":
			d.Sums = string(text)
		default:
			d.Scripts[name] = string(text)
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return nil, err
	}
	if d.Control == "" {
		return nil, errors.New("it has no file control")
	}
	return d, nil
}

// readData reads the files.
func readData(r io.Reader, file func(File, io.Reader) error) error {
	content, err := decompress.Reader(r, maxPackageWindow)
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // only read
	all := &limited{content, maxContent}
	archive := tar.NewReader(all)
	for count := 0; ; count++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if count == maxEntries {
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		f, err := fileOf(h)
		if err != nil {
			return err
		}
		if f.Path == "" { // the root
			continue
		}
		if err := file(f, archive); err != nil {
			return err
		}
	}
	// What follows is read as well: the checksums are at the end.
	_, err = io.Copy(io.Discard, all)
	return err
}

// fileOf checks an entry.
func fileOf(h *tar.Header) (File, error) {
	name, ok := inside(h.Name)
	if !ok {
		return File{}, fmt.Errorf("%.200q leads out of the package", h.Name)
	}
	f := File{Path: name, Bits: h.Mode & 0o7777}
	switch h.Typeflag {
	case tar.TypeReg:
		f.Size = h.Size
	case tar.TypeDir:
		f.Mode = fs.ModeDir
	case tar.TypeSymlink:
		// An absolute link is one in the image. Where it leads there is nobody's concern
		// here: nothing is written through it.
		if f.Mode, f.Link = fs.ModeSymlink, h.Linkname; f.Link == "" || len(f.Link) > maxPath || strings.ContainsRune(f.Link, 0) {
			return f, fmt.Errorf("%.200q is a link that leads nowhere", h.Name)
		}
	case tar.TypeLink:
		if f.Hard, ok = inside(h.Linkname); !ok || f.Hard == "" {
			return f, fmt.Errorf("%.200q is a link to %.200q, which leads out of the package", h.Name, h.Linkname)
		}
	default:
		return f, fmt.Errorf("%.200q is neither a file, a directory nor a link", h.Name)
	}
	return f, nil
}

// inside returns a path relative to the root, and whether it stays below it.
func inside(name string) (string, bool) {
	if path.IsAbs(name) || len(name) > maxPath || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Clean(name)
	if name == "." {
		return "", true
	}
	return name, name != ".." && !strings.HasPrefix(name, "../")
}

// Name returns the name, version and architecture of a package.
func (d *Deb) Name() (name, version, architecture string, err error) {
	err = paragraphs(strings.NewReader(d.Control), []string{"package", "version", "architecture"}, func(f []string) error {
		if name == "" {
			name, version, architecture = f[0], f[1], f[2]
		}
		return nil
	})
	if err == nil && !IsName(name) {
		err = fmt.Errorf("%.100q is not the name of a package", name)
	}
	return name, version, architecture, errorsOf(err, checkVersion(version))
}

// Add adds the package to a system.
func (d *Deb) Add(s *System) error {
	name, version, _, err := d.Name()
	if err == nil {
		s.add(name, version, field(d.Control, "provides"), false)
	}
	return err
}

// Is returns an error unless the package has a name, a version and an architecture, or is for
// all architectures.
func (d *Deb) Is(name, version, architecture string) error {
	itsName, itsVersion, itsArchitecture, err := d.Name()
	switch {
	case err != nil:
		return err
	case name != itsName || version != itsVersion:
		return fmt.Errorf("it is %s %s", itsName, itsVersion)
	case architecture != itsArchitecture && itsArchitecture != "all":
		return fmt.Errorf("it is for %s, not for %s", itsArchitecture, architecture)
	}
	return nil
}

// Fits returns an error unless a system has all that the package depends on, and nothing
// that it conflicts with.
func (d *Deb) Fits(s *System) error {
	name, version, _, err := d.Name()
	if err != nil {
		return err
	}
	groups, err := relations(joined(field(d.Control, "pre-depends"), field(d.Control, "depends")))
	if err != nil {
		return fmt.Errorf("the field Depends: %w", err)
	}
	var errs []error
	for _, group := range groups {
		if s.satisfiesAny(group) {
			continue
		}
		err := s.tooOld(describe(name, version), group)
		if err == nil {
			err = missing(describe(name, version), group)
		}
		errs = append(errs, err)
	}
	errs = append(errs, conflict(name, version, joined(field(d.Control, "conflicts"), field(d.Control, "breaks")), s))
	return errors.Join(errs...)
}
