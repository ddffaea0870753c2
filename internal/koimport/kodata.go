package koimport

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"
)

// ko copies the directory kodata of a program to this one, and names it in KO_DATA_PATH.
const (
	dataDir   = "kodata"
	dataPlace = "/var/run/ko"
)

// data writes the files and the variable of the program main, in the module dir, if it has
// a directory kodata. n is its build in the file of ko, or nil.
func (k *conversion) data(w *writer, n *yaml.Node, dir, main string) {
	from := path.Join(main, dataDir)
	if info, err := os.Stat(filepath.Join(k.dir, filepath.FromSlash(dir), filepath.FromSlash(from))); err != nil || !info.IsDir() {
		return
	}
	if n != nil && !filepath.IsLocal(filepath.FromSlash(from)) {
		k.comment(w, n, dataDir, from+" is outside the build's directory")
		return
	}
	w.line("files: [{from: " + quoted(from) + ", to: " + quoted(dataPlace) + "}]")
	w.line("image: {env: [" + quoted("KO_DATA_PATH="+dataPlace) + "]}")
}

// packageDir returns the directory of an import path below that of the file. It is false
// if the path is of another module.
func (k *conversion) packageDir(importPath string) (string, bool) {
	content, err := os.ReadFile(filepath.Join(k.dir, "go.mod"))
	if err != nil {
		return "", false
	}
	rest, ok := strings.CutPrefix(importPath, modfile.ModulePath(content))
	if rest = strings.TrimPrefix(rest, "/"); rest == "" {
		rest = "."
	}
	return path.Clean(rest), ok && filepath.IsLocal(rest)
}

// withData returns the directories of the module's programs that have kodata. ko needs no
// build for a program, so the file may not name it.
func (k *conversion) withData() (list []string) {
	if _, err := os.Stat(filepath.Join(k.dir, "go.mod")); err != nil {
		return nil
	}
	_ = filepath.WalkDir(k.dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil { // cannot be read: ko would not find a program either
			return fs.SkipDir
		}
		if d.Name() == dataDir && isProgram(filepath.Dir(at)) {
			if dir, err := filepath.Rel(k.dir, filepath.Dir(at)); err == nil {
				list = append(list, filepath.ToSlash(dir))
			}
		}
		if !d.IsDir() || at == k.dir {
			return nil
		}
		_, other := os.Stat(filepath.Join(at, "go.mod"))
		if other == nil || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") ||
			slices.Contains([]string{dataDir, "vendor", "testdata", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		return nil
	})
	return list
}

// isProgram reports whether a directory has a Go file of package main.
func isProgram(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(d fs.DirEntry) bool {
		if !d.Type().IsRegular() || !strings.HasSuffix(d.Name(), ".go") || strings.HasSuffix(d.Name(), "_test.go") {
			return false
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, d.Name()), nil, parser.PackageClauseOnly)
		return err == nil && file.Name.Name == "main"
	})
}
