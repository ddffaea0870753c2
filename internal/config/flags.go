package config

import (
	"slices"

	"github.com/spf13/pflag"
)

// global are the keys whose flags all commands have: connections to registries, the cache
// and the output for the user. All other flags exist only for commands that build.
var global = []string{
	"cache.dir", "cache.max", "ca_file", "client_cert", "client_key", "insecure_registries", "progress", "timeout", "trust_realms",
}

// BindGlobal adds the flags that all commands have.
func BindGlobal(flags *pflag.FlagSet) {
	table.Bind(flags, func(path string) bool { return slices.Contains(global, path) })
}

// BindBuild adds the flags of commands that build. --platform is an alias of --platforms,
// as docker buildx spells it. Permissions for the file are bound here too, without a key.
func BindBuild(flags *pflag.FlagSet) {
	table.Bind(flags, func(path string) bool { return !slices.Contains(global, path) })
	flags.Bool(allowUnsafe, false, "Allow all compiler flags and variables in the configuration file, which can run programs")
	BindTrust(flags)
}

// Words returns the words that complete the value of a flag, or nil if there are none.
func Words(flag string) []string {
	switch flag {
	case "base":
		return []string{"static", "scratch"}
	case "compression":
		return []string{"gzip", "zstd"}
	}
	for _, f := range table.Leaves() {
		if f.Flag == flag {
			return f.Enum
		}
	}
	return nil
}
