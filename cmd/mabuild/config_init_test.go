package main

import (
	"slices"
	"testing"

	"github.com/mabuild/mabuild/internal/config"
)

// A program has an id only if its name is taken or cannot be the name of an image. All
// ids differ.
func TestWithIDs(t *testing.T) {
	for _, test := range []struct{ mains, names, want []string }{
		{[]string{".", "./cmd/api"}, []string{"app", "api"}, []string{"", ""}},
		{[]string{"./a/v2", "./b"}, []string{"a", "b"}, []string{"", ""}},
		{[]string{"./a/x", "./b/x"}, []string{"x", "x"}, []string{"a-x", "b-x"}},
		{[]string{".", "./cmd/app"}, []string{"app", "app"}, []string{"", "cmd-app"}},
		{[]string{"./a-b/x", "./a/b-x", "./a/b/x", "./b-x"}, []string{"x", "b-x", "x", "b-x"}, []string{"a-b-x", "a-b-x-2", "a-b-x-2-2", "b-x-2"}},
		{[]string{"./cmd/Api", "./cmd/api"}, []string{"Api", "api"}, []string{"cmd-api", "cmd-api-2"}},
		{[]string{"./_x", "./a..b", "./a__b", "./a b"}, []string{"_x", "a..b", "a__b", "a b"}, []string{"x", "a-b-2", "", "a-b-2-2"}},
	} {
		builds := withIDs(test.mains, test.names)
		var got, ids []string
		for i, b := range builds {
			got = append(got, b.ID)
			if b.ID == "" {
				b.ID = test.names[i]
			}
			ids = append(ids, b.ID)
			if b.Main != test.mains[i] {
				t.Errorf("main %s, want %s", b.Main, test.mains[i])
			}
		}
		slices.Sort(ids)
		if !slices.Equal(got, test.want) || len(slices.Compact(ids)) != len(builds) {
			t.Errorf("%q have the ids %q, want %q", test.mains, got, test.want)
		}
	}
}

func TestDestination(t *testing.T) {
	for _, test := range []struct {
		module string
		names  []string
		want   string
	}{
		{"github.com/Acme/App", []string{"App"}, "ghcr.io/acme"},
		{"github.com/acme/app/v2", []string{"app"}, "ghcr.io/acme"},
		{"github.com/acme/app", []string{"server"}, "ghcr.io/acme/app"},
		{"github.com/acme/app", []string{"app", "server"}, "ghcr.io/acme/app"},
		{"github.com/acme", []string{"app"}, "127.0.0.1:5000"},
		{"example.com/acme/app", []string{"app"}, "127.0.0.1:5000"},
		{"", []string{"app"}, "127.0.0.1:5000"},
	} {
		t.Setenv("MABUILD_REPO", "")
		t.Setenv("KO_DOCKER_REPO", "kind.local")
		repo, comment := destination(test.module, test.names)
		if repo != test.want {
			t.Errorf("%s with %q goes to %s, want %s", test.module, test.names, repo, test.want)
		}
		text := config.Starter(repo, comment, []config.Build{{Main: "./cmd/a # b"}})
		if err := config.Validate(config.FileName, text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
