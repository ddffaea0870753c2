package config

import (
	"strings"

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

// Init returns the initial [FileName]: every key of the top level that such a file may
// set, below its description, as [yamlconf.Table.Initial] writes it.
func Init() []byte {
	return table.Initial("# Configuration of mabuild. All keys are optional.\n" +
		"# Flags beat variables (MABUILD_REPO, ...), which beat this file.\n" +
		"# Trust of registries and the location of the cache are set in " + userFileName() + ".")
}

// View returns the merged configuration as YAML, with the origin of each value as a
// comment after it. Keys that are not set and have no default are omitted, as are
// settings that a build takes from the top level. Values that a file of the tree is not
// allowed to set are marked. Loading the result as a file gives the same configuration.
func (c *Config) View() ([]byte, error) { return table.View(c, c.origins, c.refusal) }

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
