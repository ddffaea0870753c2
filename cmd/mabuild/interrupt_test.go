package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// deaf is a program with the signal handling of mabuild that ignores the end of its
// context: deaf GRACE. It writes its process ID to the file pid, and the file told once its
// context has ended.
func deaf() {
	grace, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	ctx, stop := interruptible(context.Background(), os.Stderr, grace, func() {})
	defer stop()
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	write("pid", fmt.Sprint(os.Getpid()))
	<-ctx.Done()
	write("told", "")
	select {}
}
