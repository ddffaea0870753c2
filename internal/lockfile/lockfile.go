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

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// A Line is what a build downloads for a platform.
type Line struct {
	ID       string `json:"id"`       // of the build
	Platform string `json:"platform"` // as platform.Key spells it
	Repo     string `json:"repo"`
	Version  string `json:"version"`
	SHA256   string `json:"sha256"` // of the download, in hexadecimal digits
}

// compare is the order of the lines.
func compare(a, b Line) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Platform, b.Platform))
}

// The forms of a file that is not valid.
var (
	conflict = regexp.MustCompile(`(?m)^(<<<<<<<|=======|>>>>>>>)( |$)`)
	digits   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Parse reads the content of a file. No content is no lines.
func Parse(content []byte) ([]Line, error) {
	invalid := func(way, format string, args ...any) ([]Line, error) {
		return nil, hint.New(hint.Usage, way, Name+": "+format, args...)
	}
	if len(content) > maxFile {
		return invalid("", "is larger than %d bytes", maxFile)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, nil
	}
	if at := conflict.FindIndex(content); at != nil {
		return invalid("resolve the conflict, or remove the file and run mabuild lock", "line %d is a conflict marker of git", 1+bytes.Count(content[:at[0]], []byte("\n")))
	}
	var of struct{ Lock int }
	if err := json.Unmarshal(content, &of); err == nil && of.Lock != version {
		return invalid("use a newer mabuild", "has version %d, and this mabuild reads version %d", of.Lock, version)
	}
	var file struct {
		Lock     int    `json:"lock"`
		Prebuilt []Line `json:"prebuilt"`
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
	slices.SortFunc(file.Prebuilt, compare)
	for i, l := range file.Prebuilt {
		switch {
		case i > 0 && compare(file.Prebuilt[i-1], l) == 0:
			return invalid("keep one of them, or remove both and run mabuild lock", "has two lines for %s of %s", l.Platform, l.ID)
		case !digits.MatchString(l.SHA256):
			return invalid("remove the line and run mabuild lock", "%s of %s: %.80q is not a sha256 in hexadecimal digits", l.Platform, l.ID, l.SHA256)
		}
	}
	return file.Prebuilt, nil
}

// Format returns the content of a file with these lines. Equal lines give equal bytes,
// whatever their order.
func Format(lines []Line) ([]byte, error) {
	lines = slices.SortedFunc(slices.Values(lines), compare)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"lock": %d, "prebuilt": [`, version)
	for i, l := range lines {
		b.WriteString(map[bool]string{true: "\n{", false: ",\n{"}[i == 0])
		for j, field := range [][2]string{{"id", l.ID}, {"platform", l.Platform}, {"repo", l.Repo}, {"version", l.Version}, {"sha256", l.SHA256}} {
			if field[1] == "" && (field[0] == "repo" || field[0] == "version") {
				continue
			}
			value, err := json.Marshal(field[1])
			if err != nil {
				return nil, err
			}
			if j > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%q: %s", field[0], value)
		}
		b.WriteString("}")
	}
	b.WriteString("\n]}\n")
	return b.Bytes(), nil
}
