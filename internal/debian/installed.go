package debian

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// The databases of installed packages in an image, without a leading slash. The second one is
// a directory with a file for each package, in images that are made without dpkg.
const (
	statusFile = "var/lib/dpkg/status"
	StatusDir  = "var/lib/dpkg/status.d"
)

// IsStatus reports whether a file of an image is a database of installed packages.
func IsStatus(name string) bool {
	return name == statusFile || path.Dir(name) == StatusDir && path.Ext(name) != ".md5sums"
}

// statusKeys are the fields that Condense keeps.
var statusKeys = []string{"package", "version", "architecture", "provides", "status"}

// Condense returns the installed packages of a database in a short form, of at most limit
// bytes, which [System.AddBase] reads.
func Condense(r io.Reader, limit int64) (string, error) {
	var b strings.Builder
	err := paragraphs(r, statusKeys, func(f []string) error {
		if strings.TrimSpace(f[0]) == "" || strings.TrimSpace(f[1]) == "" || f[4] != "" && !strings.HasSuffix(f[4], " installed") {
			return nil // its files are removed or not yet unpacked
		}
		for i, key := range statusKeys[:4] {
			if value := strings.TrimSpace(strings.ReplaceAll(f[i], "\n", " ")); value != "" {
				fmt.Fprintf(&b, "%s: %s\n", key, value)
			}
		}
		b.WriteString("\n")
		if int64(b.Len()) > limit {
			return fmt.Errorf("more than %d bytes of installed packages", limit)
		}
		return nil
	})
	return b.String(), err
}

// AddBase adds the packages of a database of a base image that are for an architecture, or
// for all.
func (s *System) AddBase(status, architecture string) error {
	return paragraphs(strings.NewReader(status), statusKeys, func(f []string) error {
		if f[2] == architecture || f[2] == "all" || f[2] == "" {
			s.add(f[0], f[1], f[3], true)
		}
		return nil
	})
}
