package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The bounds of control files.
const (
	maxField   = 1 << 20 // bytes of a field
	maxVersion = 256     // bytes of a version
)

// paragraphs calls each with the values of some fields of every paragraph of a control file
// (deb822(5)), "" for a field that is missing. The keys are in lower case. A value of several
// lines has them separated by line feeds. It needs memory for one paragraph; the slice is
// valid until each returns. A paragraph without any field is left out.
func paragraphs(r io.Reader, keys []string, each func(values []string) error) error {
	values := make([]string, len(keys))
	current := -1 // the field that a continuation belongs to
	some := false
	end := func() error {
		if !some {
			return nil
		}
		some, current = false, -1
		err := each(values)
		clear(values)
		return err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), maxField)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimRight(lines.Bytes(), " \t\r")
		switch {
		case len(line) == 0:
			if err := end(); err != nil {
				return err
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if !some {
				return fmt.Errorf("line %d continues nothing", number)
			}
			if current < 0 {
				continue
			}
			if len(values[current])+len(line) > maxField {
				return fmt.Errorf("line %d: a field of more than %d bytes", number, maxField)
			}
			values[current] += "\n" + string(line[1:])
		default:
			key, value, found := bytes.Cut(line, []byte(":"))
			if !found || bytes.ContainsAny(key, " \t") || len(key) == 0 {
				return fmt.Errorf("line %d: %.100q is not a field", number, line)
			}
			some = true
			if current = indexFold(keys, key); current < 0 {
				continue
			}
			if values[current] != "" {
				return fmt.Errorf("line %d: the field %s is there twice", number, key)
			}
			values[current] = string(bytes.TrimSpace(value))
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line of more than %d bytes", maxField)
		}
		return err
	}
	return end()
}

// indexFold returns the index of a key, whatever its case.
func indexFold(keys []string, key []byte) int {
	return slices.IndexFunc(keys, func(k string) bool { return len(k) == len(key) && strings.EqualFold(k, string(key)) })
}

// field returns the value of one field of the first paragraph.
func field(text, key string) string {
	found := ""
	_ = paragraphs(strings.NewReader(text), []string{key}, func(values []string) error { // what cannot be read is not there
		found = values[0]
		return io.EOF
	})
	return found
}
