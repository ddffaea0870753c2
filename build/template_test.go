package build

import (
	"errors"
	"strings"
	"testing"
)

// The value that replaces a template in a flag cannot end the word it is in.
func TestTemplatesOfFlags(t *testing.T) {
	for _, test := range []struct{ text, branch, want string }{
		{"-X main.v={{.Branch}}", "feature/login", "-X main.v=feature/login"},
		{"-X 'main.v={{.Branch}}'", "v1.2+x@y", "-X 'main.v=v1.2+x@y'"},
		{"-X 'main.v={{slug .Branch}}'", "x''--linkmode=external''", "-X 'main.v=x-linkmode-external'"},
		{"-X 'main.v={{tag .Branch}}'", "a'-fipso=f'", "-X 'main.v=a--fipso-f-'"},
		{"-X 'main.v={{.Branch}}'", "x''--linkmode=external''-extld=/tmp/evil", ""},
		{"-X 'main.v={{.Branch}}'", "a'-fipso=f'", ""},
		{`-X "main.v={{.Branch}}"`, `a"-o=x`, ""},
		{"{{.Branch}}", "-fipso=f", ""},
		{"-X main.v={{.Branch}}", "a b", ""},
		{"-X main.v={{.Branch}}", "a`b", ""},
		{`-X main.v={{"x -extld=./evil"}}`, "x", ""},
		{`{{"-fipso=x"}}=-s`, "x", ""},
		{"-X main.v={{`x -o y`}}", "x", ""},
		{`-X main.v={{slug "x"}}`, "x", ""},
		{"-X main.v={{/* no */}}{{.Branch}}", "x", "-X main.v=x"},
	} {
		for _, c := range []Compile{{Ldflags: []string{test.text}}, {Env: []string{test.text}}} {
			got, err := c.expand(Vars{Branch: test.branch})
			text := strings.Join(append(got.Ldflags, got.Env...), " ")
			var se *SpecError
			if test.want == "" && !errors.As(err, &se) || test.want != "" && (err != nil || text != test.want) {
				t.Errorf("%s of %s: %q, %v, want %q", test.text, test.branch, text, err, test.want)
			}
		}
	}
}

// Templates read the variables in Env. The reason of another value does not explain a
// variable that is missing.
func TestTemplatesReadEnv(t *testing.T) {
	v := Vars{Env: map[string]string{"A": "1", "EMPTY": ""}, Why: map[string]error{"": errors.New("no git"), "Env.B": errors.New("not allowed")}}
	for text, want := range map[string]string{
		"{{.Env.A}}-{{slug .Env.A}}": "1-1",
		"{{.Env.B}}":                 `template: "{{.Env.B}}": not allowed`,
		"{{.Env.EMPTY}}":             `template: "{{.Env.EMPTY}}": .Env.EMPTY is empty`,
		"{{.Env}}":                   `template: "{{.Env}}" is not a valid template: it can only contain values`,
		"{{.Env.A.B}}":               `template: "{{.Env.A.B}}" is not a valid template: it can only contain values`,
		"{{.Tag.A}}":                 `template: "{{.Tag.A}}" is not a valid template: it can only contain values`,
	} {
		got, err := v.Expand(text)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
