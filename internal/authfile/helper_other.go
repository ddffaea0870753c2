//go:build !unix

package authfile

import "os/exec"

// asGroup does nothing: there are no process groups here.
func asGroup(*exec.Cmd) {}
