package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mabuild/mabuild/internal/config"
)

// setting is where the examples run: a module with the programs they name, in a
// repository with a tag, and a base.
const setting = `exec cp -r $SOURCE/testdata/docs/. .
exec cp $SOURCE/testdata/keys/cosign.key $SOURCE/testdata/keys/cosign.pub .
env COSIGN_PASSWORD=pw
exec git init -q
exec git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m one
exec git tag v1.2.3
registry REG
base $REG/acme/base:v1 linux/amd64 linux/arm64 linux/arm/v7
base $REG/acme/web:v1 linux/amd64 linux/arm64
image $REG/acme/exporter:v1 linux/amd64
image $REG/acme/my-app-amd64:v1.0.0 linux/amd64
image $REG/acme/my-app-arm:v1.0.0 linux/arm
image $REG/acme/my-app-arm64:v1.0.0 linux/arm64
image $REG/acme/my-app-s390x:v1.0.0 linux/s390x
image $REG/acme/my-app-windows:v1.0.0 windows/amd64
`

// TestDocs runs every example of the documentation: the blocks marked sh and yaml of
// README.md and docs/, in their order. A yaml block is .mabuild.yaml for the following
// blocks, or the file that its first line names. A registry of the test replaces ghcr.io.
func TestDocs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts, ran := t.TempDir(), 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := examples(string(text))
		ran += len(blocks)
		script, contents := setting, ""
		for i, b := range blocks {
			name := fmt.Sprintf("example%d.%s", i, b.language)
			switch b.language {
			case "sh":
				script += "exec sh -eu " + name + "\n"
			case "yaml":
				script += fmt.Sprintf("expand %s\ncp %[1]s %s\n", name, fileOf(b.text))
			}
			contents += fmt.Sprintf("-- %s --\n%s", name, strings.ReplaceAll(b.text, "ghcr.io/", "$REG/"))
		}
		out := filepath.Join(scripts, strings.TrimSuffix(filepath.Base(file), ".md")+".txtar")
		if err := os.WriteFile(out, []byte(script+contents), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ran < 8 {
		t.Errorf("only %d examples were found", ran)
	}
	testscript.Run(t, params(t, scripts))
}

// fileOf returns what the YAML of an example is called.
func fileOf(text string) string {
	if m := regexp.MustCompile(`^# (\S+\.yaml)\n`).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return config.FileName
}

type example struct{ language, text string }

// examples returns the blocks of a Markdown text that have a language.
func examples(text string) []example {
	var list []example
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		list = append(list, example{m[1], m[2]})
	}
	return list
}
