package basefs

import (
	"strings"
	"testing"
)

// An error that lists accounts of a base image is short, however long their names are.
func TestErrorsOfAccountsAreShort(t *testing.T) {
	e := noAccount("base", "user", "bob", []string{strings.Repeat("x", 500_000), "root"})
	if e.Way != "the base image has root; a number needs no entry" {
		t.Errorf("%.200s", e.Way)
	}
}
