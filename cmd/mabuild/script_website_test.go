package main

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"aead.dev/minisign"
	"github.com/rogpeppe/go-internal/testscript"
)

// A website serves the files of a directory and lists its requests.
type website struct {
	mu    sync.Mutex
	asked []string // METHOD PATH
	login string   // USER PASSWORD; "": none
}

// startWebsite: website NAME DIR serves a directory, and sets $NAME to its URL. A file
// releases/latest has the version to which a request for it redirects, as on GitHub.
func startWebsite(ts *testscript.TestScript, _ bool, args []string) {
	dir, w := ts.MkAbs(args[1]), &website{}
	files := http.FileServer(http.Dir(dir))
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+r.URL.Path)
		login := w.login
		w.mu.Unlock()
		if user, password, _ := r.BasicAuth(); login != "" && user+" "+password != login {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		if repo, ok := strings.CutSuffix(r.URL.Path, "/releases/latest"); ok {
			if version, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(r.URL.Path))); err == nil {
				http.Redirect(rw, r, repo+"/releases/tag/"+strings.TrimSpace(string(version)), http.StatusFound)
				return
			}
		}
		files.ServeHTTP(rw, r)
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
	websites.Store(s.URL, w)
}

// websites has each website by its URL.
var websites sync.Map

// setLogin: login NAME USER PASSWORD makes the website require a login.
func setLogin(ts *testscript.TestScript, _ bool, args []string) {
	found, ok := websites.Load(ts.Getenv(args[0]))
	if !ok {
		ts.Fatalf("login: no website %s", args[0])
	}
	w := found.(*website)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.login = args[1] + " " + args[2]
}

// asked: asked NAME [METHOD PATH]… requires exactly these requests since the last call, in any
// order, and resets the list.
func asked(ts *testscript.TestScript, _ bool, args []string) {
	found, ok := websites.Load(ts.Getenv(args[0]))
	if !ok {
		ts.Fatalf("asked: no website %s", args[0])
	}
	w := found.(*website)
	w.mu.Lock()
	got := w.asked
	w.asked = nil
	w.mu.Unlock()
	var want []string
	for i := 1; i+1 < len(args); i += 2 {
		want = append(want, args[i]+" "+args[i+1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("%s was asked for %q, want %q", args[0], got, want)
	}
}

// setMinisign: setminisign NAME FILE… sets $NAME to the public key of a new key of minisign,
// and signs each file as FILE.minisig.
func setMinisign(ts *testscript.TestScript, _ bool, args []string) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	ts.Check(err)
	ts.Setenv(args[0], public.String())
	for _, name := range args[1:] {
		f, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		r := minisign.NewReader(f)
		_, err = io.Copy(io.Discard, r)
		ts.Check(errors.Join(err, f.Close()))
		ts.Check(os.WriteFile(f.Name()+".minisig", r.Sign(private), 0o600))
	}
}
