package plan

import (
	"testing"

	"github.com/mabuild/mabuild/internal/config"
)

// The name of a program is that of its file, as far as no template is in it.
func TestPrebuiltName(t *testing.T) {
	for path, want := range map[string]string{
		"dist/{{.OS}}_{{.Arch}}/app": "app", `dist\{{.OS}}\app.exe`: "app", "app-{{.OS}}": "app", "app_{{.Version}}_{{.OS}}.exe": "app",
		"{{.OS}}/{{.Arch}}": "", "dist/": "", "a.b": "a.b", "app.tar.gz": "app", "app-{{.OS}}.zip": "app",
	} {
		if got := prebuiltName(config.Prebuilt{Path: path}); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for program, want := range map[string]string{"*/app": "app", "bin/app.exe": "app", "*/app-*": ""} {
		if got := prebuiltName(config.Prebuilt{Path: "all.tar", Program: program}); got != want {
			t.Errorf("%s: %q, want %q", program, got, want)
		}
	}
}
