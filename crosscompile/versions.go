package crosscompile

import (
	"context"
	"encoding/json"
	"errors"
	"path"

	"golang.org/x/mod/module"
)

// Versions lists the versions of the module that contains package pkg, in the order of
// semantic versioning, as `go list -m -versions` in dir prints them. latest is the
// version for @latest: the highest release if there is one, else the highest pre-release,
// else the latest commit. Retracted versions are left out. An unknown module is a
// [*PackageError].
func (g *Go) Versions(ctx context.Context, dir, pkg string) (latest string, all []string, err error) {
	if err := module.CheckImportPath(pkg); err != nil {
		return "", nil, &PackageError{Pattern: pkg, Reason: "is not an import path", Way: "write module/path@latest, for example github.com/prometheus/node_exporter@latest"}
	}
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	tc = tc.with("GOWORK=off", "GOFLAGS=-mod=mod")
	var first error
	for prefix := pkg; prefix != "." && prefix != "/"; prefix = path.Dir(prefix) {
		out, err := tc.run(ctx, dir, "list", "-m", "-versions", "-json", "--", prefix+"@latest")
		if ctx.Err() != nil {
			return "", nil, context.Cause(ctx)
		}
		var m struct {
			Version  string
			Versions []string
		}
		if err != nil || json.Unmarshal(out, &m) != nil {
			first = errors.Join(first, err)
			continue
		}
		if len(m.Versions) == 0 {
			m.Versions = []string{m.Version}
		}
		return m.Version, m.Versions, nil
	}
	reason := "does not belong to a module"
	if ce := (*CommandError)(nil); errors.As(first, &ce) {
		reason = withoutDownloads(ce.Error())
	}
	return "", nil, &PackageError{Pattern: pkg, Reason: reason, Way: "check the path, and that the module proxy can be reached"}
}
