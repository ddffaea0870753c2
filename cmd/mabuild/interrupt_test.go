package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// deaf is a program that lives as mabuild does, until a signal ends it, and does
// not heed the end of its context: deaf GRACE. It writes its number to the file
// pid, and told once its context has ended.
func deaf() {
	grace, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	ctx, stop := interruptible(context.Background(), os.Stderr, grace)
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
