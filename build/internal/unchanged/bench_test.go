//go:build unix

package unchanged

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// BenchmarkKey finds the key of a program: of one in a module with 71 packages of 8 files each, and
// of the main package in the directory that MABUILD_SOURCES names, which is copied. The goals are
// 200 ms, and 30 ms for node_exporter.
func BenchmarkKey(b *testing.B) {
	key := func(b *testing.B, dir string) {
		b.Helper()
		s := &Store{Go: &crosscompile.Go{}}
		var found *Sources
		for b.Loop() {
			var err error
			if found, err = s.Sources(dir, ".", nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(found.Files)), "files")
		b.ReportMetric(float64(len(found.Packages)), "packages")
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/key")
	}
	b.Run("71 packages", func(b *testing.B) {
		const packages, files, functions = 71, 8, 60
		dir := b.TempDir()
		content := map[string]string{"go.mod": "module example.com/large\n\ngo 1.26\n"}
		main := "package main\n\nimport (\n"
		for i := range packages - 1 {
			main += fmt.Sprintf("\t_ \"example.com/large/p%d\"\n", i)
			for j := range files {
				text := fmt.Sprintf("package p%d\n\nimport \"fmt\"\n", i)
				for k := range functions {
					text += fmt.Sprintf("\n// F%d%d is a function.\nfunc F%d%d() { fmt.Println(%q) }\n", j, k, j, k, strings.Repeat("text ", 8))
				}
				content[fmt.Sprintf("p%d/f%d.go", i, j)] = text
			}
		}
		content["main.go"] = main + ")\n\nfunc main() {}\n"
		put(b, dir, content)
		key(b, dir)
	})
	if from := os.Getenv("MABUILD_SOURCES"); from != "" {
		b.Run("MABUILD_SOURCES", func(b *testing.B) {
			dir := b.TempDir()
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				b.Fatal(err)
			}
			key(b, dir)
		})
	}
}
