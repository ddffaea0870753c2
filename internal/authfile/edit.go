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

// An object is a JSON object with its keys in their order and its values as they are.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

// parseObject reads an object; nothing and null are empty ones.
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
		m := member{key: key.(string)} // of an object
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

// get returns the value of a key, the last if there are several, as encoding/json does.
func (o object) get(key string) json.RawMessage {
	for _, m := range slices.Backward(o) {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// set changes the value of a key where it stands, or adds it.
func (o *object) set(key string, value json.RawMessage) {
	for i, m := range slices.Backward(*o) {
		if m.key == key {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{key, value})
}

func (o *object) remove(keys ...string) {
	*o = slices.DeleteFunc(*o, func(m member) bool { return slices.Contains(keys, m.key) })
}

// MarshalJSON writes the keys in their order.
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

// Set makes the file have a user and a password for a host or host/namespace; without
// both the entry says that a helper has them, as Docker writes it.
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
		f.auths.remove(keys...) // other spellings of it
	}
	f.auths.set(key, raw)
	return f.save()
}

// Remove makes the file have nothing for a host or host/namespace. It reports whether
// there was an entry.
func (f *File) Remove(name string) (bool, error) {
	keys := f.keys(name)
	if len(keys) == 0 {
		return false, nil
	}
	f.auths.remove(keys...)
	return true, f.save()
}

// save writes the file: whole or not at all, with the mode, the order of keys and the
// indentation that it had. What else is in it stays.
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

// indent returns what the first key of the file is indented with, and whether the file
// has lines. A new one is as Docker writes it.
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
