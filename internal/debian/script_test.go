package debian

import (
	"fmt"
	"strings"
	"testing"
)

// Calls of update-alternatives are found in a script without running it.
func TestAlternatives(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"#!/bin/sh\nset -e\n", ""},
		{"update-alternatives --install /usr/bin/x x /usr/bin/x1 10\n", "x /usr/bin/x=/usr/bin/x1 10"},
		{"if true; then update-alternatives --quiet --install '/usr/bin/x' \"x\" /usr/bin/x1 10 >/dev/null || true; fi", "x /usr/bin/x=/usr/bin/x1 10"},
		{"\tupdate-alternatives \\\n\t  --install /usr/bin/x x /usr/bin/x1 20 \\\n\t  --slave /usr/share/man/x.1 x.1 /usr/share/man/x1.1 # comment\n", "x /usr/bin/x=/usr/bin/x1 20 x.1=/usr/share/man/x1.1"},
		{"/usr/sbin/update-alternatives --install /a b /c 5; update-alternatives --install /a b /d 6 && echo", "b /a=/c 5; b /a=/d 6"},
		{"update-alternatives --remove x /usr/bin/x1\nupdate-alternatives --auto x\n# update-alternatives --install $a b /c 1\n", ""},
		{"update-alternatives --install /a b /c -5\n", "b /a=/c -5"},
		{"update-alternatives --install /usr/bin/$x x /usr/bin/x1 10\n", "error: it has variables"},
		{"for i in a b; do update-alternatives --install /usr/bin/x x `which x` 10; done\n", "error: "},
		{"update-alternatives --install /usr/bin/x x /usr/bin/x1 ten\n", `error: "ten" is not a priority`},
		{"update-alternatives --install /usr/bin/x x /usr/bin/x1\n", "error: an argument is missing"},
		{"update-alternatives --install ../x x /usr/bin/x1 1\n", `error: "../x" is not a link`},
		{"update-alternatives --install /x ../x /usr/bin/x1 1\n", `error: "/x" is not a link`},
		{"update-alternatives --install /x/../y x /usr/bin/x1 1\n", `error: "/x/../y" is not a link`},
		{"echo 'it is not closed\nupdate-alternatives --install \"/x x /y 1\n", "error: a quote is not closed"},
		{"echo \"don't\"; echo it's\n", ""},
	} {
		list, err := Alternatives(c.script)
		var texts []string
		for _, a := range list {
			text := fmt.Sprintf("%s %s=%s %d", a.Name, a.Link, a.Path, a.Priority)
			for _, s := range a.Slaves {
				text += fmt.Sprintf(" %s=%s", s.Name, s.Path)
			}
			texts = append(texts, text)
		}
		got := strings.Join(texts, "; ")
		if err != nil {
			got = "error: " + err.Error()
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%q: %s, want %s", c.script, got, c.want)
		}
	}
}

// A script without a rule is an error that shows it.
func TestCheckScripts(t *testing.T) {
	d := &Deb{Scripts: map[string]string{"postinst": "#!/bin/sh\necho \x1b[31mred\n" + strings.Repeat("true\n", 100)}}
	err := d.CheckScripts("app", map[string]string{"other": "ignore"})
	if err == nil || !strings.HasPrefix(err.Error(), "package app has a script postinst, which is not run:\n    #!/bin/sh\n    echo ") ||
		strings.Contains(err.Error(), "\x1b") || !strings.HasSuffix(err.Error(), "    … and 42 more lines") {
		t.Errorf("%v", err)
	}
	if err := d.CheckScripts("app", map[string]string{"app": "ignore"}); err != nil {
		t.Error(err)
	}
}
