package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/download"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/lockfile"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/internal/sign"
)

// lockOptions are the flags of lock.
type lockOptions struct {
	update, check, requireSums, unsigned bool
	ids                                  []string // ID or ID=VERSION
}

// newLock returns the command lock.
func newLock(a *app) *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "lock [ID[=VERSION]…]",
		Short: "Write mabuild.lock: the sha256 of prebuilt programs and Debian packages",
		Long: `Write mabuild.lock, which is beside .mabuild.yaml: the sha256 of each file that a
build with prebuilt.url or packages downloads. A push downloads nothing else. What is in
the file stays as it is; lines are added for new platforms and versions, and removed if
no build uses them. Each new download is checked: it has the program, for its platform,
and packages.scripts has a rule for each script of a package.

Packages are those of packages.install, and those that they depend on and that the base
image lacks. The index of the archive must be signed by a key of its keyring, which gpgv
checks.

With --update, the builds ID use VERSION, or the latest release of prebuilt.repo on
GitHub. Their version in .mabuild.yaml is changed, too. Their packages are chosen again,
with the versions that the archive has now. For each new line, one line is printed to
stdout, with the source of the sum: signed sums, sums, signed, unsigned, or first use if
neither prebuilt.sums nor prebuilt.verify is set.`,
		Example: `  mabuild lock
  mabuild lock --update && mabuild push
  mabuild lock --update prometheus=v3.5.0
  mabuild lock --check`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ids = args
			return runLock(cmd, a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.update, "update", false, "Use the latest release, or VERSION, of the builds ID, or of all builds with prebuilt.repo; choose packages again")
	f.BoolVar(&o.check, "check", false, "Change nothing; fail if lines are missing, have another version or are unused")
	f.BoolVar(&o.requireSums, "require-sums", false, "Fail if neither prebuilt.sums nor prebuilt.verify covers a new download")
	f.BoolVar(&o.unsigned, "unsigned", false, "Accept an archive of packages whose index has no valid signature")
	return cmd
}

// runLock runs lock.
func runLock(cmd *cobra.Command, a *app, o lockOptions) error {
	switch {
	case len(o.ids) > 0 && !o.update:
		return usage("mabuild lock --update "+strings.Join(o.ids, " "), "ID requires --update")
	case o.update && o.check:
		return usage("use only one of them", "--update and --check cannot be used together")
	case o.unsigned && o.requireSums:
		return usage("use only one of them", "--unsigned and --require-sums cannot be used together")
	}
	if err := a.startWith(cmd, config.All); err != nil {
		return err
	}
	l := &locking{app: a, options: o, sums: map[string]string{}, releases: map[string]string{}}
	l.builds = slices.DeleteFunc(slices.Clone(a.config.Builds), func(b config.Build) bool { return b.Prebuilt.URL == "" })
	all := a.config.Builds
	if len(all) == 0 { // the packages of PACKAGE arguments
		all = []config.Build{{Settings: a.config.Settings, Dir: a.config.Dir}}
	}
	var err error
	if l.sets, err = plan.PackageSets(all); err != nil {
		return err
	}
	if len(l.builds) == 0 && len(l.sets) == 0 {
		return usage("see docs/prebuilt.md and docs/packages.md", "no build of the configuration file has prebuilt.url or packages")
	}
	if l.old, err = plan.ReadLock(a.config.Dir); err != nil {
		return err
	}
	releases, err := plan.Releases(l.builds)
	if err != nil {
		return err
	}
	if o.check {
		return plan.Compare(releases, l.sets, l.old)
	}
	if l.files, err = a.downloads(cmd.Context()); err != nil {
		return err
	}
	if _, l.planner, err = a.publisher(cmd, pushOptions{nowhere: true}); err != nil {
		return err
	}
	var edited []byte
	if o.update {
		if edited, err = l.update(cmd.Context()); err != nil {
			return err
		}
		if releases, err = plan.Releases(l.builds); err != nil {
			return err
		}
	}
	return l.write(cmd.Context(), releases, edited)
}

