package mirrorfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// The table in SECURITY.md is the one that the code generates.
func TestSecurityTable(t *testing.T) {
	const file, begin, end = "../../SECURITY.md", "<!-- made from the code: go generate ./internal/config -->\n", "<!-- end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	trustTable := config.TrustTable(FileName, table.Keys())
	before, rest, found := strings.Cut(string(text), begin)
	table, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("SECURITY.md has no markers for the table")
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+trustTable+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != trustTable {
		t.Errorf("%s is stale: go generate ./internal/config", file)
	}
}

// The limits of .mabuild.yaml apply to mirror.yaml, and to the variables that it may send as
// credentials.
func TestRefused(t *testing.T) {
	const entry = "entries: [{source: 'a.b/c:v1', target: d.e/c}]\n"
	for in, key := range map[string]string{
		"registries: {a.b: {username: x, password: {env: AWS_SECRET}}}\n" + entry:                          "registries[a.b].password.env",
		"registries: {a.b: {username: {env: HOME}, password: {env: MABUILD_T}}}\n" + entry:                 "registries[a.b].username.env",
		"registries: {a.b: {username: x, password: {env: MABUILD_REPO}}}\n" + entry:                        "registries[a.b].password.env",
		"registries: {a.b: {username: {env: MABUILD_U}, password: {env: ALLOWED}}}\n" + entry:              "",
		"registries: {a.b: {skip_verify: true}}\n" + entry:                                                 "registries[a.b].skip_verify",
		"registries: {a.b: {ca_file: ca.pem}}\n" + entry:                                                   "registries[a.b].ca_file",
		"registries: {registry.local: {plain_http: true}, a.b: {mirrors: [c.d], per_second: 3}}\n" + entry: "",
		"entries: [{source: 'oci:/x:v1', target: d.e/c}]":                                                  "entries[0].source",
		"entries: [{source: 'a.b/c:v1', target: [d.e/c, 'oci-archive:/x.tar']}]":                           "entries[0].target",
		"entries: [{go: example.com/x@latest, base: 'oci:/x', target: d.e/c}]":                             "entries[0].base",
		"entries: [{source: 'a.b/c:v1', target: 'oci:x:{{.Tag}}'}]":                                        "",
	} {
		_, err := Read("f", []byte(in), config.Trust{Variables: []string{"ALLOWED"}})
		var p *yamlconf.Problem
		if (key == "") != (err == nil) || err != nil && (!errors.As(err, &p) || p.Key != key) {
			t.Errorf("%s: %v, want %q", in, err, key)
		}
	}
}

// Each key has a trust level, and keys with paths and variables have one that restricts
// them.
func TestEveryKeyIsJudged(t *testing.T) {
	for key, f := range table.Keys() {
		one := func(yield func(string, *yamlconf.Field) bool) { yield(key, f) }
		switch known := strings.Contains(config.TrustTable(FileName, one), "*"+FileName+"*: `"+key+"`"); {
		case !known && f.Trust != "data":
			t.Errorf("%s has no trust level: may an untrusted file set it?", key)
		case f.Check == "path" && !slices.Contains([]string{"path", "private", "people"}, f.Trust):
			t.Errorf("%s is a path but its trust level does not restrict it", key)
		case (f.Check == "secret" || f.Check == "variable") && f.Trust != "secret":
			t.Errorf("%s names a variable but its trust level does not restrict it", key)
		}
	}
}

// No error quotes a file outside the tree to which the file is a link.
func TestLinkedFile(t *testing.T) {
	secret := filepath.Join(write(t, "secret", "token=hunter2\n"), "secret")
	for _, to := range []string{secret, "/proc/self/environ", "../../../../../../../../" + secret} {
		file := filepath.Join(write(t, ".git/HEAD", ""), FileName)
		if err := os.Symlink(to, file); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, config.Trust{})
		if !errors.Is(err, intree.ErrOutside) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", to, err)
		}
	}
}
