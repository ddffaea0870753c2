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

// A ModuleError says that modules could not be had: a module proxy, or a
// repository, did not answer, or not as one does. What it is about may well exist.
type ModuleError struct {
	Pattern string // what was asked for
	Reason  string // the go command's words
	Way     string
}

func (e *ModuleError) Error() string { return fmt.Sprintf("modules of %s: %s", e.Pattern, e.Reason) }

// Hint returns the way out.
func (e *ModuleError) Hint() string { return e.Way }

// unreachable words a failure to fetch modules in what tc asks.
func (tc *toolchain) unreachable(pattern, reason string) error {
	way := "check that the module proxies can be reached; GOPROXY is empty"
	if proxies := tc.lookup("GOPROXY"); proxies != "" {
		way = "check that the module proxies can be reached: GOPROXY=" + withoutUsers(proxies)
	}
	return &ModuleError{Pattern: pattern, Reason: reason, Way: way}
}

// withoutUsers leaves out of a list of URLs who logs in there.
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

// lookup returns what the go command is given for a setting.
func (tc *toolchain) lookup(name string) string {
	for _, kv := range tc.env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// unknown reports whether the module proxies know no such module, or no such
// version of it: whether they were asked and said so, where a failure says nothing.
// The go command asks the next proxy of GOPROXY where one answers that it has not
// got something, and on no other error. So behind the person's proxies is put one
// that has it, in files: what comes from there the others do not have. What is not
// asked of a proxy counts as unknown.
func (s scratch) unknown(ctx context.Context, tc *toolchain) (bool, error) {
	proxies := tc.lookup("GOPROXY")
	for _, end := range []string{"direct", "off"} { // nothing behind them is asked
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
	env := append(append([]string{}, tc.env...), "GOPROXY="+proxies+",file://"+filepath.ToSlash(dir),
		"GOMODCACHE="+filepath.Join(dir, "cache"), "GOFLAGS=-mod=mod -modcacherw", "GOSUMDB=off", "GOWORK=off")
	_, err = runGo(ctx, process{bin: tc.bin, dir: s.src(), env: env, args: []string{"list", "-m", "--", s.pkg + "@" + s.version}})
	if errors.As(err, new(*CommandError)) {
		return false, nil
	}
	return true, err
}

// pretend makes dir a proxy of one module: the one that is asked for.
func (s scratch) pretend(dir string) error {
	path, err := module.EscapePath(s.pkg)
	if err != nil {
		return err
	}
	version := semver.Canonical(s.version)
	if version == "" { // latest, a branch, a commit
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
			continue // of a branch with a slash: it is looked for in the list
		}
		if err := os.WriteFile(filepath.Join(at, escaped), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
