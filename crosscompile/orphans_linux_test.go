package crosscompile_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/crosscompile"
)

// orphanage is the variable with the directory of the process that the test kills.
const orphanage = "MABUILD_TEST_ORPHANAGE"

// The go command ends when the process that started it is killed, even if threads of that
// process have ended before.
func TestKilledWithTheGoCommand(t *testing.T) {
	if dir, ok := os.LookupEnv(orphanage); ok {
		compileForever(t, dir)
		return
	}
	dir := write(t, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": mainGo})
	script := "#!/bin/sh\ncase $1 in env) echo '{\"GOROOT\":\"" + filepath.Join(dir, "fake") + "\"}';; *) echo $$ >" + dir + "/pid; exec sleep 1000;; esac\n"
	fake := filepath.Join(dir, "fake", "bin", "go")
	if err := errors.Join(os.MkdirAll(filepath.Dir(fake), 0o755), os.WriteFile(fake, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	doomed := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	doomed.Env = append(os.Environ(), orphanage+"="+dir)
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	pid := ""
	for pid == "" { // limited by the timeout of the test
		time.Sleep(5 * time.Millisecond)
		raw, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid = strings.TrimSpace(string(raw))
	}
	for range 20 { // the end of a thread must not kill the go command
		time.Sleep(5 * time.Millisecond)
		if _, err := os.Stat("/proc/" + pid); err != nil {
			t.Fatal("the go command ended by itself")
		}
	}
	if err := doomed.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = doomed.Wait() // its error is that it was killed
	for alive := true; alive; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		alive = err == nil && !strings.Contains(string(stat), ") Z ")
	}
}

// compileForever compiles with the go command in dir while threads of this process start
// and end.
func compileForever(t *testing.T, dir string) {
	go func() {
		for {
			ended := make(chan struct{})
			go func() {
				runtime.LockOSThread() // without an unlock, the thread ends with the goroutine
				close(ended)
			}()
			<-ended
			time.Sleep(time.Millisecond)
		}
	}()
	g := &crosscompile.Go{Command: filepath.Join(dir, "fake", "bin", "go")}
	_, _ = g.Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: filepath.Join(dir, "out"), Platform: parse(t, "linux/amd64")})
}
