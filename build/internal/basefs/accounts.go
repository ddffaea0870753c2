package basefs

import (
	"bufio"
	"errors"
	"io"
	"strings"
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
