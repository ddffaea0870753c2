package regtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Lay creates files below dir, by their names with slashes. Content with the prefix "-> "
// creates a symbolic link to the rest.
func Lay(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, link := strings.CutPrefix(content, "-> "); link && err == nil {
			err = os.Symlink(to, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
