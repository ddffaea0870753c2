package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/jdx/go-netrc"
)

// netrcLogin returns the credentials that the user's netrc has for a host. As for the go
// command, $NETRC names the file, else it is .netrc in the home directory, or _netrc on
// Windows. A file that cannot be read is a warning, and downloads are made without it.
func (a *app) netrcLogin(ctx context.Context) func(host string) (user, password string) {
	none := func(string) (string, string) { return "", "" }
	file := os.Getenv("NETRC")
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return none
		}
		file = filepath.Join(home, map[bool]string{false: ".netrc", true: "_netrc"}[runtime.GOOS == "windows"])
	}
	content, err := os.ReadFile(file) //nolint:gosec // the user names it
	var read *netrc.Netrc
	if err == nil {
		read, err = netrc.ParseString(string(content))
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.WarnContext(ctx, file+" cannot be read: "+err.Error())
		}
		return none
	}
	return func(host string) (string, string) {
		for _, m := range read.Machines() {
			if m.Name == host {
				return m.Get("login"), m.Get("password")
			}
		}
		return "", ""
	}
}
