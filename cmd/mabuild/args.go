package main

import "github.com/spf13/cobra"

// What the commands want of their arguments. cobra's own checks word their
// errors for programmers.

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd.CommandPath()+" --help", "%s takes no argument, and %q is one", cmd.CommandPath(), args[0])
	}
	return nil
}

func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(cmd.UseLine(), "%s wants %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage(cmd.UseLine(), "%s wants one %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage(cmd.UseLine(), "%s wants at most one %s", cmd.CommandPath(), what)
		}
		return nil
	}
}
