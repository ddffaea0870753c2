package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/koimport"
	"github.com/mabuild/mabuild/internal/mirrorfile"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// newConfig returns the group of commands about configuration files.
func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Create, show or import a configuration file",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigInit(a), newConfigView(a), newConfigSchema(a), newConfigImport(a))
	return cmd
}

// A configFile is one of the two kinds of configuration files.
type configFile struct {
	name   string        // of the file in the working directory
	full   func() []byte // with every key
	schema func() ([]byte, error)
}

// configFiles has them by the argument that selects them.
var configFiles = map[string]configFile{
	"":       {config.FileName, config.Init, config.Schema},
	"mirror": {mirrorfile.FileName, mirrorfile.Init, mirrorfile.Schema},
}

// ofFile sets Args and RunE of cmd, so that it calls do with the file that the argument
// selects.
func ofFile(cmd *cobra.Command, do func(configFile) error) *cobra.Command {
	cmd.ValidArgs = []string{"mirror"}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 || len(args) == 1 && args[0] != "mirror" {
			return usage("the only argument is mirror", "unknown file %q", args[len(args)-1])
		}
		return nil
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error { return do(configFiles[strings.Join(args, "")]) }
	return cmd
}

// newConfigView returns config view. It starts without the file, because the file is only
// shown: its settings must not apply to this command, and an invalid one must not prevent
// the start.
func newConfigView(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "view",
		Short: "Show the merged configuration and the origin of each value",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.startWith(cmd, config.NoFile); err != nil {
				return err
			}
			c, err := config.Load(config.Options{File: a.file, Flags: cmd.Flags(), View: true})
			if err != nil {
				return invalid(err)
			}
			b, err := c.View()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(b)
			return err
		},
	}
	config.BindBuild(cmd.Flags())
	return cmd
}

// newConfigSchema returns config schema.
func newConfigSchema(a *app) *cobra.Command {
	return ofFile(&cobra.Command{
		Use:   "schema [mirror]",
		Short: "Print the JSON schema of .mabuild.yaml or mirror.yaml",
	}, func(file configFile) error {
		b, err := file.schema()
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(b)
		return err
	})
}

// newConfigImport returns config import.
func newConfigImport(a *app) *cobra.Command {
	var out string
	var strict bool
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Convert ko's .ko.yaml to .mabuild.yaml",
		Long: `Print a .mabuild.yaml that builds the same programs as FILE, by default .ko.yaml in
the working directory, which is what ko reads. A setting without a
counterpart becomes a comment, and a warning gives its line. A program with a
directory kodata gets it as files.`,
		Example: `  mabuild config import .ko.yaml -o .mabuild.yaml`,
		Args:    atMostOne(".ko.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			file := ".ko.yaml"
			if len(args) > 0 {
				file = args[0]
			}
			return runConfigImport(cmd.Context(), a, file, out, strict)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "Write to `FILE`, which must not exist, instead of stdout")
	cmd.Flags().BoolVar(&strict, "strict", false, "Fail, and write nothing, if a setting has no counterpart")
	return cmd
}

// runConfigImport converts ko's file and writes the result to stdout or to out, which
// must not exist. What has no counterpart is a warning, or an error if strict is set.
func runConfigImport(ctx context.Context, a *app, file, out string, strict bool) (err error) {
	data, err := config.ReadFile(file, yamlconf.MaxFile, config.Trust{})
	if errors.Is(err, fs.ErrNotExist) {
		return usage("name ko's configuration file, usually .ko.yaml", "%s does not exist", file)
	}
	if err != nil {
		return err
	}
	result, err := koimport.Convert(file, filepath.Dir(file), data)
	if err != nil {
		return invalid(err)
	}
	if strict && len(result.Dropped) > 0 {
		return invalid(errors.Join(result.Dropped...))
	}
	for _, dropped := range result.Dropped {
		a.log.WarnContext(ctx, dropped.Error())
	}
	if len(result.Variables) > 0 {
		a.log.WarnContext(ctx, "templates read variables: mabuild push and build need --allow-env "+strings.Join(result.Variables, ","))
	}
	if out == "" {
		_, err = a.stdout.Write(result.Text)
		return err
	}
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usage("remove it first", "%s already exists", out)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(result.Text)
	return err
}
