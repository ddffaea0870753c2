// Package git asks git about the repository that contains a directory, for templates and
// annotations. The repository may be untrusted: git gets settings that keep it from running
// programs which the repository names, and only commands that read. Nothing is fetched and
// nothing is written.
package git

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	safe "github.com/mabuild/mabuild/internal/text"
)

// A checkout is a git repository with its files. The repository may be untrusted, and git
// runs programs that a repository's configuration names. So git gets settings and
// variables that prevent this, and only commands that read.
type checkout struct {
	root string   // the directory in which git runs
	env  []string // variables in addition to the process's own
}

// checkoutOf finds the repository that contains dir: the nearest directory with .git.
// Git's own search would also accept a directory that merely looks like a bare
// repository, whose configuration could come with the checkout. A .git that another user
// may have put there is skipped. ok is false if there is no repository. GIT_DIR in the
// environment is the user's choice and is left to git.
func checkoutOf(ctx context.Context, dir string) (r checkout, ok bool) {
	if os.Getenv("GIT_DIR") != "" { //nolint:forbidigo // git reads it, too
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

// newCheckout prepares git's settings for root. The second call of settings builds on the
// first, because reading the filters already needs quietGit.
func newCheckout(ctx context.Context, root string) checkout {
	r := checkout{root: root}
	r.settings(quietGit)
	r.settings(r.filters(ctx))
	return r
}

// quietGit are settings that keep git from running programs that a repository configures:
// a file system monitor, hooks, a pager and a program that verifies signatures; and from
// starting maintenance in the background.
var quietGit = [][2]string{
	{"safe.bareRepository", "explicit"},
	{"core.fsmonitor", "false"},
	{"core.hooksPath", os.DevNull},
	{"log.showSignature", "false"},
	{"core.pager", "cat"},
	{"status.submoduleSummary", "false"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
}

// settings adds settings through GIT_CONFIG_COUNT, which accepts any key (git-config(1)).
// They take precedence over those in files. Settings that the user passes in the same way
// keep their numbers.
func (r *checkout) settings(list [][2]string) {
	n := 0
	for _, env := range [][]string{os.Environ(), r.env} {
		for _, kv := range env {
			if text, ok := strings.CutPrefix(kv, "GIT_CONFIG_COUNT="); ok {
				n, _ = strconv.Atoi(text) // git rejects an invalid number itself
			}
		}
	}
	for i, one := range list {
		r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n+i, one[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n+i, one[1]))
	}
	r.env = append(r.env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", n+len(list)))
}

// lfs has the filter commands of git-lfs(1), which may run.
var lfs = []string{"git-lfs clean -- %f", "git-lfs smudge -- %f", "git-lfs filter-process", "git-lfs smudge --skip -- %f", "git-lfs filter-process --skip"}

// filters returns settings that disable the clean, smudge and process filters of the
// repository and the system, apart from git-lfs. git status runs filters on changed
// files. The user's own settings (scopes global and command) stay. The output of git
// config alternates between scope and "key\nvalue", separated by NUL.
func (r checkout) filters(ctx context.Context) (off [][2]string) {
	out, err := r.ask(ctx, "config", "--null", "--show-scope", "--get-regexp", `^filter\..*\.(clean|smudge|process)$`)
	if err != nil { // no filters
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

// ask runs git in r and returns its standard output. The error is an *exec.ExitError with
// git's standard error if git ran and failed.
func (r checkout) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-pager"}, args...)...) //nolint:gosec // no shell
	cmd.Dir = r.root
	// Git takes no lock that could disturb the user's own git, does not fetch what a
	// partial clone lacks, uses no network at all and asks no questions.
	cmd.Env = append(append(os.Environ(), r.env...), "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.Output()
	return string(out), err
}

// line is ask for a single line.
func (r checkout) line(ctx context.Context, args ...string) (string, error) {
	out, err := r.ask(ctx, args...)
	return strings.TrimSpace(out), err
}

// failure says in git's own words why it has no answer about root.
func failure(root string, err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return hint.New(hint.Build, "install git, or write the value instead of the template", "git is not installed")
	case !errors.As(err, &exit):
		return err
	}
	words, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
	words = strings.TrimPrefix(words, "fatal: ")
	if words == "" {
		words = err.Error()
	}
	show := "git -C " + root + " status shows the details"
	if ofAnother(root) {
		show = "git rejects repositories of other users; to allow this one: git config --global --add safe.directory " + root
	}
	return hint.New(hint.Build, show, "git: %s", words)
}

// ofAnother reports whether a repository belongs to another user. Git rejects such a
// repository unless safe.directory lists it.
func ofAnother(root string) bool {
	for _, path := range []string{root, filepath.Join(root, ".git")} {
		if info, err := os.Lstat(path); err == nil && !intree.Mine(info) {
			return true
		}
	}
	return false
}

// versionTags returns options of git describe that restrict it to the version tags of the
// module in dir, and the prefix of those tags. The tags of a module in the directory svc
// are svc/v1.2.3, those of the root module v1.2.3 (Go Modules Reference, "Mapping
// versions to commits"). A major version directory such as svc/v2 is not part of the
// prefix. If no tag belongs to the module, it has the versions of the root.
func (r checkout) versionTags(ctx context.Context, dir string) (options []string, prefix string) {
	versions := "v[0-9]*"
	root, ok := intree.ModuleRoot(dir)
	if rel, err := filepath.Rel(r.root, root); ok && err == nil && filepath.IsLocal(rel) && rel != "." {
		prefix = filepath.ToSlash(rel) + "/"
		if major := path.Base(filepath.ToSlash(rel)); majorVersion.MatchString(major) {
			prefix = strings.TrimSuffix(prefix, major+"/")
			versions = major + ".*"
		}
	}
	// The tags of the module come first, then those of the root.
	for _, pattern := range [][2]string{{prefix, versions}, {"", "v[0-9]*"}} {
		match := pattern[0] + pattern[1]
		if tags, err := r.line(ctx, "tag", "--list", match); err == nil && tags != "" {
			return []string{"--match", match}, pattern[0]
		}
	}
	return []string{"--exclude", "*/*"}, "" // no version tags: any tag without a slash
}

// majorVersion matches the name of a major version directory.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// Vars asks git about the program in dir, for templates and --vcs. A value that git
// does not have is empty, and Vars.Why says why, by the name of the value; the key "" is
// for values without an entry. Nothing here fails a build: the error appears only if a
// template uses the value.
//
// Version ends with -dirty if a tracked file is changed, or if git status fails.
// Untracked files do not count, as in git describe --dirty.
func Vars(ctx context.Context, dir string) build.Vars {
	v := build.Vars{Why: map[string]error{}}
	fail := func(err error) build.Vars {
		v.Why[""] = err
		return v
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	r, ok := checkoutOf(ctx, dir)
	if !ok {
		return fail(hint.New(hint.Build, "build in a git repository, or write the value instead of the template", "%s is not in a git repository", dir))
	}
	var err error
	// This fails in a repository without a commit, but also if git rejects the
	// repository. A second command, which needs no commit, tells the cases apart.
	if v.Commit, err = r.line(ctx, "rev-parse", "--verify", "--quiet", "HEAD"); err != nil {
		if _, rerr := r.line(ctx, "rev-parse", "--git-dir"); rerr != nil {
			return fail(failure(r.root, rerr))
		}
		return fail(hint.New(hint.Build, "make a commit, or write the value instead of the template", "the repository at %s has no commit", r.root))
	}
	options, prefix := r.versionTags(ctx, dir)
	ask := func(name string, why error, args ...string) string {
		line, err := r.line(ctx, args...)
		if err != nil || line == "" {
			if why == nil {
				why = failure(r.root, err)
			}
			v.Why[name] = why
			return ""
		}
		return line
	}
	v.ShortCommit = ask("ShortCommit", nil, "rev-parse", "--short", "HEAD")
	if v.Version = ask("Version", nil, slices.Concat([]string{"describe", "--tags", "--always"}, options)...); v.Version != "" {
		v.Version = strings.TrimPrefix(v.Version, prefix)
		// Without ignoring their changes, git would run in each submodule, with its
		// configuration.
		changed, err := r.ask(ctx, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "--no-renames")
		if err != nil || changed != "" {
			v.Version += "-dirty"
		}
	}
	noTag := hint.New(hint.Build, "tag the commit with git tag v1.2.3, or use {{.Version}}", "the commit has no tag")
	v.Tag = strings.TrimPrefix(ask("Tag", noTag, slices.Concat([]string{"describe", "--tags", "--exact-match"}, options)...), prefix)
	detached := hint.New(hint.Build, "check out a branch; CI systems often do not, but set a variable with its name", "no branch is checked out")
	v.Branch = ask("Branch", detached, "branch", "--show-current")
	date := ask("Date", nil, "log", "-1", "--no-show-signature", "--format=%cI", "HEAD")
	if t, err := time.Parse(time.RFC3339, date); err == nil {
		v.Date, v.Timestamp = t.UTC().Format(time.RFC3339), strconv.FormatInt(t.Unix(), 10)
	}
	return v
}

// Remote returns the URL of the remote origin without credentials, or "".
func Remote(ctx context.Context, dir string) string {
	r, ok := checkoutOf(ctx, dir)
	if !ok {
		return ""
	}
	remote, err := r.line(ctx, "remote", "get-url", "origin")
	if err != nil {
		return ""
	}
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
	return safe.Redact(remote) // git@host:path, or not a URL
}

// Address returns the address of a git remote as other tools write it in provenance: an
// HTTPS URL without .git, also for git@host:path and ssh://git@host/path. Two clones of one
// repository have the same.
func Address(remote string) string {
	rest, isSSH := strings.CutPrefix(remote, "ssh://")
	if host, path, ok := strings.Cut(remote, ":"); ok && !strings.Contains(remote, "://") {
		rest, isSSH = host+"/"+strings.TrimPrefix(path, "/"), true
	}
	if isSSH {
		host, path, _ := strings.Cut(rest, "/")
		remote = "https://" + host[strings.LastIndex(host, "@")+1:] + "/" + path
	}
	return strings.TrimSuffix(strings.TrimSuffix(remote, "/"), ".git")
}

// sources are the files that feed a compiler, as git matches them below a directory.
var sources = []string{"*.go", "*.s", "*.S", "*.c", "*.cc", "*.cpp", "*.h", "*.hh", "*.syso", "go.mod", "go.sum", "go.work", "*/go.mod", "*/go.sum"}

// UntrackedSources reports whether the repository of dir has files that git does not track and
// that a compiler may read. Files that are ignored do not count.
func UntrackedSources(ctx context.Context, dir string) bool {
	r, ok := checkoutOf(ctx, dir)
	if !ok {
		return false
	}
	found, err := r.ask(ctx, slices.Concat([]string{"ls-files", "--others", "--exclude-standard", "--"}, sources)...)
	return err != nil || found != ""
}
