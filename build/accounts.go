package build

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// accounts checks that each base lists the user and the group that s names. A container
// runtime resolves a name in the files of the image and refuses to start the container if
// the name is missing.
//
// A number needs no entry, and Windows has no such files; for these the layers of the
// base are not read. Platforms on the same base report the same missing name once.
func (s Spec) accounts(bases []PlannedBase, files []layerfile.Entry, fs *basefs.Reader) error {
	user, group, _ := strings.Cut(s.Config.User, ":")
	var errs []error
	seen := map[string]bool{}
	for _, base := range bases {
		if base.Platform.OS == "windows" || isNumber(user) && isNumber(group) {
			continue
		}
		err := fs.Read(base.baseImage.Layers, func(t *rootfs.Tree) error {
			system := basefs.System{Tree: t, Files: files}
			for _, one := range []struct {
				what, name string
				list       func() ([]string, error)
			}{{"user", user, system.Users}, {"group", group, system.Groups}} {
				if isNumber(one.name) {
					continue
				}
				names, err := one.list()
				if err != nil {
					return err
				}
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

// noAccount returns the error for a user or group that the base image does not list. The
// hint has the names that it does list. These names come from an untrusted image, so
// their number and their length are limited.
func noAccount(base PlannedBase, what, name string, names []string) *SpecError {
	e := &SpecError{Field: "image: user", Reason: fmt.Sprintf("%s: base image %s has no %s of this name", name, base.Ref, what)}
	const most, longest = 40, 64 // names, bytes of a name; useradd(8) allows 32
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

// isNumber reports whether a user or group needs no entry in a list. This is true for a
// number of at most 32 bits, and for "", which means that none is set.
func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return s == "" || err == nil
}
