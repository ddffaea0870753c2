package kube

import "testing"

// The lines of kubectl's own log are left out of an error, unless it has nothing else.
func TestWithoutLog(t *testing.T) {
	const line = `E1129 22:00:01.429014     865 memcache.go:265] "Unhandled Error" err="dial tcp: connection refused"`
	for said, want := range map[string]string{
		line + "\n" + line + "\nThe connection to the server was refused\n": "The connection to the server was refused",
		"error: no context\n": "error: no context",
		line + "\n":           line + "\n",
	} {
		if got := withoutLog(said); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
