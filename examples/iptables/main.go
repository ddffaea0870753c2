// The program iptables prints the rules of a table, which the program of Debian's package lists.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	table := "filter"
	if len(os.Args) > 1 {
		table = os.Args[1]
	}
	cmd := exec.CommandContext(context.Background(), "/usr/sbin/iptables", "--table", table, "--list-rules")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "iptables:", err)
		os.Exit(1)
	}
}
