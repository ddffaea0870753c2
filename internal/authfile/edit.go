package authfile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/mabuild/mabuild/internal/outfile"
)

// An object is a JSON object that keeps the order of its keys and the bytes of its
// values. A map would sort the keys, and a struct would lose those that it does not
// declare. A user edits these files by hand, so a change must stay small.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

// parseObject reads a JSON object. Empty input and null are an empty object. Anything
// after the object is an error, since saving would drop it.
func parseObject(raw []byte) (object, error) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.Join(errors.New("is not a JSON object"), err)
	}
	var o object
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{key: key.(string)} // within an object the decoder returns keys as strings
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		o = append(o, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("contains more than one JSON object")
	}
	return o, nil
}

// get returns the value of a key, or nil. Of several equal keys the last counts, as in
// encoding/json.
func (o object) get(key string) json.RawMessage {
	for _, m := range slices.Backward(o) {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// set replaces the value of a key at its position, or appends the key.
func (o *object) set(key string, value json.RawMessage) {
	for i, m := range slices.Backward(*o) {
		if m.key == key {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{key, value})
}

// remove deletes all members with one of the keys.
func (o *object) remove(keys ...string) {
	*o = slices.DeleteFunc(*o, func(m member) bool { return slices.Contains(keys, m.key) })
}

// MarshalJSON writes the members in their order. Keys are not escaped for HTML, so that
// an untouched key is written as it was read.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		var key bytes.Buffer
		e := json.NewEncoder(&key)
		e.SetEscapeHTML(false)
		if err := e.Encode(m.key); err != nil {
			return nil, err
		}
		b.Write(bytes.TrimSpace(key.Bytes()))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Set stores a user and a password for a host or host/namespace in the file and saves it.
// Without both the entry is empty, which is how Docker marks credentials that a helper
// has. Entries with another spelling of the name are removed, unless the usual key
// exists: they could hold older credentials. The password is in base64, not encrypted.
func (f *File) Set(name, user, password string) error {
	entry := struct {
		Auth string `json:"auth,omitempty"`
	}{}
	if user != "" || password != "" {
		entry.Auth = base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	key := f.Key(name)
	if keys := f.keys(name); len(keys) > 0 && !slices.Contains(keys, key) {
		f.auths.remove(keys...)
	}
	f.auths.set(key, raw)
	return f.save()
}

// Remove deletes all entries for a host or host/namespace and saves the file. It reports
// whether there was one; without one the file is not written.
func (f *File) Remove(name string) (bool, error) {
	keys := f.keys(name)
	if len(keys) == 0 {
		return false, nil
	}
	f.auths.remove(keys...)
	return true, f.save()
}

// save writes the file, completely or not at all, with its mode, order of keys,
// indentation and final newline. A new file and its directory are readable by the user
// only. An error is a [*FileError], except for values that cannot be encoded.
func (f *File) save() error {
	auths, err := json.Marshal(f.auths)
	if err != nil {
		return err
	}
	if f.top.get("auths") == nil {
		f.top = slices.Insert(f.top, 0, member{"auths", auths})
	}
	f.top.set("auths", auths)
	flat, err := f.top.MarshalJSON()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if indent, lines := f.indent(); !lines {
		err = json.Compact(&b, flat)
	} else if err = json.Indent(&b, flat, "", indent); err == nil && (len(f.raw) == 0 || bytes.HasSuffix(f.raw, []byte("\n"))) {
		b.WriteByte('\n')
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return unwritable(f.Path, cause(err))
	}
	err = outfile.WriteSecret(f.Path, func(w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
	if err != nil {
		return unwritable(f.Path, cause(err))
	}
	f.raw = b.Bytes()
	return nil
}

// indent returns the indentation of the first key and whether the file has more than one
// line. A new file is indented with a tab, as Docker does.
func (f *File) indent() (indent string, lines bool) {
	raw := bytes.TrimSpace(f.raw)
	if len(raw) == 0 {
		return "\t", true
	}
	_, rest, lines := bytes.Cut(raw, []byte("\n"))
	rest = bytes.TrimLeft(rest, "\r\n")
	if indent = string(rest[:len(rest)-len(bytes.TrimLeft(rest, " \t"))]); indent == "" {
		indent = "\t"
	}
	return indent, lines
}
