package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// CheckEntries refuses a list of a manifest, its children or its layers, that is
// longer than any that is made in earnest, before it is parsed: entries of two bytes
// each become a hundred times as much in memory. What is no list passes.
func CheckEntries(list json.RawMessage) error {
	in := json.NewDecoder(bytes.NewReader(list))
	if start, err := in.Token(); err != nil || start != json.Delim('[') {
		return nil // the parser says it better
	}
	var entry json.RawMessage
	for n := 0; in.More(); n++ {
		if n == maxEntries {
			return fmt.Errorf("a list of more than %d entries: %w", maxEntries, ErrMismatch)
		}
		if in.Decode(&entry) != nil {
			return nil // as above
		}
	}
	return nil
}
