package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

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

// knownCommand refuses what is no command, and names those that sound alike.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	way := "mabuild --help lists the commands"
	if alike := cmd.SuggestionsFor(args[0]); len(alike) > 0 {
		way = "did you mean " + strings.Join(alike, " or ") + "?"
	}
	return usage(way, "there is no command %q", args[0])
}

// exclusive refuses more than one flag of each group.
func exclusive(cmd *cobra.Command, groups ...[]string) error {
	var errs []error
	for _, group := range groups {
		var given []string
		for _, name := range group {
			if cmd.Flags().Changed(name) {
				given = append(given, "--"+name)
			}
		}
		if len(given) > 1 {
			errs = append(errs, usage("give one of them", "%s exclude each other", strings.Join(given, " and ")))
		}
	}
	return errors.Join(errs...)
}
