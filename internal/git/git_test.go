package git

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/hint"
)

// run runs git in dir with the user's settings.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func put(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// settingsThatRun are the settings with which a repository makes git run a program. %s is
// its path.
var settingsThatRun = map[string]string{
	"fsmonitor":      "[core]\n\tfsmonitor = %s\n",
	"hooks":          "[core]\n\thooksPath = HOOKS\n",
	"filter":         "[filter \"x\"]\n\tclean = %s\n",
	"filter process": "[filter \"x\"]\n\tprocess = %s\n\trequired\n",
	"filter with =":  "[filter \"a=b\"]\n\tclean = %s\n",
	"filter lfs":     "[filter \"lfs\"]\n\tclean = %s\n",
	"signatures":     "[log]\n\tshowSignature = true\n[gpg]\n\tprogram = %s\n",
	"included":       "[include]\n\tpath = INCLUDED\n",
}

// No setting of a repository makes mabuild run a program, and git still gives its values.
func TestGitRunsNothing(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	for name, text := range settingsThatRun {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			marker := filepath.Join(t.TempDir(), "ran")
			script := filepath.Join(dir, "x.sh")
			put(t, script, "#!/bin/sh\necho \"$0 $*\" >> "+marker+"\ncat\n", 0o755)
			put(t, filepath.Join(dir, "hooks", "post-index-change"), "#!/bin/sh\necho hook >> "+marker+"\n", 0o755)
			put(t, filepath.Join(dir, ".gitattributes"), "*.txt filter=x\n*.lfs filter=lfs\n*.eq filter=a=b\n", 0o644)
			for _, file := range []string{"a.txt", "a.lfs", "a.eq"} {
				put(t, filepath.Join(dir, file), "one\n", 0o644)
			}
			run(t, dir, "init", "-q", "-b", "main")
			run(t, dir, "add", ".")
			run(t, dir, "commit", "-q", "-m", "one")
			signed := strings.Replace(run(t, dir, "cat-file", "commit", "HEAD"), "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1)
			put(t, filepath.Join(dir, ".git", "signed"), signed+"\n", 0o644)
			run(t, dir, "update-ref", "HEAD", run(t, dir, "hash-object", "-t", "commit", "-w", ".git/signed"))
			run(t, dir, "tag", "v1.2.3")
			text = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "%s", script), "HOOKS", dir+"/hooks"), "INCLUDED", dir+"/more")
			put(t, dir+"/more", "[core]\n\tfsmonitor = "+script+"\n[filter \"x\"]\n\tclean = "+script+"\n", 0o644)
			config, err := os.ReadFile(filepath.Join(dir, ".git/config"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, ".git/config"), string(config)+text, 0o644)
			// The same content at another time has git look at the files again.
			for _, file := range []string{"a.txt", "a.lfs", "a.eq"} {
				put(t, filepath.Join(dir, file), "one\n", 0o644)
			}
			v := Vars(t.Context(), dir)
			remote := Remote(t.Context(), dir)
			if ran, err := os.ReadFile(marker); err == nil {
				t.Errorf("git ran %s", ran)
			}
			if v.Version != "v1.2.3" && v.Version != "v1.2.3-dirty" || v.Commit == "" || v.Tag != "v1.2.3" || v.Branch != "main" || v.Date == "" {
				t.Errorf("%+v, remote %s", v, remote)
			}
		})
	}
}

// A directory in the tree that looks like a bare repository is not used as one.
func TestGitTakesNoDirectoryForARepository(t *testing.T) {
	dir := t.TempDir()
	marker := filepath.Join(t.TempDir(), "ran")
	run(t, dir, "init", "-q", "-b", "main")
	sub := filepath.Join(dir, "sub")
	run(t, dir, "init", "-q", "--bare", sub)
	put(t, filepath.Join(sub, "config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ..\n\tfsmonitor = sh "+sub+"/x.sh\n", 0o644)
	put(t, filepath.Join(sub, "x.sh"), "echo ran >> "+marker+"\n", 0o755)
	put(t, filepath.Join(sub, "refs/heads/.keep"), "", 0o644)
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", "one")
	run(t, dir, "tag", "v1.0.0")
	if v := Vars(t.Context(), sub); v.Version != "v1.0.0" {
		t.Errorf("%+v", v)
	}
	if Remote(t.Context(), sub) != "" {
		t.Error("it has no origin")
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("git ran the tree's program")
	}
	// Without .git above there is no repository at all.
	if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
		t.Fatal(err)
	}
	if v := Vars(t.Context(), sub); v.Version != "" || v.Commit != "" {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("git ran the tree's program")
	}
}

// TestGitSeesChanges: as git describe --dirty does.
func TestGitSeesChanges(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "init", "-q", "-b", "main")
	put(t, filepath.Join(dir, "a"), "1", 0o644)
	run(t, dir, "add", ".")
	run(t, dir, "commit", "-q", "-m", "one")
	run(t, dir, "tag", "v1.0.0")
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "v1.0.0"},
		{func() { put(t, filepath.Join(dir, "new"), "x", 0o644) }, "v1.0.0"},
		{func() { put(t, filepath.Join(dir, "a"), "2", 0o644) }, "v1.0.0-dirty"},
		{func() { run(t, dir, "add", "a") }, "v1.0.0-dirty"},
	} {
		step.do()
		if v, same := Vars(t.Context(), dir).Version, run(t, dir, "describe", "--tags", "--always", "--dirty"); v != step.want || v != same {
			t.Errorf("%s, git says %s, want %s", v, same, step.want)
		}
	}
}

