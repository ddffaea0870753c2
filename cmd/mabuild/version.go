package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is the version of a release, set with -ldflags "-X main.version=…".
var version = ""

// versionText returns the version of a release, otherwise the module version that the go
// command recorded, otherwise "(devel)".
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// versionLine returns the line that version and --version print.
func versionLine() string {
	return fmt.Sprintf("mabuild %s (%s, %s/%s)", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// newVersion returns the command version.
func newVersion(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if !asJSON {
				_, err := fmt.Fprintln(a.stdout, versionLine())
				return err
			}
			// In JSON the version has no parentheses, even if it is (devel).
			return writeJSON(a.stdout, struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{strings.Trim(versionText(), "()"), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
		},
	}
	bindJSON(cmd.Flags(), &asJSON, "Print a JSON object with version, go and platform")
	return cmd
}
