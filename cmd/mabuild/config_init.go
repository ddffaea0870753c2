package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
)

// newConfigInit returns config init.
func newConfigInit(a *app) *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "init [mirror]",
		Short: "Write a .mabuild.yaml or mirror.yaml to the working directory",
		Long: `Find the main packages below the working directory, and write a short
.mabuild.yaml that builds them. "mabuild push --dry-run" works with it at once.
repo is MABUILD_REPO or KO_DOCKER_REPO if one is set, ghcr.io/OWNER or
ghcr.io/OWNER/REPO for a module of github.com/OWNER/REPO, and otherwise the
default address of "mabuild registry serve".
With --full, or mirror, write a file that explains every key instead. An existing
file is never overwritten.`,
		Example: `  mabuild config init
  mabuild config init --full
  mabuild config init mirror`,
	}
	ofFile(cmd, func(file configFile) error {
		if _, err := os.Lstat(file.name); err == nil {
			return exists(file.name)
		}
		if full || file.name != config.FileName {
			return a.writeInitial(file.name, file.full(), "")
		}
		if err := a.startWith(cmd, config.NoFile); err != nil {
			return err
		}
		mains, names, module, err := findPrograms(cmd.Context(), &crosscompile.Go{Log: a.log})
		if err != nil {
			a.close()
			return err
		}
		builds := append(withIDs(mains, names), cgoPrograms(cmd.Context(), mains)...)
		a.close()
		repo, comment := destination(module, names)
		note := fmt.Sprintf(" with %d programs", len(mains))
		if len(mains) == 1 {
			note = " with one program"
		}
		return a.writeInitial(file.name, config.Starter(repo, comment, builds), note+"; try mabuild push --dry-run")
	})
	cmd.Flags().BoolVar(&full, "full", false, "Write every key with its description; mirror.yaml always has them")
	return cmd
}

// exists is the error for a file that config init would overwrite.
func exists(file string) error { return usage("remove it first", "%s already exists", file) }

// writeInitial writes a new file. O_EXCL keeps it from overwriting one that appears at the
// same time.
func (a *app) writeInitial(file string, text []byte, note string) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return exists(file)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stderr, "wrote %s%s\n", file, note)
	return err
}

// allPrograms matches the programs that config init finds.
const allPrograms = "./..."

// findPrograms returns the main packages below the working directory, the names of their
// programs, and the module of the first one. None is an error, since a file without programs could not be used.
func findPrograms(ctx context.Context, g *crosscompile.Go) (mains, names []string, module string, err error) {
	aims := []crosscompile.Aim{{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}, {Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}}}
	mains, err = g.Mains(ctx, crosscompile.Query{Pattern: allPrograms, Aims: aims})
	if pe := (*crosscompile.PackageError)(nil); errors.As(err, &pe) && !pe.Unreachable {
		return nil, nil, "", &hint.Error{
			Kind: hint.Usage, Err: fmt.Errorf("%s was not written: %w", config.FileName, err),
			Hint: strings.TrimPrefix(hint.Of(err)+"; ", "; ") + "mabuild config init --full writes a file without looking for programs",
		}
	}
	if err != nil {
		return nil, nil, "", err
	}
	for i, main := range mains {
		if path.Clean(main) == "." {
			mains[i] = "."
		}
		found, err := g.Find(ctx, crosscompile.Query{Pattern: main, Aims: aims})
		if err != nil {
			return nil, nil, "", err
		}
		names, module = append(names, found.Name), cmp.Or(module, found.Module)
	}
	return mains, names, module, nil
}

// cgoPrograms returns a build for each program that exists only with cgo. mains are all
// others. An error means that there are none: findPrograms has reported it.
func cgoPrograms(ctx context.Context, mains []string) (builds []config.Build) {
	aims := []crosscompile.Aim{{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Cgo: true}}
	found, err := new(crosscompile.Go).Mains(ctx, crosscompile.Query{Pattern: allPrograms, Aims: aims, Known: mains})
	if err != nil {
		return nil
	}
	for _, main := range found {
		one := config.Build{Main: main}
		one.Cgo.Enabled = true
		builds = append(builds, one)
	}
	return builds
}

// withIDs returns a build for each program. A program has an id if its name is not a valid
// name of an image, or if another program has the same name. The id then has the
// directories, too.
func withIDs(mains, names []string) []config.Build {
	builds := make([]config.Build, len(mains))
	count := map[string]int{}
	for _, name := range names {
		count[imageName(name)]++
	}
	for i, main := range mains {
		builds[i].Main = main
		id := imageName(names[i])
		if longer := imageName(strings.ReplaceAll(path.Clean(main), "/", "-")); count[id] > 1 && longer != "" {
			for id = longer; count[id] > 0; {
				id += "-2"
			}
			count[id]++
		}
		if id != names[i] {
			builds[i].ID = id
		}
	}
	return builds
}

// notInNames matches what the last element of a repository's name must not contain.
var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// imageName returns a name as the name of an image: in lower case, and with a dash in place
// of other characters than letters and digits, unless they may separate them.
func imageName(name string) string {
	name = notInNames.ReplaceAllStringFunc(strings.ToLower(name), func(s string) string {
		if slices.Contains([]string{".", "_", "__"}, s) || strings.Trim(s, "-") == "" {
			return s
		}
		return "-"
	})
	return strings.Trim(name, "._-")
}

// destination returns the repo of a new file for programs with these names, and a comment
// for it.
func destination(module string, names []string) (repo, comment string) {
	for _, name := range []string{"MABUILD_REPO", "KO_DOCKER_REPO"} {
		if repo := os.Getenv(name); repo != "" && repo != "ko.local" && repo != "kind.local" {
			return repo, "from " + name
		}
	}
	parts := strings.Split(strings.ToLower(module), "/")
	if len(parts) < 3 || parts[0] != "github.com" {
		return "127.0.0.1:5000", "your registry; mabuild registry serve has this address"
	}
	repo = "ghcr.io/" + parts[1]
	// An image with the name of the repository needs no directory.
	if len(names) > 1 || imageName(names[0]) != parts[2] {
		repo += "/" + parts[2]
	}
	return repo, "each image is repo/PROGRAM"
}
