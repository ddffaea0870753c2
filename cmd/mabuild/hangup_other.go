//go:build !unix

package main

import "os"

// notifyHangup does nothing: this system has no SIGHUP.
func notifyHangup(chan<- os.Signal) {}