// A locking is one run of lock.
type locking struct {
	*app
	options lockOptions
	builds  []config.Build // with prebuilt.url
	sets    []plan.PackageSet
	old     lockfile.File
	sums    map[string]string // lists of sums, by URL
	// releases has the latest versions, by the URL that was asked.
	releases map[string]string
	files    *download.Client
	planner  *plan.Planner
	report   strings.Builder
}

// print adds a line to the report, of the texts that are not empty.
func (l *locking) print(texts ...string) {
	fmt.Fprintln(&l.report, strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), " "))
}

// write completes the lines and checks what is downloaded, and then writes the lock, and
// edited as the configuration file if it is not nil.
func (l *locking) write(ctx context.Context, releases []plan.Release, edited []byte) error {
	var lock lockfile.File
	var errs []error
	changed := map[string]bool{} // ids
	for _, r := range releases {
		line := r.Line
		i := slices.IndexFunc(l.old.Prebuilt, func(o lockfile.Line) bool {
			return o.ID == r.ID && o.Platform == r.Platform && o.Version == r.Version && o.Repo == r.Repo
		})
		if i >= 0 && l.files.From(r.URL, l.old.Prebuilt[i].SHA256) {
			line.SHA256 = l.old.Prebuilt[i].SHA256
		} else {
			from, err := l.sum(ctx, r, &line)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", r.ID, r.Platform, err))
				continue
			}
			changed[r.ID] = true
			l.print(r.ID, r.Platform, r.Version, "sha256:"+line.SHA256, from)
		}
		lock.Prebuilt = append(lock.Prebuilt, line)
	}
	if err := errors.Join(append(errs, l.packages(ctx, &lock))...); err != nil {
		return err
	}
	if err := l.examine(ctx, lock, changed); err != nil {
		return err
	}
	content, err := lockfile.Format(lock)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(l.config.Dir, lockfile.Name), content); err != nil {
		return err
	}
	if edited != nil {
		if err := replaceFile(l.config.File, edited); err != nil {
			return err
		}
	}
	l.close() // removes the progress rows before the result is printed
	_, err = io.WriteString(l.stdout, l.report.String())
	return err
}

// packages adds the lines of packages. It joins the errors of all architectures.
func (l *locking) packages(ctx context.Context, lock *lockfile.File) error {
	if len(l.sets) == 0 {
		return nil
	}
	work, err := l.workDir(ctx)
	if err != nil {
		return err
	}
	r := plan.Resolver{Planner: l.planner, Files: l.files, Work: work, Unsigned: l.options.unsigned, Known: l.old.Packages}
	// What is wrong for several architectures is one error that names them: a script is
	// usually the same in all.
	type failure struct{ id, text string }
	var failed []failure
	first, of := map[failure]error{}, map[failure][]string{}
	for _, set := range l.sets {
		list, fits := set.Locked(l.old)
		if !fits || l.options.updates(set.ID) {
			if list, err = r.Resolve(ctx, set); err != nil {
				for _, e := range hint.Parts(err) {
					f := failure{set.ID, e.Error()}
					if first[f] == nil {
						failed, first[f] = append(failed, f), e
					}
					of[f] = append(of[f], set.Architecture)
				}
				continue
			}
			for _, p := range list {
				if !slices.Contains(l.old.Packages, p) {
					l.print(p.ID, p.Architecture, p.Package, p.Version, "sha256:"+p.SHA256, map[bool]string{false: "(signed)", true: "(unsigned)"}[r.Unsigned])
				}
			}
		}
		lock.Resolved, lock.Packages = append(lock.Resolved, set.Resolution), append(lock.Packages, list...)
	}
	var errs []error
	for _, f := range failed {
		errs = append(errs, fmt.Errorf("%s: %w", strings.TrimSpace(f.id+" "+strings.Join(of[f], ", ")), first[f]))
	}
	return errors.Join(errs...)
}

