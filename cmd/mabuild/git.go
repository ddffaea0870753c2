package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/intree"
)

// A checkout is a repository of git's with its files, which a stranger may have written. Git is asked about it
// so that nothing of it runs a program.
type checkout struct {
	root string   // where git runs
	env  []string // beside the process's own
}

// checkoutOf finds the repository that dir lies in: the nearest directory with .git, so
// that a directory which only looks like a bare repository is not taken for one; ok is
// false where there is none.
func checkoutOf(ctx context.Context, dir string) (r checkout, ok bool) {
	if os.Getenv("GIT_DIR") != "" { // the person's word
		return newCheckout(ctx, dir), true
	}
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return r, false
	}
	for at := abs; ; at = filepath.Dir(at) {
		mark := filepath.Join(at, ".git")
		if _, err := os.Lstat(mark); err == nil && intree.Owned(mark) == nil {
			return newCheckout(ctx, at), true
		}
		if at == filepath.Dir(at) {
			return r, false
		}
	}
}

// newCheckout settles how git runs in root.
func newCheckout(ctx context.Context, root string) checkout {
	r := checkout{root: root}
	r.settings(quietGit)
	r.settings(r.filters(ctx))
	return r
}

// quietGit are settings that keep git from running what a repository's own settings
// name: a monitor of files, hooks, a program that checks signatures.
var quietGit = [][2]string{
	{"safe.bareRepository", "explicit"}, {"core.fsmonitor", "false"}, {"core.hooksPath", os.DevNull},
	{"log.showSignature", "false"}, {"core.pager", "cat"}, {"status.submoduleSummary", "false"}, {"gc.auto", "0"}, {"maintenance.auto", "false"},
}

// settings sets settings for r alone, in a form that takes any name (git-config(1),
// GIT_CONFIG_COUNT). They beat those of files; the person's own of this kind stay.
func (r *checkout) settings(list [][2]string) {
	n := 0
	for _, env := range [][]string{os.Environ(), r.env} {
		for _, kv := range env {
			if text, ok := strings.CutPrefix(kv, "GIT_CONFIG_COUNT="); ok {
				n, _ = strconv.Atoi(text) // git refuses what is no number
			}
		}
	}
	for i, one := range list {
		r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n+i, one[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n+i, one[1]))
	}
	r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", n+len(list)))
}

// lfs are the values of git-lfs(1)'s filters, which are known.
var lfs = []string{"git-lfs clean -- %f", "git-lfs smudge -- %f", "git-lfs filter-process", "git-lfs smudge --skip -- %f", "git-lfs filter-process --skip"}

// filters returns settings that switch off the filters which the repository or the
// system has and which are not known. The person's own stay.
func (r checkout) filters(ctx context.Context) (off [][2]string) {
	out, err := r.ask(ctx, "config", "--null", "--show-scope", "--get-regexp", `^filter\..*\.(clean|smudge|process)$`)
	if err != nil { // none
		return nil
	}
	words := strings.Split(out, "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		key, value, _ := strings.Cut(words[i+1], "\n")
		if words[i] != "global" && words[i] != "command" && !slices.Contains(lfs, value) {
			off = append(off, [2]string{key, ""})
		}
	}
	return off
}

// ask runs git and returns its standard output.
func (r checkout) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-pager"}, args...)...) //nolint:gosec // argv only, all of it ours
	cmd.Dir = r.root
	// No lock, no fetch of what a partial clone lacks, no transport at all.
	cmd.Env = append(append(os.Environ(), r.env...), "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.Output()
	return string(out), err
}

// line is ask for one line, "" where git has no answer.
func (r checkout) line(ctx context.Context, args ...string) string {
	out, err := r.ask(ctx, args...)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// version is what `git describe --tags --always --dirty` says, which would run programs
// in submodules.
func (r checkout) version(ctx context.Context) string {
	version := r.line(ctx, "describe", "--tags", "--always")
	changed, err := r.ask(ctx, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "--no-renames")
	if version != "" && (err != nil || changed != "") {
		version += "-dirty"
	}
	return version
}

// gitVars asks git about dir, for templates and --vcs. Outside a repository, or
// without git, all is empty.
func gitVars(ctx context.Context, dir string) build.Vars {
	r, ok := checkoutOf(ctx, dir)
	if !ok {
		return build.Vars{}
	}
	v := build.Vars{Commit: r.line(ctx, "rev-parse", "HEAD")}
	if v.Commit == "" {
		return v
	}
	v.ShortCommit = r.line(ctx, "rev-parse", "--short", "HEAD")
	v.Version = r.version(ctx)
	v.Tag = r.line(ctx, "describe", "--tags", "--exact-match")
	v.Branch = r.line(ctx, "branch", "--show-current")
	if t, err := time.Parse(time.RFC3339, r.line(ctx, "log", "-1", "--no-show-signature", "--format=%cI", "HEAD")); err == nil {
		v.Date = t.UTC().Format(time.RFC3339)
	}
	return v
}

// gitRemote returns the address of the repository's origin without the
// credentials that it may carry.
func gitRemote(ctx context.Context, dir string) string {
	r, ok := checkoutOf(ctx, dir)
	if !ok {
		return ""
	}
	remote := r.line(ctx, "remote", "get-url", "origin")
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
	return remote // git@host:path, which has no secret
}
