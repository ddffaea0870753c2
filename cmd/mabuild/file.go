package main

import (
	"bytes"
	"io"
	"os"

	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/internal/publish"
)

// replaceFile writes a file that the user names, completely or not at all. A file that
// already has the content is not touched: if it is in the source tree, a new modification
// time would make the next build treat it as changed.
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

// replaceWith writes a file with what of returns for the results.
func replaceWith(file string, of func([]*publish.Result) ([]byte, error), done []*publish.Result) error {
	content, err := of(done)
	if err != nil {
		return err
	}
	return replaceFile(file, content)
}

// writable returns an error if file cannot be written, so that it is reported before a
// long build instead of after it. flag is named in the error; an empty file is accepted.
func writable(flag, file string) error {
	if file == "" {
		return nil
	}
	if err := outfile.Check(file); err != nil {
		return usage("create the directory, and name a file in it", "%s: %s", flag, err)
	}
	return nil
}
