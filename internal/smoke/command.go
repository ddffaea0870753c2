package smoke

import (
	"bufio"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

// A command is a program to start in the files of an image.
type command struct {
	Root string   `json:"root"` // directory with the files
	Argv []string `json:"argv"` // the program as an absolute path
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	UID  int      `json:"uid"`
	GID  int      `json:"gid"`
}

// usualPath is the PATH of a container whose image has none.
const usualPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// commandOf returns what a runtime would start for the config of an image (image-spec,
// config.md).
func commandOf(root *os.Root, c v1.Config, argv []string) (command, error) {
	out := command{Argv: slices.Clone(argv), Env: slices.Clone(c.Env), Dir: path.Join("/", c.WorkingDir)}
	has := func(name string) bool {
		return slices.ContainsFunc(out.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	if !has("PATH") {
		out.Env = append(out.Env, usualPath)
	}
	if !has("HOME") {
		out.Env = append(out.Env, "HOME=/")
	}
	user, group, _ := strings.Cut(c.User, ":")
	var err error
	if out.UID, out.GID, err = userOf(root, user); err == nil && group != "" {
		out.GID, err = idOf(root, "etc/group", group)
	}
	if err != nil {
		return out, err
	}
	// A runtime makes the working directory.
	at, err := realPath(root, out.Dir)
	if err == nil {
		err = root.MkdirAll(at, 0o755)
	}
	if err != nil {
		return out, &hint.Error{Err: errors.Join(errors.New("smoke: the working directory cannot be made"), err)}
	}
	out.Argv[0] = find(root, out, argv[0])
	return out, nil
}

// find returns the path of a program that is looked up in PATH, or the name itself.
func find(root *os.Root, c command, name string) string {
	if strings.Contains(name, "/") {
		if path.IsAbs(name) {
			return path.Clean(name)
		}
		return path.Join(c.Dir, name)
	}
	for _, kv := range c.Env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(list, ":") {
			at, err := realPath(root, path.Join(dir, name))
			if err != nil {
				continue
			}
			if info, err := root.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path.Join("/", dir, name)
			}
		}
	}
	return name
}

// userOf returns the ids of a user by number or name; "" is root. The group is that of
// /etc/passwd, else 0.
func userOf(root *os.Root, user string) (uid, gid int, err error) {
	if user == "" {
		return 0, 0, nil
	}
	number, wrong := strconv.Atoi(user)
	found := false
	eachLine(root, "etc/passwd", func(fields []string) bool {
		if len(fields) < 4 || fields[0] != user && (wrong != nil || fields[2] != user) {
			return false
		}
		uid, err = strconv.Atoi(fields[2])
		gid, _ = strconv.Atoi(fields[3])
		found = err == nil
		return true
	})
	switch {
	case found:
		return uid, gid, nil
	case wrong == nil:
		return number, 0, nil
	}
	return 0, 0, hint.New(hint.Content, "use a number, or a user of the image", "smoke: the image has no user %q", user)
}

// idOf returns the id of a group by number or name.
func idOf(root *os.Root, file, name string) (id int, err error) {
	if id, err = strconv.Atoi(name); err == nil {
		return id, nil
	}
	id = -1
	eachLine(root, file, func(fields []string) bool {
		if len(fields) < 3 || fields[0] != name {
			return false
		}
		if n, err := strconv.Atoi(fields[2]); err == nil {
			id = n
		}
		return true
	})
	if id < 0 {
		return 0, hint.New(hint.Content, "use a number, or a group of the image", "smoke: the image has no group %q", name)
	}
	return id, nil
}

// eachLine calls visit with the fields of each line of a database of users until it returns
// true.
func eachLine(root *os.Root, file string, visit func(fields []string) bool) {
	at, err := realPath(root, file)
	if err != nil {
		return
	}
	f, err := root.Open(at)
	if err != nil {
		return // an image without users
	}
	defer f.Close() //nolint:errcheck // was opened to read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if visit(strings.Split(lines.Text(), ":")) {
			return
		}
	}
}
