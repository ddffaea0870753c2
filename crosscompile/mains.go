package crosscompile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// IsPattern reports whether a package stands for several, as ./cmd/... does.
func IsPattern(pkg string) bool { return strings.Contains(pkg, "...") }

// Mains returns the main packages that a pattern such as ./cmd/... stands for,
// sorted, each fit to be asked for by [Go.Find]: as a directory where the pattern
// is one, else as an import path. A package counts that is a program under any of
// q.Aims. That there is none is a [*PackageError].
func (g *Go) Mains(ctx context.Context, q Query) ([]string, error) {
	if strings.Contains(q.Pattern, "@") {
		return nil, &PackageError{Pattern: q.Pattern, Reason: "is a pattern, and a version goes with one package", Way: "write module/path@version for each program"}
	}
	dir, err := filepath.Abs(q.Dir)
	if err != nil {
		return nil, err
	}
	var mains []string
	for _, aim := range q.aims() {
		all, err := g.listAll(ctx, aim, dir, q.Pattern)
		var ce *CommandError
		if errors.As(err, &ce) && ce.answered() {
			return nil, &PackageError{Pattern: q.Pattern, Reason: withoutDownloads(ce.Error()), Way: "run mabuild in a module"}
		}
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			if p.Name != "main" {
				continue
			}
			name := p.ImportPath
			if isLocal(q.Pattern) {
				if name, err = filepath.Rel(dir, p.Dir); err != nil {
					return nil, err
				}
				name = "./" + filepath.ToSlash(name)
			}
			mains = append(mains, name)
		}
	}
	if len(mains) == 0 {
		return nil, &PackageError{Pattern: q.Pattern, Reason: "there is no main package among these", Way: g.nearby(ctx, q.Dir)}
	}
	slices.Sort(mains)
	return slices.Compact(mains), nil
}

// aims returns q's aims; the zero Aim alone, which is the host, where there are
// none.
func (q Query) aims() []Aim {
	if len(q.Aims) == 0 {
		return []Aim{{}}
	}
	return q.Aims
}

// listAll asks the go command in dir about the packages that pattern stands for,
// of which there is at least one unless the pattern matches none.
func (g *Go) listAll(ctx context.Context, aim Aim, dir, pattern string) ([]listed, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-e", "-find", "-json=ImportPath,Name,Dir,IgnoredGoFiles,Module,Error"}
	if len(aim.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(aim.Tags, ","))
	}
	env := slices.Clone(tc.env)
	if aim.Platform.OS != "" {
		target, err := Env(aim.Platform)
		if err != nil {
			return nil, err
		}
		env = append(env, target...)
	}
	if aim.Cgo {
		env = append(env, "CGO_ENABLED=1")
	}
	out, err := run(ctx, process{bin: tc.bin, dir: dir, env: env, args: append(args, "--", pattern)})
	if err != nil {
		return nil, err
	}
	var all []listed
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := in.Decode(&p); {
		case errors.Is(err, io.EOF) && (len(all) > 0 || IsPattern(pattern)):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}
