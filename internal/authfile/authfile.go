// Package authfile finds, reads and changes the files in which Docker and Podman keep
// credentials, and runs the credential helpers that those files name.
//
// The files have a fixed order, see [Places]. Within a file the helper for the host comes
// first, then the helper for all hosts, then the entries, as in Docker. Of the entries
// the one with the longest path that is a prefix of the repository wins, as in Podman
// (containers-auth.json(5)). A file without credentials for the host is skipped.
//
// The package changes a file only through [File.Set], [File.Remove], [File.Keep] and
// [File.Forget]. Keys that it does not interpret, their order and the indentation stay.
// It does not lock files: if two programs change one file at once, the later write wins.
// It does not check credentials with a registry.
package authfile

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/hint"
)

// Docker Hub has two names. hub is the name in references and in Podman's files, hubKey
// is the key in Docker's files and for credential helpers.
const (
	hub    = "docker.io"
	hubKey = authn.DefaultAuthKey
)

// A Location is the path of a file that may hold credentials. The file need not exist.
type Location struct {
	Path   string
	Podman bool // the format of containers-auth.json(5): keys may be host/namespace
	Named  bool // the user named the file, in the environment or otherwise
}

// Places returns the files in the order in which they are searched: the file that
// REGISTRY_AUTH_FILE names, config.json in the directory that DOCKER_CONFIG names or in
// ~/.docker, containers/auth.json in the directory that XDG_RUNTIME_DIR names (on Linux
// /run/containers/UID/auth.json if the variable is empty), and containers/auth.json in
// XDG_CONFIG_HOME or ~/.config. Each path occurs once. Without a home directory the files
// below it are left out.
func Places(getenv func(string) string) []Location {
	var all []Location
	add := func(p Location, elements ...string) {
		if elements[0] == "" {
			return
		}
		p.Path = filepath.Join(elements...)
		if !slices.ContainsFunc(all, func(o Location) bool { return o.Path == p.Path }) {
			all = append(all, p)
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	below := func(dir string) string {
		if home == "" {
			return ""
		}
		return filepath.Join(home, dir)
	}
	add(Location{Podman: true, Named: true}, getenv("REGISTRY_AUTH_FILE"))
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		add(Location{Named: true}, dir, "config.json")
	} else {
		add(Location{}, below(".docker"), "config.json")
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		add(Location{Podman: true}, dir, "containers", "auth.json")
	} else if runtime.GOOS == "linux" {
		add(Location{Podman: true}, "/run/containers", fmt.Sprint(os.Getuid()), "auth.json")
	}
	add(Location{Podman: true}, cmp.Or(getenv("XDG_CONFIG_HOME"), below(".config")), "containers", "auth.json")
	return all
}

// ForLogin returns the file for new credentials: the one that REGISTRY_AUTH_FILE names;
// else Podman's, if it exists and neither a file of Docker's nor DOCKER_CONFIG does; else
// Docker's. places is the result of [Places]. Without any candidate, that is without a
// home directory, it returns an error.
func ForLogin(places []Location) (Location, error) {
	there := func(p Location) bool { return exists(p.Path) }
	if i := slices.IndexFunc(places, func(p Location) bool { return p.Podman && p.Named }); i >= 0 {
		return places[i], nil
	}
	docker := slices.IndexFunc(places, func(p Location) bool { return !p.Podman })
	podman := slices.IndexFunc(places, func(p Location) bool { return p.Podman && there(p) })
	switch {
	case docker >= 0 && (places[docker].Named || there(places[docker]) || podman < 0):
		return places[docker], nil
	case podman >= 0:
		return places[podman], nil
	}
	return Location{}, errors.New("no home directory to store credentials in: set REGISTRY_AUTH_FILE or DOCKER_CONFIG")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A File is the parsed content of a file of credentials. It is not safe for concurrent
// use while it is changed.
type File struct {
	Location
	raw     []byte            // the bytes on disk, from which save takes the format
	top     object            // all keys of the file
	auths   object            // the value of "auths", parsed; save writes it into top
	helpers map[string]string // "credHelpers": helper by key
	store   string            // "credsStore": the helper for all hosts
}

// unreadable says that a file of credentials cannot be used.
func unreadable(path string, err error) error {
	way := "fix " + path + ", or remove it and log in again"
	switch {
	case errors.Is(err, fs.ErrPermission):
		way = fmt.Sprintf("run mabuild as the owner of %s, or let user %d read it; in a container use --user", path, os.Getuid())
	case errors.Is(err, syscall.EISDIR):
		way = "put a file at " + path + "; a container engine makes a directory if the file to mount is missing"
	}
	return hint.New(hint.Credentials, way, "%s: %w", path, err)
}

// unwritable says that a file of credentials cannot be changed.
func unwritable(path string, err error) error {
	return hint.New(hint.Credentials, "make "+path+" writable", "%s: %w", path, err)
}

// Open reads a place. One that is not there is empty, and so is one that the environment
// did not name and that may not be read.
func Open(p Location) (*File, error) {
	f := &File{Location: p}
	raw, err := os.ReadFile(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && !p.Named && p.Podman && errors.Is(err, fs.ErrPermission):
		return f, nil
	case err == nil:
		err = f.parse(raw)
	}
	if err != nil {
		return nil, unreadable(p.Path, cause(err))
	}
	return f, nil
}

// cause removes the path from an error, since [FileError] has it already.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends within a JSON object")
	}
	return err
}

