package kube

import (
	"fmt"
	"strings"
	"testing"
)

// Secrets are read as the kubelet reads them: schemes, versions in paths and the encoded pair.
func TestLogins(t *testing.T) {
	f, err := Parse("secrets", []byte(`
apiVersion: v1
kind: Secret
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths": {"https://a.example/v2/": {"username": "u", "password": "p"}, "b.example/team/": {"auth": "dTpwOnE="}, "c.example": {}}, "credsStore": "evil"}'
---
apiVersion: v1
kind: Secret
type: Opaque
stringData: {.dockerconfigjson: '{"auths": {"d.example": {"username": "u", "password": "p"}}}'}
`))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, l := range f.Logins() {
		found[l.Pattern] = l.Username + "/" + l.Password
	}
	if got := fmt.Sprint(found); got != "map[a.example:u/p b.example/team:u/p:q]" {
		t.Error(got)
	}
}

// A pattern matches a repository by the kubelet's rules. The table follows the examples of
// the Kubernetes documentation, "Images: Interpretation of config.json".
func TestMatchLogins(t *testing.T) {
	for _, c := range []struct {
		pattern, repository string
		matches             bool
	}{
		{"my-registry.example/images", "my-registry.example/images", true},
		{"my-registry.example/images", "my-registry.example/images/my-image", true},
		{"my-registry.example/images", "my-registry.example/another-image", false},
		{"*.my-registry.example/images", "sub.my-registry.example/images/my-image", true},
		{"*.my-registry.example/images", "a.sub.my-registry.example/images/my-image", false},
		{"*.my-registry.example/images", "my-registry.example/images", false},
		{"prefix.*.io", "prefix.kubernetes.io/a", true},
		{"*-good.kubernetes.io", "prefix-good.kubernetes.io/a", true},
		{"r.example:5000", "r.example:5000/a", true},
		{"r.example:5000", "r.example/a", false},
		{"r.example", "r.example:5000/a", false},
		{"r.example", "evil-r.example/a", false},
		{"r.example", "r.example.evil/a", false},
		{"[", "r/a", false},
		{"docker.io", "index.docker.io/library/busybox", true},
		{"index.docker.io", "index.docker.io/library/busybox", true},
	} {
		if got := len(MatchLogins([]Login{{Pattern: c.pattern}}, c.repository)) == 1; got != c.matches {
			t.Errorf("%s for %s: %v", c.pattern, c.repository, got)
		}
	}
	all := []Login{{"r.example", "host", ""}, {"r.example/team", "team", ""}, {"*.example", "any", ""}, {"r.example/team", "other", ""}, {"r.example", "host", ""}}
	var order []string
	for _, l := range MatchLogins(all, "r.example/team/app") {
		order = append(order, l.Username)
	}
	if got := strings.Join(order, " "); got != "team other host any" {
		t.Error(got)
	}
}
