package regtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A judge is a process that runs all registries of a test program. It starts with the first
// registry and ends with the test program.
type judge struct {
	program string

	mu      sync.Mutex
	process *exec.Cmd // nil before the first registry
	stdin   io.WriteCloser
	stdout  *bufio.Reader
}

var judges sync.Map // *judge, by program

// judgeOf returns the only judge for program.
func judgeOf(program string) *judge {
	j, _ := judges.LoadOrStore(program, &judge{program: program})
	return j.(*judge)
}

// open starts an empty registry and returns its address. It stores its content in dir, or
// in memory if that is "".
func (j *judge) open(dir string) (string, error) {
	if strings.ContainsRune(dir, '\n') {
		return "", fmt.Errorf("regtest: a directory with a line break: %q", dir)
	}
	return j.ask(strings.TrimSuffix("open "+dir, " "))
}

// close stops the registry at address. When it returns, no request is being served.
func (j *judge) close(address string) error {
	_, err := j.ask("close " + address)
	return err
}

// ask sends the judge a command and returns its answer.
func (j *judge) ask(command string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.process == nil {
		if err := j.start(); err != nil {
			return "", err
		}
	}
	_, err := fmt.Fprintln(j.stdin, command)
	if err == nil {
		var line string
		if line, err = j.stdout.ReadString('\n'); err == nil {
			return strings.TrimSpace(line), nil
		}
	}
	err = errors.Join(fmt.Errorf("regtest: the judge does not answer %q: %w", command, err), j.stdin.Close(), j.process.Wait())
	j.process = nil
	return "", err
}

func (j *judge) start() error {
	process := exec.Command(j.program, "-many") // it ends with its stdin
	process.Stderr = os.Stderr
	process.Env = append(os.Environ(), "GOGC=800") // it takes 4 MiB for each blob that it is asked for
	stdin, err := process.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	j.process, j.stdin, j.stdout = process, stdin, bufio.NewReader(stdout)
	return nil
}

// findJudge returns the path of the judge.
func findJudge() (string, error) {
	if program, ok := os.LookupEnv("MABUILD_JUDGE"); ok {
		return program, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.Contains(string(mod), "module github.com/mabuild/mabuild\n") {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("regtest: not inside the module and MABUILD_JUDGE is not set")
		}
	}
	program := filepath.Join(dir, "bin", "judge")
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("regtest: no judge; `make test` builds it: %w", err)
	}
	return program, nil
}
