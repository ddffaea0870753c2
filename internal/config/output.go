package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// Validate returns the errors that a file with this text has by itself, as [Load] would
// report them: not those that depend on the tree around it, which are those of trust.
func Validate(file string, text []byte) error {
	_, _, problems := table.Decode(file, text)
	return yamlconf.Join(file, problems)
}

// Schema returns the JSON schema (draft 2020-12) of [FileName], for editors. Load also
// rejects files that the schema accepts, since some checks are beyond a schema: two
// spellings of one platform, for example, or the trust of a key.
func Schema() ([]byte, error) { return table.Schema(FileName, "Configuration of mabuild.") }

// Modeline returns the comment by which an editor finds a schema of docs, with which it
// checks and completes the file.
func Modeline(schema string) string {
	return "# yaml-language-server: $schema=https://raw.githubusercontent.com/mabuild/mabuild/main/docs/" + schema
}

// schemaFile is the file of [Schema] in docs.
const schemaFile = "mabuild.schema.json"

// Init returns the complete initial [FileName]: every key of the top level that such a file
// may set, below its description, as [yamlconf.Table.Initial] writes it.
func Init() []byte {
	return table.Initial(Modeline(schemaFile) + "\n" +
		"# Configuration of mabuild. All keys are optional.\n" +
		"# Flags beat variables (MABUILD_REPO, ...), which beat this file.\n" +
		"# Trust of registries and the location of the cache are set in " + userFileName() + ".")
}

// Starter returns a short [FileName] for programs, of which ID and Main are used. Those with
// cgo are comments, since they need C compilers. The settings that most users change first
// have their defaults. repo has its own comment.
func Starter(repo, comment string, programs []Build) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `%s
# Try it: mabuild push --dry-run
# Every key is explained by: mabuild config init --full (in another directory)
repo: %s # %s
platforms: [linux/amd64, linux/arm64] # more: mabuild platforms
base: static # or scratch, or any image
tags: [latest] # or, from git: ["{{.Version}}"]
# attest: true # SBOM and provenance for each image, signed if CI has an identity
# sign: cosign.key # a key of cosign generate-key-pair; its password is in COSIGN_PASSWORD
builds:
`, Modeline(schemaFile), yamlconf.Quote(repo), comment)
	for _, p := range programs {
		if p.Cgo.Enabled {
			fmt.Fprintf(&b, "  # imports \"C\", and needs C compilers (docs/cgo.md):\n  # - main: %s\n  #   cgo: {static: true}\n", yamlconf.Quote(p.Main))
			continue
		}
		fmt.Fprintf(&b, "  - main: %s\n", yamlconf.Quote(p.Main))
		if p.ID != "" {
			fmt.Fprintf(&b, "    id: %s\n", yamlconf.Quote(p.ID))
		}
	}
	return []byte(b.String())
}

// View returns the merged configuration as YAML, with the origin of each value as a
// comment after it. Keys that are not set and have no default are omitted, as are
// settings that a build takes from the top level. Values that a file of the tree is not
// allowed to set are marked. Loading the result as a file gives the same configuration, except
// for secrets in arguments of cosign, which are left out.
func (c *Config) View() ([]byte, error) {
	shown := *c
	shown.SignArgs = sign.Redact(c.SignArgs)
	return table.View(&shown, c.origins, c.refusal)
}

// refusal returns a text if the value of a key, or an item of it, is refused; otherwise
// "".
func (c *Config) refusal(key string) (text string) {
	for _, p := range c.Refused {
		if below, ok := strings.CutPrefix(p.Key, key); ok && (below == "" || below[0] == '[') {
			text += ", refused: " + strings.TrimPrefix(below+": ", ": ") + yamlconf.Shorten(p.Err.Error())
		}
	}
	return text
}

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
