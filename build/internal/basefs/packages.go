package basefs

import (
	"io"
	"strings"

	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// unreadable is the start of what is kept of a database of dpkg that is invalid. It matters
// only if packages are added to the base.
const unreadable = "!"

// maxStatus bounds what is kept of a database of dpkg, in bytes. A package takes about 100.
const maxStatus = 4 << 20

// condense returns what is kept of a database of dpkg.
func condense(name string, r io.Reader, room int64) (string, error) {
	text, err := debian.Condense(r, min(room, maxStatus))
	switch {
	case err != nil:
		return unreadable + "/" + name + ": " + err.Error(), nil
	case int64(len(text)) > room:
		return "", rootfs.ErrBudget
	}
	return text, nil
}

// Status returns what the databases of dpkg in a base list, in the form of
// [debian.Condense].
func Status(t *rootfs.Tree) (string, error) {
	var b strings.Builder
	for n := range t.All() {
		if n.Content == nil || !debian.IsStatus(n.Path()) {
			continue
		}
		text := textOf(n)
		if reason, invalid := strings.CutPrefix(text, unreadable); invalid {
			return "", hint.New(hint.Content, "use another base image", "the base image has a database of packages that cannot be read: %s", reason)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
