package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// CheckEntries refuses a list of a manifest, its children or its layers, with more than
// 10,000 entries ([ErrMismatch]). It must be called before the list is parsed: a small
// document can have millions of entries of two bytes, and each takes a hundred times as
// much memory when it is parsed. It holds one entry at a time. Anything that is not a
// list passes and is left to the parser, whose error says more.
func CheckEntries(list json.RawMessage) error {
	in := json.NewDecoder(bytes.NewReader(list))
	if start, err := in.Token(); err != nil || start != json.Delim('[') {
		return nil // the parser reports it
	}
	var entry json.RawMessage
	for n := 0; in.More(); n++ {
		if n == maxEntries {
			return fmt.Errorf("a list of more than %d entries: %w", maxEntries, ErrMismatch)
		}
		if in.Decode(&entry) != nil {
			return nil // the parser reports it
		}
	}
	return nil
}
