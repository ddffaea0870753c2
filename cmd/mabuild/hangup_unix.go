//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup relays SIGHUP to c, with which mirror --watch reads its file again.
func notifyHangup(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }
