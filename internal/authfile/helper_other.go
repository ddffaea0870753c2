//go:build !unix

package authfile

import "os/exec"

// asGroup does nothing: without process groups only the helper itself is killed.
func asGroup(*exec.Cmd) {}
