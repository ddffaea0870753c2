//go:build unix

package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
)

// A plant is the real program with everything that it needs for a push.
type plant struct {
	*bench
	program, module, temp string
	env                   []string
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	p := &plant{bench: start(t, regtest.Options{}), program: filepath.Join(dir, "mabuild"), module: filepath.Join(dir, "module"), temp: filepath.Join(dir, "tmp")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "github.com/mabuild/mabuild/cmd/mabuild")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for file, text := range map[string]string{
		"module/go.mod": "module example.com/app\n\ngo 1.26\n", "module/main.go": "package main\n\nfunc main() { println(1) }\n",
		"home/.docker/config.json": fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, p.Host, secret),
	} {
		file = filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.MkdirAll(p.temp, 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p.env = append(os.Environ(), "TMPDIR="+p.temp, "DOCKER_CONFIG="+filepath.Join(dir, "home/.docker"), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "GOCACHE="+string(bytes.TrimSpace(cache)), "GOFLAGS=")
	return p
}

// push starts to push program n to repo:v1.
func (p *plant) push(ctx context.Context, repo string, n int, flags ...string) (*exec.Cmd, *bytes.Buffer) {
	args := []string{"push", "--platforms", "linux/amd64,linux/arm64", "--base", "scratch", "--env", "N=" + strconv.Itoa(n), "-t", p.Host + "/" + repo + ":v1"}
	cmd := exec.CommandContext(ctx, p.program, append(args, flags...)...)
	out := &bytes.Buffer{}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.module, p.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, out
}

// at calls act after n requests to the registry, or when done is closed.
func (p *plant) at(n int, done <-chan struct{}, act func()) {
	for len(p.Requests()) < n {
		select {
		case <-done:
			return
		case <-time.After(200 * time.Microsecond):
		}
	}
	act()
}