// TestGitVersions: a program has the tags of its own module, with their prefix cut.
func TestGitVersions(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "init", "-q", "-b", "feature/login")
	for _, module := range []string{"", "svc/", "lib/v2/", "cmd/tool/", "deep/svc/"} {
		put(t, filepath.Join(dir, module+"go.mod"), "module example.com/x\n", 0o644)
		put(t, filepath.Join(dir, module+"main/main.go"), "package main\n", 0o644)
	}
	run(t, dir, "add", ".")
	run(t, dir, "commit", "-q", "-m", "one")
	for _, tag := range []string{"v1.0.0", "api/v1.8.0", "svc/v0.3.0", "lib/v2.1.0", "lib/v1.9.0", "nightly", "zzz/v9.9.9"} {
		run(t, dir, "tag", tag)
	}
	for at, want := range map[string]string{
		".": "v1.0.0", "main": "v1.0.0", "svc": "v0.3.0", "svc/main": "v0.3.0", "lib/v2/main": "v2.1.0", "cmd/tool/main": "v1.0.0", "deep/svc": "v1.0.0",
	} {
		v := Vars(t.Context(), filepath.Join(dir, at))
		if v.Version != want || v.Tag != want || v.Branch != "feature/login" {
			t.Errorf("%s: %+v, want %s", at, v, want)
		}
	}
	for _, tag := range strings.Fields(run(t, dir, "tag")) {
		run(t, dir, "tag", "-d", tag)
	}
	if v := Vars(t.Context(), dir); v.Version != v.ShortCommit || v.Tag != "" || v.Why["Tag"] == nil {
		t.Errorf("%+v", v)
	}
	run(t, dir, "tag", "1.5")
	run(t, dir, "tag", "other/1.6")
	if v := Vars(t.Context(), dir); v.Version != "1.5" {
		t.Errorf("%+v", v)
	}
}

// A value that git does not have is an error with git's message.
func TestGitRefuses(t *testing.T) {
	repository := func() string {
		dir := t.TempDir()
		run(t, dir, "init", "-q", "-b", "main")
		put(t, filepath.Join(dir, "a"), "1", 0o644)
		return dir
	}
	committed := func() string {
		dir := repository()
		run(t, dir, "add", ".")
		run(t, dir, "commit", "-q", "-m", "one")
		return dir
	}
	for name, test := range map[string]struct {
		dir       func() string
		path      string
		value     string
		why, hint string
	}{
		"no repository": {func() string { return t.TempDir() }, "", "", "is not in a git repository", "build in a git repository"},
		"no commit":     {repository, "", "", "has no commit", "make a commit"},
		"no tag":        {committed, "", "Tag", "the commit has no tag", "{{.Version}}"},
		"no git":        {committed, t.TempDir(), "", "git is not installed", "install git"},
		".git to nowhere": {func() string {
			dir := t.TempDir()
			put(t, filepath.Join(dir, ".git"), "gitdir: /nowhere/at/all\n", 0o644)
			return dir
		}, "", "", "git: not a git repository: /nowhere/at/all", "status shows the details"},
		"detached": {func() string {
			dir := committed()
			run(t, dir, "checkout", "-q", "--detach")
			return dir
		}, "", "Branch", "no branch is checked out", "check out a branch"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			dir := test.dir()
			if test.path != "" {
				t.Setenv("PATH", test.path)
			}
			v := Vars(t.Context(), dir)
			why := v.Why[test.value]
			if why == nil || !strings.Contains(why.Error(), test.why) || !strings.Contains(hint.Of(why), test.hint) {
				t.Fatalf("%+v, want %s", v, test.why)
			}
			_, err := v.Expand("x{{." + cmp.Or(test.value, "Version") + "}}")
			if err == nil || !strings.Contains(err.Error(), test.why) {
				t.Error(err)
			}
		})
	}
}

// The URL of a remote has no credentials, whatever its form.
func TestRemoteHasNoSecret(t *testing.T) {
	for remote, want := range map[string]string{
		"https://user:secret@github.com/x/y": "https://github.com/x/y", "https://user:pa%zzsecret@github.com/x/y": "https://github.com/x/y",
		"https://x:secret@github.com:x/y": "https://github.com:x/y", "user:secret@github.com:x/y": "github.com:x/y", "git@github.com:x/y": "git@github.com:x/y",
		"ssh://git@github.com/x/y": "ssh://github.com/x/y", "/srv/git/x": "/srv/git/x",
	} {
		dir := t.TempDir()
		run(t, dir, "init", "-q")
		run(t, dir, "remote", "add", "origin", remote)
		if got := Remote(t.Context(), dir); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// All forms of a git remote give the address that other tools write into provenance.
func TestAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/acme/app.git":      "https://github.com/acme/app",
		"https://github.com/acme/app":          "https://github.com/acme/app",
		"git@github.com:acme/app.git":          "https://github.com/acme/app",
		"github.com:acme/app.git":              "https://github.com/acme/app",
		"ssh://git@example.com:2222/a/b/c.git": "https://example.com:2222/a/b/c",
		"ssh://git@github.com/acme/app":        "https://github.com/acme/app",
		"https://github.com/acme/app/":         "https://github.com/acme/app",
		"file:///srv/git/app.git":              "file:///srv/git/app",
		"/srv/git/app":                         "/srv/git/app",
	} {
		if got := Address(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
