package build

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// Where users and groups are listed, in the form of passwd(5) and group(5).
const (
	passwdFile = "etc/passwd"
	groupFile  = "etc/group"
)

// accounts checks that the user and the group that s names are known in each
// image, where a container would not start without. Numbers are taken as they
// are, and Windows keeps its users elsewhere; only a name has the base read.
func (s Spec) accounts(bases []PlannedBase, files []entry, w *layers) error {
	user, group, _ := strings.Cut(s.Config.User, ":")
	var errs []error
	seen := map[string]bool{}
	for _, base := range bases {
		if base.Platform.OS == "windows" || isNumber(user) && isNumber(group) {
			continue
		}
		err := w.tree(base.baseImage.layers, func(t *rootfs.Tree) error {
			for _, one := range []struct{ what, name, file string }{{"user", user, passwdFile}, {"group", group, groupFile}} {
				if isNumber(one.name) {
					continue
				}
				text, err := accountsText(t, files, one.file)
				if err != nil {
					return err
				}
				names := accountNames(text)
				if slices.Contains(names, one.name) {
					continue
				}
				e := noAccount(base, one.what, one.name, names)
				if !seen[base.Ref+e.Reason] {
					seen[base.Ref+e.Reason] = true
					errs = append(errs, e)
				}
			}
			return nil
		})
		if err != nil {
			return &BaseError{Ref: base.Ref, Err: err}
		}
	}
	return errors.Join(errs...)
}

// noAccount words that a base has no such user or group, and which it has.
func noAccount(base PlannedBase, what, name string, names []string) *SpecError {
	e := &SpecError{Field: "image: user", Reason: fmt.Sprintf("%s: base image %s has no %s of this name", name, base.Ref, what)}
	const most, longest = 40, 64 // names, and bytes of one; useradd(8) takes 32
	names = slices.DeleteFunc(names, func(name string) bool { return len(name) > longest })
	switch {
	case len(names) == 0:
		e.Way = "the base image lists none; use a number, which needs no entry"
	case len(names) > most:
		e.Way = fmt.Sprintf("the base image has %s and %d more; a number needs no entry", strings.Join(names[:most], ", "), len(names)-most)
	default:
		e.Way = "the base image has " + strings.Join(names, ", ") + "; a number needs no entry"
	}
	return e
}

// isNumber reports whether a user or group needs no list: a number, or none at all.
func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return s == "" || err == nil
}

// accountsText returns a list of an image: the one that mabuild adds, or the
// base's.
func accountsText(t *rootfs.Tree, files []entry, file string) (string, error) {
	at, err := t.Resolve(file)
	if err != nil {
		return "", err
	}
	for _, e := range files {
		if e.name != file && e.name != at || e.open == nil {
			continue
		}
		r, err := e.open()
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(r, maxAccounts))
		return string(text), errors.Join(err, r.Close())
	}
	n, _ := t.Lookup(at)
	return textOf(n), nil
}

// accountNames returns the first field of each line.
func accountNames(text string) []string {
	var names []string
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, _, ok := strings.Cut(lines.Text(), ":")
		if ok && name != "" && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names
}
