// Package lockfile reads and writes mabuild.lock: what a build downloads, by its sha256.
//
// The file is JSON with one line for each download, sorted, so that git merges it line by line
// and tools such as Renovate change a version and its sum with one pattern. It holds nothing
// that is derived from something else.
package lockfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/mabuild/mabuild/internal/hint"
)

// Name is the name of the file, which is beside the configuration file.
const Name = "mabuild.lock"

// version is the version of the format. A file of another version is not read.
const version = 1

// MaxFile is the limit of the file, in bytes.
const MaxFile = 4 << 20

// A File is the content of the file.
type File struct {
	Prebuilt []Line
	Resolved []Resolution
	Packages []Package
}

// A Line is what a build downloads for a platform.
type Line struct {
	ID       string `json:"id"`       // of the build
	Platform string `json:"platform"` // as platform.Key spells it
	Repo     string `json:"repo"`
	Version  string `json:"version"`
	SHA256   string `json:"sha256"` // of the download, in hexadecimal digits
}

// A Resolution says what the packages of a build were resolved from. It has no packages if
// the base image has all of them.
type Resolution struct {
	ID           string `json:"id"`           // of the build; "": of builds without an id
	Architecture string `json:"architecture"` // Debian's name
	Suite        string `json:"suite"`
	Snapshot     string `json:"snapshot"`
	Components   string `json:"components"` // separated by blanks
	Install      string `json:"install"`    // names, sorted, separated by blanks
}

// A Package is a Debian package of a build.
type Package struct {
	ID           string `json:"id"`
	Architecture string `json:"architecture"` // of the resolution
	Package      string `json:"package"`
	Version      string `json:"version"`
	Path         string `json:"path"` // below the URL of the archive
	SHA256       string `json:"sha256"`
}

// The names of the values of each kind of line, the key first. An optional one is left out if
// it is empty.
var (
	lineKeys       = []string{"id", "platform", "repo", "version", "sha256"}
	resolutionKeys = []string{"id", "architecture", "suite", "snapshot", "components", "install"}
	packageKeys    = []string{"id", "architecture", "package", "version", "path", "sha256"}
)

func (l Line) values() []string { return []string{l.ID, l.Platform, l.Repo, l.Version, l.SHA256} }

func (r Resolution) values() []string {
	return []string{r.ID, r.Architecture, r.Suite, r.Snapshot, r.Components, r.Install}
}

func (p Package) values() []string {
	return []string{p.ID, p.Architecture, p.Package, p.Version, p.Path, p.SHA256}
}

// describe names a line in errors.
func (l Line) describe() string { return l.Platform + " of " + l.ID }

func (r Resolution) describe() string { return r.Architecture + " of " + cmp.Or(r.ID, "the builds") }

func (p Package) describe() string {
	return p.Package + " for " + p.Architecture + " of " + cmp.Or(p.ID, "the builds")
}

// A value is a line of any kind.
type value interface {
	values() []string
	describe() string
}

// The number of values that make the key of a line.
const lineKey, resolutionKey, packageKey = 2, 2, 3

// sorted returns lines in their order.
func sorted[V value](lines []V) []V {
	return slices.SortedFunc(slices.Values(lines), func(a, b V) int { return slices.Compare(a.values(), b.values()) })
}

// twice returns an error if two sorted lines have the same key.
func twice[V value](lines []V, key int) error {
	for i := range lines[min(1, len(lines)):] {
		if slices.Equal(lines[i].values()[:key], lines[i+1].values()[:key]) {
			return hint.New(hint.Usage, "keep one of them, or remove both and run mabuild lock", Name+": has two lines for %s", lines[i].describe())
		}
	}
	return nil
}

// The forms of a file that is not valid.
var (
	conflict = regexp.MustCompile(`(?m)^(<<<<<<<|=======|>>>>>>>)( |$)`)
	digits   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Parse reads the content of a file. No content is no lines.
func Parse(content []byte) (File, error) {
	invalid := func(way, format string, args ...any) (File, error) {
		return File{}, hint.New(hint.Usage, way, Name+": "+format, args...)
	}
	if len(content) > MaxFile {
		return invalid("", "is larger than %d bytes", MaxFile)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return File{}, nil
	}
	if at := conflict.FindIndex(content); at != nil {
		return invalid("resolve the conflict, or remove the file and run mabuild lock", "line %d is a conflict marker of git", 1+bytes.Count(content[:at[0]], []byte("\n")))
	}
	var of struct{ Lock int }
	if err := json.Unmarshal(content, &of); err == nil && of.Lock != version {
		return invalid("use a newer mabuild", "has version %d, and this mabuild reads version %d", of.Lock, version)
	}
	var file struct {
		Lock     int          `json:"lock"`
		Prebuilt []Line       `json:"prebuilt"`
		Debian   []Resolution `json:"debian"`
		Packages []Package    `json:"packages"`
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	err := d.Decode(&file)
	if err == nil && d.More() {
		err = fmt.Errorf("there is text after the end")
	}
	if err != nil {
		return invalid("remove the file and run mabuild lock", "%w", err)
	}
	f := File{sorted(file.Prebuilt), sorted(file.Debian), sorted(file.Packages)}
	for _, l := range f.Prebuilt {
		if !digits.MatchString(l.SHA256) {
			return invalid("remove the line and run mabuild lock", "%s: %.80q is not a sha256 in hexadecimal digits", l.describe(), l.SHA256)
		}
	}
	for _, p := range f.Packages {
		if !digits.MatchString(p.SHA256) {
			return invalid("remove the line and run mabuild lock --update", "%s: %.80q is not a sha256 in hexadecimal digits", p.describe(), p.SHA256)
		}
	}
	return f, cmp.Or(twice(f.Prebuilt, lineKey), twice(f.Resolved, resolutionKey), twice(f.Packages, packageKey))
}

// Format returns the content of a file. Equal lines give equal bytes, whatever their order.
// Kinds of lines of which there are none are left out, except the first.
func Format(f File) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"lock": %d`, version)
	err := section(&b, "prebuilt", lineKeys, f.Prebuilt)
	if err == nil && len(f.Resolved) > 0 {
		err = section(&b, "debian", resolutionKeys, f.Resolved)
	}
	if err == nil && len(f.Packages) > 0 {
		err = section(&b, "packages", packageKeys, f.Packages)
	}
	b.WriteString("}\n")
	return b.Bytes(), err
}

// optional has the values that are left out if they are empty. The id is one of packages
// alone: a prebuilt program has a name.
var optional = []string{"repo", "version", "snapshot"}

// section writes the lines of a kind.
func section[V value](b *bytes.Buffer, name string, keys []string, lines []V) error {
	fmt.Fprintf(b, ", %q: [", name)
	for i, l := range sorted(lines) {
		b.WriteString(map[bool]string{true: "\n{", false: ",\n{"}[i == 0])
		separator := ""
		for j, text := range l.values() {
			if text == "" && slices.Contains(optional, keys[j]) {
				continue
			}
			value, err := json.Marshal(text)
			if err != nil {
				return err
			}
			fmt.Fprintf(b, "%s%q: %s", separator, keys[j], value)
			separator = ", "
		}
		b.WriteString("}")
	}
	b.WriteString("\n]")
	return nil
}
