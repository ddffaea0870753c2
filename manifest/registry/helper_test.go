//go:build unix

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// helper makes the config name a credential helper that runs script.
func helper(t *testing.T, config, script string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{"config.json": config, "docker-credential-tests": "#!/bin/sh\n" + script} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return dir
}

// A working credential helper is used. Any other ends in an error of kind credentials, soon
// and without its output.
func TestCredentialHelper(t *testing.T) {
	r := regtest.Start(t, bearer)
	img := regtest.Image(t, "amd64", 100, 1)
	const store = `{"credsStore":"tests"}`
	for name, one := range map[string]struct {
		config, script string
		fine           bool
	}{
		"right":          {config: store, script: `echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'`, fine: true},
		"for the host":   {config: `{"credHelpers":{"` + r.Host + `":"tests"}}`, script: `echo '{"Username":"me","Secret":"secret"}'`, fine: true},
		"identity":       {config: store, script: `echo '{"Username":"<token>","Secret":"secret"}'`, fine: true},
		"another's":      {config: `{"credHelpers":{"other.example.com":"tests"},"auths":{"` + r.Host + `":{"auth":"bWU6c2VjcmV0"}}}`, script: `exit 1`, fine: true},
		"knows nothing":  {config: store, script: `echo "credentials not found in native keychain"; exit 1`},
		"wrong":          {config: store, script: `echo '{"Username":"me","Secret":"s3cr3t"}'`},
		"hangs":          {config: store, script: `sleep 1000`},
		"hangs below":    {config: store, script: `sleep 1000 & wait`},
		"fails":          {config: store, script: `echo s3cr3t; echo s3cr3t >&2; exit 1`},
		"garbage":        {config: store, script: `echo s3cr3t`},
		"says 10 MiB":    {config: store, script: `head -c 10485760 /dev/zero | tr '\0' s`},
		"says no end":    {config: store, script: `exec cat /dev/zero`},
		"is not there":   {config: `{"credsStore":"nowhere"}`},
		"broken config":  {config: `{"credsStore":`},
		"secret, exit 1": {config: store, script: `echo '{"Username":"me","Secret":"s3cr3t"}'; exit 1`},
	} {
		t.Run(name, func(t *testing.T) {
			helper(t, one.config, one.script)
			c := client(t)
			c.Keychain = nil
			if strings.HasPrefix(name, "hangs") {
				registry.SetHelperLimit(c, 500*time.Millisecond)
			}
			start := time.Now()
			err := c.Put(t.Context(), r.Host+"/app:v1", img)
			if one.fine {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, registry.ErrCredentials) || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(hintOf(err), "s3cr3t") || hintOf(err) == "" {
				t.Errorf("got %v, hint %q", err, hintOf(err))
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A helper that hangs is killed with its child processes when its context ends, with every
// keychain.
func TestHelperIsKilled(t *testing.T) {
	r := regtest.Start(t, bearer)
	dir := helper(t, `{"credsStore":"tests"}`, `sleep 1000 & echo $! >"$DOCKER_CONFIG/pid.new"; mv "$DOCKER_CONFIG/pid.new" "$DOCKER_CONFIG/pid"; wait`)
	file := filepath.Join(dir, "pid")
	for name, chain := range map[string]authn.Keychain{
		"none": nil, "default": registry.DefaultKeychain,
		"one file": must(registry.ConfigKeychain(filepath.Join(dir, "config.json")))(t),
		"several":  authn.NewMultiKeychain(login{}, registry.DefaultKeychain),
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var pid string
			go func() {
				defer stop()
				until(t, func() bool {
					raw, err := os.ReadFile(file)
					pid = strings.TrimSpace(string(raw))
					return err == nil
				})
			}()
			c := client(t)
			c.Keychain = chain
			if _, err := c.Resolve(ctx, r.Host+"/app:v1"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			until(t, func() bool {
				stat, err := os.ReadFile("/proc/" + pid + "/stat")
				return err != nil || strings.Contains(string(stat), ") Z ")
			})
		})
	}
}

// A named configuration file is used without any other.
func TestConfigKeychain(t *testing.T) {
	r := regtest.Start(t, bearer)
	img := regtest.Image(t, "amd64", 100, 1)
	const right = `{"credsStore":"tests"}`
	dir := helper(t, right, `echo '{"Username":"me","Secret":"secret"}'`)
	broken := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", filepath.Dir(broken))
	for _, path := range []string{dir, filepath.Join(dir, "config.json")} {
		c := client(t)
		c.Keychain = must(registry.ConfigKeychain(path))(t)
		put(t, c, r.Host+"/app:v1", img)
	}
	for _, path := range []string{broken, filepath.Join(dir, "none.json")} {
		if _, err := registry.ConfigKeychain(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A helper runs once for a host in a run, whatever it answers and however many repositories
// and requests there are. This also holds within other keychains.
func TestHelperIsAskedOnce(t *testing.T) {
	r := regtest.Start(t, bearer)
	for name, script := range map[string]string{
		"right":         `echo '{"Username":"me","Secret":"secret"}'`,
		"knows nothing": `echo "credentials not found in native keychain"; exit 1`,
		"fails":         `echo "no session is open"; exit 1`,
	} {
		for what, config := range map[string]string{
			"for all hosts": `{"credsStore":"tests"}`,
			"for the host":  `{"credHelpers":{"` + r.Host + `":"tests"}}`,
			"for both":      `{"credsStore":"tests","credHelpers":{"` + r.Host + `":"tests"}}`,
		} {
			for _, chain := range []authn.Keychain{nil, authn.NewMultiKeychain(login{}, registry.DefaultKeychain)} {
				t.Run(name+" "+what, func(t *testing.T) {
					dir := helper(t, config, `k=$(cat); echo "$1 $k" >>"$DOCKER_CONFIG/asked"; `+script)
					c := client(t)
					c.Keychain = chain
					var wg sync.WaitGroup
					for i := range 8 {
						wg.Go(func() {
							_, err := c.Resolve(t.Context(), fmt.Sprintf("%s/team/app%d:v1", r.Host, i))
							if errors.Is(err, manifest.ErrNotFound) != (name == "right") {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					asked, err := os.ReadFile(filepath.Join(dir, "asked"))
					if want := "get " + r.Host + "\n"; err != nil || string(asked) != want {
						t.Errorf("asked %q, want %q, %v", asked, want, err)
					}
				})
			}
		}
	}
}

// Podman's credentials are used in addition to Docker's config, and each repository gets
// those of the longest matching path.
func TestPodmanBesideDocker(t *testing.T) {
	r := regtest.Start(t, bearer)
	img := regtest.Image(t, "amd64", 100, 1)
	dir := helper(t, `{"auths":{"other.example":{"auth":"eDp5"}}}`, `exit 1`)
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const right, wrong = `{"auth":"bWU6c2VjcmV0"}`, `{"auth":"bWU6d3Jvbmc="}`
	write(".config/containers/auth.json", `{"auths":{"`+r.Host+`/team":`+right+`,"`+r.Host+`":`+wrong+`}}`)
	c := client(t)
	c.Keychain = nil
	put(t, c, r.Host+"/team/app:v1", img)
	if err := c.Put(t.Context(), r.Host+"/teams/app:v1", img); !errors.Is(err, registry.ErrCredentials) || !strings.Contains(hintOf(err), ".config/containers/auth.json") {
		t.Errorf("got %v, hint %q", err, hintOf(err))
	}
	write("named.json", `{"auths":{"`+r.Host+`":`+right+`}}`)
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "named.json"))
	c = client(t)
	c.Keychain = nil
	put(t, c, r.Host+"/teams/app:v1", img)
}
