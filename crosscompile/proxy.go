package crosscompile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// unreachable returns the error for modules that could not be fetched. Its hint has the
// module proxies without their credentials.
func (tc *toolchain) unreachable(pattern, reason string) error {
	way := "check that the module proxies can be reached; GOPROXY is empty"
	if proxies := tc.lookup("GOPROXY"); proxies != "" {
		way = "check that the module proxies can be reached: GOPROXY=" + withoutUsers(proxies)
	}
	return &PackageError{Pattern: pattern, Reason: reason, Way: way, Unreachable: true}
}

// withoutUsers removes user names and passwords from the URLs of a GOPROXY list.
func withoutUsers(list string) string {
	for _, one := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		scheme, rest, isURL := strings.Cut(one, "://")
		host, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); isURL && at >= 0 {
			list = strings.ReplaceAll(list, one, strings.TrimSuffix(scheme+"://"+host[at+1:]+"/"+path, "/"))
		}
	}
	return list
}

// lookup returns the value of a setting that the go command gets.
func (tc *toolchain) lookup(name string) string {
	for _, kv := range tc.env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// unknown reports whether the module proxies have answered that they do not have the
// module or its version. Then it does not exist; any other failure says nothing.
//
// Behind a comma in GOPROXY, the go command tries the next proxy only if one answers 404
// or 410 (go.dev/ref/mod, GOPROXY protocol). So a local proxy that has the module, in
// files, is put after the user's proxies. If the go command finds the module there, the
// others do not have it. A module that is not fetched from proxies (GOPRIVATE, direct)
// counts as unknown.
func (s scratch) unknown(ctx context.Context, tc *toolchain) (bool, error) {
	proxies := tc.lookup("GOPROXY")
	for _, end := range []string{"direct", "off"} { // proxies after these are not used
		if i := strings.Index(proxies, end); i >= 0 && (i == 0 || proxies[i-1] == ',' || proxies[i-1] == '|') {
			proxies = proxies[:i]
		}
	}
	proxies = strings.TrimRight(proxies, ",|")
	private := tc.lookup("GONOPROXY")
	if private == "" {
		private = tc.lookup("GOPRIVATE")
	}
	if proxies == "" || module.MatchPrefixPatterns(private, s.pkg) {
		return true, nil
	}
	dir, err := os.MkdirTemp(string(s.scratchDir), "proxy-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in a directory that is removed itself
	if err := s.pretend(dir); err != nil {
		return false, err
	}
	// An empty module cache is used, since a cached module would hide the answers of the
	// proxies. The checksum database does not know the module of the local proxy, so it
	// is off; nothing of this run is compiled.
	tc = tc.with("GOPROXY="+proxies+",file://"+filepath.ToSlash(dir), "GOMODCACHE="+filepath.Join(dir, "cache"),
		"GOFLAGS=-mod=mod -modcacherw", "GOSUMDB=off", "GOWORK=off")
	_, err = tc.run(ctx, s.src(), "list", "-m", "--", s.pkg+"@"+s.version)
	if errors.As(err, new(*CommandError)) {
		return false, nil
	}
	return true, err
}

// pretend makes dir a module proxy in files that has only the module s.pkg
// (go.dev/ref/mod, GOPROXY protocol).
func (s scratch) pretend(dir string) error {
	path, err := module.EscapePath(s.pkg)
	if err != nil {
		return err
	}
	version := semver.Canonical(s.version)
	if version == "" { // latest, a branch or a commit
		// The version must match the major version in the path of the module.
		_, major, _ := module.SplitPathVersion(s.pkg)
		if version = module.PathMajorPrefix(major) + ".0.0"; major == "" {
			version = "v1.0.0"
		}
	}
	at := filepath.Join(dir, filepath.FromSlash(path), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q}`, version)
	for name, text := range map[string]string{
		"list": version + "\n", version + ".info": info, version + ".mod": "module " + s.pkg + "\n", s.version + ".info": info,
	} {
		escaped, err := module.EscapeVersion(name)
		if err != nil || strings.ContainsAny(name, `/\`) {
			continue // a branch with a slash is found by the list
		}
		if err := os.WriteFile(filepath.Join(at, escaped), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