// parse fills f from the content of the file. An empty file is valid, as for Docker.
func (f *File) parse(raw []byte) (err error) {
	f.raw = raw
	if len(strings.TrimSpace(string(raw))) == 0 {
		return nil
	}
	if f.top, err = parseObject(raw); err != nil {
		return err
	}
	if f.auths, err = parseObject(f.top.get("auths")); err != nil {
		return fmt.Errorf("auths: %w", err)
	}
	var own struct {
		CredHelpers map[string]string `json:"credHelpers"`
		CredsStore  string            `json:"credsStore"`
	}
	if err := json.Unmarshal(raw, &own); err != nil {
		return err
	}
	f.helpers, f.store = own.CredHelpers, own.CredsStore
	return nil
}

// Key returns the key of a host or host/namespace in this file. Docker Hub has one key in
// Docker's files and another in Podman's.
func (f *File) Key(name string) string {
	if name == hub && !f.Podman {
		return hubKey
	}
	return name
}

// Canonical returns the host or host/namespace that a key of a file or a user's input
// stands for: the host in lower case, without a scheme and without the path of the API
// (/v1/, /v2/). A path after a scheme is not a namespace, since Docker writes URLs as
// keys of hosts. The other names of Docker Hub become docker.io.
func Canonical(key string) string {
	text := key
	scheme, after, schemed := strings.Cut(key, "://")
	if schemed = schemed && (scheme == "https" || scheme == "http"); schemed {
		text = after
	}
	host, path, _ := strings.Cut(text, "/")
	switch host = strings.ToLower(host); host {
	case "index.docker.io", "registry-1.docker.io":
		host = hub
	}
	path = strings.Trim(path, "/")
	if schemed || path == "" || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

// Helper returns the names of the helpers for a host, in the order in which they are
// called. host is canonical. A key of credHelpers for the host with an empty value
// disables the helper for all hosts, as in Docker.
func (f *File) Helper(host string) []string {
	var names []string
	for _, key := range slices.Sorted(maps.Keys(f.helpers)) {
		if Canonical(key) != host {
			continue
		}
		if f.helpers[key] == "" {
			return names
		}
		names = append(names, f.helpers[key])
	}
	if f.store != "" && !slices.Contains(names, f.store) {
		names = append(names, f.store)
	}
	return names
}

// An Ask asks a credential helper for a key. The zero AuthConfig means that the helper
// has no credentials for it. [Get] is one without the limit; callers add one and may
// remember results.
type Ask func(ctx context.Context, helper, key string) (authn.AuthConfig, error)

// A Found is a set of credentials with the place where they are stored, for hints.
type Found struct {
	authn.AuthConfig
	At     string // the path of a file, or the program of a helper
	Helper bool   // At is a program
}

// Find returns the credentials for a repository of a host, which is [Canonical], or false
// if there are none. repository is without the host and may be empty. The path is
// shortened element by element down to the host; the first entry found wins.
func (f *File) Find(ctx context.Context, host, repository string, ask Ask) (Found, bool, error) {
	for _, helper := range f.Helper(host) {
		found, err := ask(ctx, helper, helperKey(host))
		if err != nil {
			return Found{}, false, f.about(err)
		}
		if found != (authn.AuthConfig{}) {
			return Found{found, program(helper), true}, true, nil
		}
	}
	for at := strings.Trim(host+"/"+repository, "/"); ; at = at[:strings.LastIndexByte(at, '/')] {
		found, err := f.Entry(at)
		if err != nil || found != (authn.AuthConfig{}) {
			return Found{found, f.Path, false}, err == nil, err
		}
		if at == host {
			return Found{}, false, nil
		}
	}
}

// about adds the path of the file to an error of a helper. The error is copied, since a
// caller may remember and share it.
func (f *File) about(err error) error {
	if h := (*HelperError)(nil); errors.As(err, &h) {
		known := *h
		known.file = f.Path
		return &known
	}
	return err
}

// Entry returns the credentials that the file itself has for exactly this host or
// host/namespace, without helpers and shorter paths. The zero AuthConfig means none. If
// several keys stand for the name, the order is: the key that [File.Key] returns, the
// name itself, then the others as they stand in the file. An entry without credentials is
// skipped.
func (f *File) Entry(name string) (authn.AuthConfig, error) {
	keys := f.keys(name)
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(rank(f, name, a), rank(f, name, b)) })
	for _, key := range keys {
		found, err := parseEntry(f.auths.get(key))
		if err != nil {
			return authn.AuthConfig{}, unreadable(f.Path, fmt.Errorf("the entry of %q: %w", key, err))
		}
		if found != (authn.AuthConfig{}) {
			return found, nil
		}
	}
	return authn.AuthConfig{}, nil
}

// rank returns the order of key among the keys that stand for name.
func rank(f *File, name, key string) int {
	switch key {
	case f.Key(name):
		return 0
	case name:
		return 1
	}
	return 2
}

// keys returns the keys of the entries that stand for a host or host/namespace.
func (f *File) keys(name string) (keys []string) {
	for _, m := range f.auths {
		if Canonical(m.key) == name && !slices.Contains(keys, m.key) {
			keys = append(keys, m.key)
		}
	}
	return keys
}

// parseEntry reads an entry. auth, which is user:password in base64, overrides the fields
// username and password, and zero bytes around the password are removed, as in Docker.
func parseEntry(raw json.RawMessage) (authn.AuthConfig, error) {
	var e struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return authn.AuthConfig{}, err
	}
	if e.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(e.Auth)
		user, password, ok := strings.Cut(string(text), ":")
		if err != nil || !ok {
			return authn.AuthConfig{}, errors.New("auth is not user:password in base64")
		}
		e.Username, e.Password = user, strings.Trim(password, "\x00")
	}
	return authn.AuthConfig{
		Username: e.Username, Password: e.Password,
		IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}, nil
}
