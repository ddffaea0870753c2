package basefs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/mabuild/mabuild/build/internal/specerr"
)

// The files that list users and groups (passwd(5), group(5)).
const (
	passwdFile = "etc/passwd"
	groupFile  = "etc/group"
)

// maxAccounts is the size limit of a file of users or groups, in bytes.
const maxAccounts = 1 << 20

// Users returns the names of the users that the image will have, in the order of its list.
func (s System) Users() ([]string, error) { return s.accounts(passwdFile) }

// Groups returns the names of the groups that the image will have, in the order of its
// list.
func (s System) Groups() ([]string, error) { return s.accounts(groupFile) }

// Lacks returns an error for the user and for the group that the image will not list. A
// container runtime resolves a name in the files of the image and refuses to start the
// container if the name is missing. A number and "" need no entry. base is the reference
// of the base image.
func (s System) Lacks(base, user, group string) (missing []*specerr.Error, err error) {
	for _, one := range []struct {
		what, name string
		list       func() ([]string, error)
	}{{"user", user, s.Users}, {"group", group, s.Groups}} {
		if IsNumber(one.name) {
			continue
		}
		names, err := one.list()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, one.name) {
			missing = append(missing, noAccount(base, one.what, one.name, names))
		}
	}
	return missing, nil
}

// noAccount returns the error for a user or group that the base image does not list. The
// hint has the names that it does list. These names come from an untrusted image, so
// their number and their length are limited.
func noAccount(base, what, name string, names []string) *specerr.Error {
	e := &specerr.Error{Field: "image: user", Reason: fmt.Sprintf("%s: base image %s has no %s of this name", name, base, what)}
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

// IsNumber reports whether a user or group needs no entry in a list. This is true for a
// number of at most 32 bits, and for "", which means that none is set.
func IsNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return s == "" || err == nil
}

// accounts returns the names of a list as the image will have it. A file that is added at
// this path replaces the file of the base. At most maxAccounts bytes are read of either
// one.
func (s System) accounts(file string) ([]string, error) {
	at, err := s.Tree.Resolve(file)
	if err != nil {
		return nil, err
	}
	for _, e := range s.Files {
		if e.Name != file && e.Name != at || e.Open == nil {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(r, maxAccounts))
		return accountNames(string(text)), errors.Join(err, r.Close())
	}
	n, _ := s.Tree.Lookup(at)
	return accountNames(textOf(n)), nil
}

// accountNames returns the first field of each line. It skips comments and lines without
// a colon.
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
