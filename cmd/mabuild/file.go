package main

import (
	"bytes"
	"io"
	"os"

	"github.com/mabuild/mabuild/internal/outfile"
)

// replaceFile writes a file that a person named. One that says the same already stays:
// where it lies among the sources it is no news to the next build.
func replaceFile(file string, content []byte) error {
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
		if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
			return nil
		}
	}
	return outfile.Write(file, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// writable refuses a file that cannot be written, before there is anything to write.
func writable(flag, file string) error {
	if file == "" {
		return nil
	}
	if err := outfile.Check(file); err != nil {
		return usage("create the directory, and name a file in it", "%s: %s", flag, err)
	}
	return nil
}
