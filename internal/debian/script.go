package debian

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mabuild/mabuild/internal/hint"
	safe "github.com/mabuild/mabuild/internal/text"
)

// An Alternative is a file that update-alternatives offers under the name of a group, with
// the links that come with it.
type Alternative struct {
	Link     string // the path that users call, such as /usr/sbin/iptables
	Name     string // of the group, which is a link in /etc/alternatives
	Path     string // of the file
	Priority int    // the highest is chosen
	Slaves   []Slave
}

// A Slave is a further link of an alternative.
type Slave struct{ Link, Name, Path string }

// Alternatives returns what a script offers by update-alternatives --install. The script is
// read and not run, so a call with variables is an error.
func Alternatives(script string) ([]Alternative, error) {
	var all []Alternative
	for line := range strings.Lines(strings.ReplaceAll(script, "\\\n", " ")) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		words, err := shellWords(line)
		if err != nil {
			if strings.Contains(line, "update-alternatives") && strings.Contains(line, "--install") {
				return nil, fmt.Errorf("%w: %.200s", err, strings.TrimSpace(line))
			}
			continue
		}
		for i, word := range words {
			if path.Base(word) != "update-alternatives" {
				continue
			}
			a, err := parseAlternative(words[i+1:])
			if err != nil {
				return nil, fmt.Errorf("%w: %.200s", err, strings.TrimSpace(line))
			}
			if a.Name != "" {
				all = append(all, a)
			}
		}
	}
	return all, nil
}

// parseAlternative parses the arguments of update-alternatives, up to the end of the command.
// The result has no name if nothing is installed.
func parseAlternative(words []string) (a Alternative, err error) {
	for i, word := range words {
		if isOperator(word) {
			words = words[:i]
			break
		}
	}
	for len(words) > 0 {
		switch {
		case words[0] == "--install" && len(words) >= 5:
			if a.Priority, err = strconv.Atoi(words[4]); err != nil {
				return a, fmt.Errorf("%q is not a priority", words[4])
			}
			a.Link, a.Name, a.Path = words[1], words[2], words[3]
			words = words[5:]
		case words[0] == "--slave" && len(words) >= 4:
			a.Slaves = append(a.Slaves, Slave{words[1], words[2], words[3]})
			words = words[4:]
		case words[0] == "--install", words[0] == "--slave":
			return a, errors.New("an argument is missing")
		default:
			words = words[1:]
		}
	}
	if a.Name == "" {
		return Alternative{}, nil // another call, such as --remove
	}
	for _, s := range append([]Slave{{a.Link, a.Name, a.Path}}, a.Slaves...) {
		if strings.ContainsAny(s.Link+s.Name+s.Path, "$`*?[") {
			return a, errors.New("it has variables, which only running it would fill in")
		}
		if !path.IsAbs(s.Link) || !path.IsAbs(s.Path) || strings.Contains(s.Name, "/") || s.Name == "" || s.Name == "." || s.Name == ".." ||
			path.Clean(s.Link) != s.Link || path.Clean(s.Path) != s.Path {
			return a, fmt.Errorf("%q is not a link of an alternative", s.Link)
		}
	}
	return a, nil
}

// isOperator reports whether a word ends a command of the shell.
func isOperator(word string) bool {
	return strings.ContainsAny(word[:min(1, len(word))], ";&|<>)") || strings.HasPrefix(word, "2>") || strings.HasPrefix(word, "1>")
}

// shellWords splits a line as a shell does, as far as words and quotes go.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open, quote := false, byte(0)
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			open = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			end()
		case c == '#' && !open:
			return words, nil
		case c == ';' || c == '&' || c == '|' || c == '(' || c == ')':
			end()
			words = append(words, string(c))
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	end()
	return words, nil
}

// CheckScripts returns an error for each script of a package that no rule replaces, with the
// script. Rules for packages that are not there, or have no script, do not count.
func (d *Deb) CheckScripts(name string, rules map[string]string) error {
	var errs []error
	rule := rules[name]
	for _, script := range []string{"preinst", "postinst"} {
		if text := d.Scripts[script]; text != "" && rule == "" {
			way := "read it; if the image does not need what it does, set packages.scripts: {" + name + ": ignore}"
			switch {
			case name == "ca-certificates":
				way = "set packages.scripts: {ca-certificates: ca-certificates}, which makes the file of all certificates"
			case strings.Contains(text, "update-alternatives --install"):
				way = "set packages.scripts: {" + name + ": alternatives}, which makes the links; if the image does not need them, {" + name + ": ignore}"
			}
			errs = append(errs, hint.New(hint.Usage, way, "package %s has a script %s, which is not run:\n%s", name, script, shown(text)))
		}
	}
	return errors.Join(errs...)
}

// maxShown is how many lines of a script an error has.
const maxShown = 60

// shown returns a script for an error, indented.
func shown(script string) string {
	lines := strings.Split(strings.TrimSpace(safe.Lines(script)), "\n")
	more := ""
	if len(lines) > maxShown {
		more = fmt.Sprintf("\n    … and %d more lines", len(lines)-maxShown)
		lines = lines[:maxShown]
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight("    "+line, " \t\r")
	}
	return strings.Join(lines, "\n") + more
}
