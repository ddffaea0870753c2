// Package authfile finds, reads and changes the files in which Docker and Podman keep
// credentials, and runs the credential helpers that those files name.
//
// The files are asked in a fixed order, see [Places]. In a file the helper for the host
// comes first, then the helper for all hosts, then the entries, as in Docker; the entry
// with the longest path that leads to the repository wins, as in Podman
// (containers-auth.json(5)). A place that has nothing for the host is passed by.
package authfile

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/hint"
)

// Docker Hub's name in references and in Podman's files, and its key in Docker's files
// and helpers.
const (
	hub    = "docker.io"
	hubKey = authn.DefaultAuthKey
)

// A Location is a file that may hold credentials.
type Location struct {
	Path   string
	Podman bool // its keys may be host/namespace
	Named  bool // by the environment
}

// Places lists the places in the order in which they are asked: the file that
// REGISTRY_AUTH_FILE names, config.json in the directory that DOCKER_CONFIG names or in
// ~/.docker, containers/auth.json in the directory that XDG_RUNTIME_DIR names (on Linux
// /run/containers/UID/auth.json if it names none), and in XDG_CONFIG_HOME or ~/.config.
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

// ForLogin returns the place of new credentials: the one that REGISTRY_AUTH_FILE names;
// else Podman's, if there is such a file and neither a file of Docker's nor DOCKER_CONFIG;
// else Docker's. places is what [Places] returned.
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

// A File is what a place holds.
type File struct {
	Location
	raw     []byte // as it was read
	top     object
	auths   object
	helpers map[string]string // by host
	store   string            // the helper for every host
}

// unreadable says that a file of credentials cannot be used.
func unreadable(path string, err error) error {
	return hint.New(hint.Credentials, "fix "+path+", or remove it and log in again", "%s: %w", path, err)
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

// cause takes the path off an error of a file that says it itself.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

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

// Key returns what a host or host/namespace is called in a file: Docker Hub has one key in
// Docker's, and another in Podman's.
func (f *File) Key(name string) string {
	if name == hub && !f.Podman {
		return hubKey
	}
	return name
}

// Canonical returns the host or host/namespace that a key of a file stands for, or that a
// person wrote: in lower case, without a scheme and without the path of the API. A path
// behind a scheme is no namespace.
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

// Helper returns the helpers that a file names for a host, in the order in which they are
// asked. An empty one for the host switches the one for all hosts off.
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

// An Ask asks a credential helper for a key. The zero AuthConfig is that it has nothing.
type Ask func(ctx context.Context, helper, key string) (authn.AuthConfig, error)

// Found are credentials and where they are kept.
type Found struct {
	authn.AuthConfig
	At     string // a file, or the program of a helper
	Helper bool   // At is a program
}

// Find returns the credentials for a repository of a host, which is [Canonical]; false if
// the file has none. repository may be "".
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

// about names the file in an error about a helper.
func (f *File) about(err error) error {
	if h := (*HelperError)(nil); errors.As(err, &h) {
		known := *h
		known.file = f.Path
		return &known
	}
	return err
}

// Entry returns what the file itself has for a host or host/namespace, and for nothing
// above that; the zero AuthConfig is nothing. Of several keys that stand for it the plain
// one counts first.
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

func rank(f *File, name, key string) int {
	switch key {
	case f.Key(name):
		return 0
	case name:
		return 1
	}
	return 2
}

// keys lists the keys of the entries that stand for a host or host/namespace.
func (f *File) keys(name string) (keys []string) {
	for _, m := range f.auths {
		if Canonical(m.key) == name && !slices.Contains(keys, m.key) {
			keys = append(keys, m.key)
		}
	}
	return keys
}

// parseEntry reads an entry. user:password in auth counts more than the fields beside it.
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
