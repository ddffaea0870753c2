package main

import (
	"context"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/mabuild/mabuild/build"
)

// gitVars asks git about dir, for templates and --vcs. Outside a repository, or
// without git, all is empty.
func gitVars(ctx context.Context, dir string) build.Vars {
	ask := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // argv only, all of it ours
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	v := build.Vars{Commit: ask("rev-parse", "HEAD")}
	if v.Commit == "" {
		return v
	}
	v.ShortCommit = ask("rev-parse", "--short", "HEAD")
	v.Version = ask("describe", "--tags", "--always", "--dirty")
	v.Tag = ask("describe", "--tags", "--exact-match")
	v.Branch = ask("branch", "--show-current")
	if t, err := time.Parse(time.RFC3339, ask("show", "-s", "--format=%cI", "HEAD")); err == nil {
		v.Date = t.UTC().Format(time.RFC3339)
	}
	return v
}

// gitRemote returns the address of the repository's origin without the
// credentials that it may carry.
func gitRemote(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "git", "remote", "get-url", "origin")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	remote := strings.TrimSpace(string(out))
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
	return remote // git@host:path, which has no secret
}
