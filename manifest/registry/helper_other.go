//go:build !unix

package registry

import "os/exec"

// asGroup does nothing: there are no process groups here.
func asGroup(*exec.Cmd) {}