// updates reports whether the packages of a build are chosen again.
func (o lockOptions) updates(id string) bool {
	return o.update && (len(o.ids) == 0 || slices.Contains(o.ids, id))
}

// sum sets the sum of a line, and returns where it is from.
func (l *locking) sum(ctx context.Context, r plan.Release, line *lockfile.Line) (from string, err error) {
	if r.Sums == "" && r.Signature == "" && l.options.requireSums {
		return "", usage("set prebuilt.sums or prebuilt.verify, or omit --require-sums", "no list has the sum of %s", r.URL)
	}
	if r.Sums == "" {
		if line.SHA256, err = l.files.First(ctx, r.URL); err != nil || r.Signature == "" {
			return "(first use)", err
		}
		return "(signed)", l.verify(ctx, r, filepath.Join(l.files.Dir, line.SHA256))
	}
	list, ok := l.sums[r.Sums]
	if !ok {
		if list, err = l.files.Text(ctx, r.Sums); err != nil {
			return "", err
		}
		if r.Signature != "" {
			file := filepath.Join(l.files.Dir, "sums")
			if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
				return "", err
			}
			if err := l.verify(ctx, r, file); err != nil {
				return "", err
			}
		}
		l.sums[r.Sums] = list
	}
	name := path.Base(r.URL)
	if line.SHA256, ok = download.Sum(list, name); !ok {
		return "", usage("check prebuilt.sums, and prebuilt.arch for another name of the architecture", "%s has no sha256 of %s", r.Sums, name)
	}
	l.files.Listed(line.SHA256, r.Sums)
	if r.Signature != "" {
		return "(signed sums)", nil
	}
	return "(sums)", nil
}

// verify returns an error unless the file was signed by whom prebuilt.verify names.
func (l *locking) verify(ctx context.Context, r plan.Release, file string) error {
	signature, err := l.files.Text(ctx, r.Signature)
	if err != nil {
		return fmt.Errorf("the signature: %w", err)
	}
	if r.Verify.Minisign != "" {
		err = download.VerifyMinisign(r.Verify.Minisign, file, signature)
	} else {
		err = l.verifyCosign(ctx, r.Verify.Cosign, file, signature)
	}
	if err != nil {
		return fmt.Errorf("the signature %s of %s: %w", r.Signature, cmp.Or(r.Sums, r.URL), err)
	}
	return nil
}

// verifyCosign has cosign check a bundle. A key needs no log: whoever has it can sign.
func (l *locking) verifyCosign(ctx context.Context, by config.Cosign, file, bundle string) error {
	args := []string{"--certificate-identity=" + by.Identity, "--certificate-oidc-issuer=" + by.Issuer}
	if by.Key != "" {
		args = []string{"--key=" + by.Key, "--insecure-ignore-tlog=true"}
	}
	return sign.Cosign{Args: args, Dir: l.workDir}.VerifyBlob(ctx, []byte(bundle), file)
}

// examine checks the programs of the builds with new lines.
func (l *locking) examine(ctx context.Context, lock lockfile.File, changed map[string]bool) error {
	l.planner.Lock = &lock
	var errs []error
	for _, b := range l.builds {
		if id := plan.IDs([]config.Build{b})[0]; changed[id] {
			errs = append(errs, l.planner.Examine(ctx, b))
		}
	}
	return errors.Join(errs...)
}

