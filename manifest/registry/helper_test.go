//go:build unix

package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
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

// A credential helper that works is used; whatever else one does ends in an error
// of credentials, soon and without a word of what it printed.
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

// A helper that hangs is killed with all that it started.
func TestHelperIsKilled(t *testing.T) {
	r := regtest.Start(t, bearer)
	dir := helper(t, `{"credsStore":"tests"}`, `sleep 1000 & echo $! >"$DOCKER_CONFIG/pid"; wait`)
	c := client(t)
	c.Keychain = nil
	registry.SetHelperLimit(c, time.Second)
	if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil || !strings.Contains(err.Error(), "no credentials after") {
		t.Errorf("got %v", err)
	}
	pid := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(dir, "pid")))(t)))
	for range 100 {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %s lives", pid)
}
