// Web serves the files in its image.
//
//	web             serves DIR (/srv/web) at :8080
//	web -health     exits with 0 if the server answers: the health check of the image
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	dir := flag.String("dir", "/srv/web", "what is served")
	address := flag.String("address", ":8080", "where")
	health := flag.Bool("health", false, "ask for the first page, and end")
	flag.Parse()
	if err := run(*dir, *address, *health); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(dir, address string, health bool) error {
	if !health {
		server := http.Server{Addr: address, Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 5 * time.Second}
		return server.ListenAndServe()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+address[strings.LastIndex(address, ":"):]+"/", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(question)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}
