package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file runs a program in namespaces (namespaces(7)). A second process of mabuild is the
// first one in them: it mounts what a container has, makes the files of the image its root and
// starts the program as the user of the image. When it ends or is killed, the kernel kills all
// processes that the program has started.

// childName is the name of the second process.
const childName = "mabuild-smoke"

// The files that the second process inherits.
const (
	requestFile = 3 // a request as JSON
	endingFile  = 4 // gets an ending as JSON
)

// A request is what the second process does.
type request struct {
	command
	Probe bool `json:"probe"` // mount, and start nothing
	Ids   bool `json:"ids"`   // all ids of the host are there, not only one
}

// probe returns why programs cannot be isolated here, or nil.
func probe(ctx context.Context, parent string, ids bool) error {
	dir, err := os.MkdirTemp(parent, "smoke-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the caller removes parent
	for _, name := range []string{"proc", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	end, err := enter(ctx, request{command: command{Root: dir}, Probe: true, Ids: ids}, io.Discard)
	if err == nil && end.Setup != "" {
		err = errors.New(end.Setup)
	}
	return err
}

// isolated runs a program in namespaces of its own, with all ids of the host or one.
func isolated(ctx context.Context, c command, ids bool, out *output) (ending, error) {
	return enter(ctx, request{command: c, Ids: ids}, out)
}

// enter starts the second process in new namespaces and returns how the program ended.
func enter(ctx context.Context, r request, out io.Writer) (ending, error) {
	self, err := os.Executable()
	if err != nil {
		return ending{}, err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return ending{}, err
	}
	requestOut, requestIn, err := os.Pipe()
	if err != nil {
		return ending{}, err
	}
	endingOut, endingIn, err := os.Pipe()
	if err != nil {
		return ending{}, errors.Join(err, requestOut.Close(), requestIn.Close())
	}
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // this program
	cmd.Args, cmd.Env = []string{childName}, []string{"GOMAXPROCS=1"}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, endDelay
	cmd.ExtraFiles = []*os.File{requestOut, endingIn}
	ids := func(own int) []syscall.SysProcIDMap {
		if r.Ids {
			return []syscall.SysProcIDMap{{Size: 1 << 16}}
		}
		return []syscall.SysProcIDMap{{HostID: own, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: ids(os.Geteuid()), GidMappings: ids(os.Getegid()), GidMappingsEnableSetgroups: r.Ids,
		Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Start()
	err = errors.Join(err, requestOut.Close(), endingIn.Close())
	if err != nil {
		return ending{}, errors.Join(err, requestIn.Close(), endingOut.Close())
	}
	_, err = requestIn.Write(raw)
	err = errors.Join(err, requestIn.Close())
	var end ending
	said, readErr := io.ReadAll(io.LimitReader(endingOut, maxOutput))
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ending{}, endingOut.Close()
	case len(said) > 0:
		return end, errors.Join(json.Unmarshal(said, &end), endingOut.Close())
	}
	return ending{}, errors.Join(err, readErr, ended, endingOut.Close(), errors.New("the process in the namespaces ended early"))
}

// Child is the second process, if this one is it: it does not return then. A program that uses
// this package calls it first.
func Child() {
	if len(os.Args) == 0 || os.Args[0] != childName {
		return
	}
	// A thread keeps what is set for it until the program has started.
	runtime.LockOSThread()
	unix.CloseOnExec(requestFile)
	unix.CloseOnExec(endingFile)
	var r request
	err := json.NewDecoder(os.NewFile(requestFile, "request")).Decode(&r)
	if err == nil {
		err = confine(r.Root)
	}
	var end ending
	switch {
	case err != nil:
		end.Setup = err.Error()
	case !r.Probe:
		end = r.start()
	}
	raw, err := json.Marshal(end)
	if err == nil {
		_, err = os.NewFile(endingFile, "ending").Write(raw)
	}
	code := 0
	if err != nil {
		code = 1
	}
	unix.Exit(code) // nothing is left to flush, and the race detector would sleep for a second
}

// confine makes a directory the root of this process, with what a container has in it. Nothing
// of the host stays reachable.
func confine(root string) error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"root", func() error { return unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, "") }},
		{"root", func() error { return os.Chdir(root) }},
		{"devices", devices},
		{"/tmp", func() error { return mount("tmpfs", "tmp", "mode=1777,size=64m") }},
		{"/proc", func() error {
			// In a container without privileges the kernel refuses it; few programs need it.
			if err := mount("proc", "proc", ""); !errors.Is(err, unix.EPERM) {
				return err
			}
			return nil
		}},
		{"root", func() error { return unix.PivotRoot(".", ".") }},
		{"root", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"root", func() error { return os.Chdir("/") }},
		{"host name", func() error { return unix.Sethostname([]byte("smoke")) }},
		{"loopback", loopback},
		{"limits", limits},
		{"privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// mount mounts a file system at a directory of the image. A link there, which could lead
// anywhere, gets none.
func mount(kind, at, options string) error {
	if info, err := os.Lstat(at); err != nil || !info.IsDir() {
		return nil //nolint:nilerr // the image has something else there
	}
	return unix.Mount(kind, at, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
}

// devices mounts the devices that every container has (runtime-spec, config-linux.md, Default
// Devices).
func devices() error {
	if info, err := os.Lstat("dev"); err != nil || !info.IsDir() {
		return nil //nolint:nilerr // the image has something else there
	}
	if err := unix.Mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		at := filepath.Join("dev", name)
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			return err
		}
		if err := unix.Mount("/"+at, at, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join("dev", name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir("dev/shm", 0o755); err != nil {
		return err
	}
	return mount("tmpfs", "dev/shm", "mode=1777,size=64m")
}

// loopback starts the only network interface, so that a server can listen on it.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // a kernel without IPv4
	}
	defer unix.Close(socket) //nolint:errcheck // a socket without a peer
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifreq.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, ifreq)
}

// The limits of a program and all that it starts.
const (
	maxProcesses = 512
	maxOpen      = 1024
	maxFile      = 256 << 20 // bytes of a file that it writes
)

// limits sets the limits.
func limits() error {
	for what, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NPROC: maxProcesses, unix.RLIMIT_NOFILE: maxOpen, unix.RLIMIT_FSIZE: maxFile} {
		var now unix.Rlimit
		if err := unix.Getrlimit(what, &now); err != nil {
			return err
		}
		most = min(most, now.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return err
		}
	}
	return nil
}

// start starts the program as the user of the image and waits for it.
func (r request) start() ending {
	cmd, err := started(func() *exec.Cmd {
		cmd := &exec.Cmd{
			Path: r.Argv[0], Args: slices.Clone(r.Argv), Env: r.Env, Dir: r.Dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.UID), Gid: uint32(r.GID)}}, //nolint:gosec // checked by the kernel
		}
		if !r.Ids {
			// The only id there is becomes that of the image's user in one more namespace.
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: r.UID, Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: r.GID, Size: 1}}
			cmd.SysProcAttr.Credential.NoSetGroups = true
		}
		return cmd
	})
	if err != nil {
		return ending{Start: strings.TrimPrefix(err.Error(), "fork/")}
	}
	end, err := endingOf(cmd.Wait())
	if err != nil {
		end.Setup = err.Error()
	}
	return end
}