// update sets the versions of builds to those of the arguments, or to the latest ones, and
// returns the configuration file with them.
func (l *locking) update(ctx context.Context) ([]byte, error) {
	content, err := os.ReadFile(l.config.File)
	if err != nil {
		return nil, err
	}
	builds, ids := l.builds, l.options.ids
	known := plan.IDs(builds)
	wanted := map[string]string{} // versions, "" for the latest one
	for _, text := range ids {
		id, version, given := strings.Cut(text, "=")
		packages := slices.ContainsFunc(l.sets, func(s plan.PackageSet) bool { return s.ID == id })
		if !slices.Contains(known, id) && (!packages || given) {
			return nil, l.unknown(id, packages)
		}
		if given && version == "" {
			return nil, usage("omit the = for the latest release", "%s has no version", text)
		}
		wanted[id] = version
	}
	for i := range builds {
		b := &builds[i]
		version, named := wanted[known[i]]
		if !named && (len(ids) > 0 || b.Prebuilt.Repo == "") {
			if len(ids) == 0 {
				l.log.WarnContext(ctx, known[i]+" has no prebuilt.repo, so no newer release is looked for")
			}
			continue
		}
		if version == "" {
			if version, err = l.latest(ctx, b.Prebuilt); err != nil {
				return nil, fmt.Errorf("%s: %w", known[i], err)
			}
		}
		if version == b.Prebuilt.Version {
			continue
		}
		if content, err = setVersion(content, l.config.VersionLine(*b), b.Prebuilt.Version, version); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", l.config.File, known[i], err)
		}
		b.Prebuilt.Version = version
	}
	return content, nil
}

// unknown returns the error of an id that has no version.
func (l *locking) unknown(id string, packages bool) error {
	if packages {
		return usage("set packages.debian.snapshot in the configuration file, or omit the version", "%s has packages, whose versions are those of the archive", id)
	}
	ids := plan.IDs(l.builds)
	for _, s := range l.sets {
		if s.ID != "" && !slices.Contains(ids, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	return usage("the ids are: "+strings.Join(ids, ", "), "no build with prebuilt.url or packages has the id %s", id)
}

// latest returns the latest release of a repository. The web page of it redirects to the
// release, which needs no token.
func (l *locking) latest(ctx context.Context, of config.Prebuilt) (string, error) {
	if of.Repo == "" {
		return "", usage("set prebuilt.repo, or name the version: ID=VERSION", "the latest release is not known without a repository")
	}
	server, _, found := strings.Cut(of.URL, "/"+of.Repo+"/")
	if !found {
		server = "https://github.com"
	}
	at := server + "/" + of.Repo + "/releases/latest"
	if version, ok := l.releases[at]; ok {
		return version, nil
	}
	to, err := l.files.Redirect(ctx, at)
	if err != nil {
		return "", err
	}
	_, version, found := strings.Cut(to.Path, "/releases/tag/")
	if !found || version == "" {
		return "", usage("name the version: ID=VERSION", "%s has no release: its latest one redirects to %s", of.Repo, to.Redacted())
	}
	l.releases[at] = version
	return version, nil
}

// setVersion returns the content of a configuration file with another version in a line, from
// 1 on.
func setVersion(content []byte, line int, from, to string) ([]byte, error) {
	lines := strings.SplitAfter(string(content), "\n")
	at := regexp.MustCompile(`(\bversion["']?\s*:\s*["']?)` + regexp.QuoteMeta(from) + `(["']?\s*(?:[,}#].*)?\s*)$`)
	if line < 1 || line > len(lines) || from == "" || !at.MatchString(lines[line-1]) {
		return nil, usage("write it as version: v1.2.3 in the build, or change it yourself and run mabuild lock", "cannot change prebuilt.version to %s", to)
	}
	lines[line-1] = at.ReplaceAllString(lines[line-1], "${1}"+strings.ReplaceAll(to, "$", "$$")+"${2}")
	return []byte(strings.Join(lines, "")), nil
}

// downloads returns the client for downloads of this run, which puts files into the work
// directory.
func (a *app) downloads(ctx context.Context) (*download.Client, error) {
	if a.files != nil {
		return a.files, nil
	}
	work, err := a.workDir(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(work, "downloads")
	a.files = &download.Client{
		Dir: dir, Cache: a.recordCache(), UserAgent: "mabuild/" + strings.Trim(versionText(), "()"), Log: a.log,
		Login: a.netrcLogin(ctx),
	}
	return a.files, os.MkdirAll(dir, 0o750)
}
