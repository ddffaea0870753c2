package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/yamlconf"
)

// prefix begins the names of all variables that mabuild reads for itself.
const prefix = "MABUILD_"

// switches are the flags without a key that a variable can also set: --dry-run by
// MABUILD_DRY_RUN.
var switches = []string{
	"as-main", "config", "debug", "disable-optimizations", "dry-run", "image-refs", "no-cache-repo", "quota-reserve", "report", "require-cache", "summary", "tag-only", "verbose", "verify",
}

// Switch sets those flags that have no key and were not given, if their variable is set.
// An empty variable counts as not set. Flags that the command does not have are skipped,
// since the environment is shared by all commands. The error joins a [*yamlconf.Problem] for each
// invalid value.
func Switch(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	for _, name := range switches {
		f := flags.Lookup(name)
		text, ok := lookup(variable(name))
		if f == nil || f.Name != name || f.Changed || !ok || text == "" {
			continue
		}
		if err := set(flags, f, text); err != nil {
			errs = append(errs, &yamlconf.Problem{Origin: yamlconf.Origin{Kind: yamlconf.FromEnv, Name: variable(name)}, Err: err})
		}
	}
	return errors.Join(errs...)
}

// set gives a flag the text of a variable. A counting flag such as -v also accepts true,
// which counts once, and false. Its count is at most 255.
func set(flags *pflag.FlagSet, f *pflag.Flag, text string) error {
	wants, value := "", text
	switch f.Value.Type() {
	case "bool":
		wants = "true or false"
	case "int":
		wants = "a number"
	case "count":
		wants = "true, false or a number, 0 or more"
		if on, err := strconv.ParseBool(text); err == nil {
			value = map[bool]string{false: "0", true: "1"}[on]
		} else if _, err := strconv.ParseUint(text, 10, 8); err != nil {
			value = "" // not a number; flags.Set rejects ""
		}
	}
	err := flags.Set(f.Name, value)
	switch why := errors.Unwrap(err); {
	case err == nil:
		return nil
	case wants != "":
		return fmt.Errorf("%q must be %s", yamlconf.Shorten(text), wants)
	case why != nil:
		return fmt.Errorf("%q: %w", yamlconf.Shorten(text), why)
	}
	return err
}

// variable returns the name of the variable for a flag.
func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// people returns a lookup without the variable that Kubernetes sets for a service named
// mabuild: MABUILD_PORT=tcp://10.0.0.1:80.
func people(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := lookup(name)
		return value, ok && (name != "MABUILD_PORT" || !strings.Contains(value, "://"))
	}
}

// misspelt returns a warning for each variable whose name is close to a known one, or is that
// of a flag without a variable. Variables that Kubernetes sets for a service named mabuild (MABUILD_SERVICE_HOST,
// MABUILD_PORT_…) are skipped. Values are not printed, since they may be secrets.
func misspelt(o Options) []error {
	if o.Environ == nil {
		return nil
	}
	known := settingVariables()
	var list []error
	for _, one := range slices.Sorted(slices.Values(o.Environ())) {
		name, value, _ := strings.Cut(one, "=")
		if !strings.HasPrefix(name, prefix) || value == "" || slices.Contains(known, name) ||
			strings.Contains(name, "_SERVICE_") || strings.Contains(name, "_PORT_") || strings.HasSuffix(name, "_PORT") {
			continue
		}
		if meant := nearVariable(name, known); meant != "" {
			list = append(list, fmt.Errorf("env %s is unknown and ignored; did you mean %s?", yamlconf.Shorten(name), meant))
		} else if flag := flagOf(name, o.Flags); flag != "" {
			list = append(list, fmt.Errorf("env %s is ignored; use --%s", name, flag))
		}
	}
	return list
}

// settingVariables returns the names of all variables that mabuild reads for itself. A
// mirror's file may not send these to registries.
func settingVariables() []string {
	known := []string{allowUnsafeEnv, allowPathEnv, prefix + "CACHE_KEY"}
	for _, name := range switches {
		known = append(known, variable(name))
	}
	return append(known, table.Variables()...)
}

// flagOf returns the flag that would have this variable; "" if there is none.
func flagOf(variable string, flags *pflag.FlagSet) string {
	if flags == nil {
		return ""
	}
	name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, prefix)), "_", "-")
	if flags.Lookup(name) == nil {
		return ""
	}
	return name
}

// nearVariable returns the known variable nearest to name, or "" if none is near: the letters
// that differ are fewer than half of the name after the prefix, or it is the beginning of
// name, as in MABUILD_REPOSITORY.
func nearVariable(name string, known []string) string {
	const most = 2 // letters
	best, least := "", most+1
	for _, k := range known {
		if d := yamlconf.Distance(name, k); d < least && 2*d < len(k)-len(prefix) {
			best, least = k, d
		}
	}
	for _, k := range known {
		if rest, ok := strings.CutPrefix(name, k); ok && best == "" && !strings.Contains(rest, "_") {
			best = k
		}
	}
	return best
}
