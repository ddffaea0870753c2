package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write, show or describe .mabuild.yaml",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigInit(a), newConfigView(a), newConfigSchema(a))
	return cmd
}

func newConfigInit(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a commented .mabuild.yaml into the working directory",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) (err error) {
			f, err := os.OpenFile(config.FileName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return usage("remove it first", "%s exists", config.FileName)
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			if _, err := f.Write(config.Init()); err != nil {
				return err
			}
			_, err = a.stderr.Write([]byte("wrote " + config.FileName + "\n"))
			return err
		},
	}
}

func newConfigView(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "view",
		Short: "Show the merged configuration, and where each value came from",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			b, err := a.config.View()
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

func newConfigSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of .mabuild.yaml",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(b)
			return err
		},
	}
}
